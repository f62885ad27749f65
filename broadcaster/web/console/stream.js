/**
 * One stream as this browser receives it: a native EventSource, whose own `Last-Event-ID` resumes after a break; where
 * the server requires a key, our own, which follows the same rules (event_source.js).
 *
 * The browser reconnects by itself after a lost connection, after the server's `retry`. It gives up for good on a
 * response that is not an event stream (a proxy's 502, say): then we check why, and open a new one after the last cursor.
 *
 * States passed to `onState`, with their fields:
 *   connecting               no response yet
 *   catching-up              connected; past events are arriving
 *   live                     all past events have arrived
 *   stalled {reason}         connected, but the server reports that no event can arrive now
 *   reconnecting {since}     the browser reconnects; `since` is when the connection was lost (ms, performance.now)
 *   waiting {until}          the page reconnects then
 *   gone                     there is no such stream
 *   locked                   the server requires a key first
 *   closed {reason}          the server ended it for good
 *   ended                    the terminal event has arrived
 *   paused                   the page is hidden
 */

import { eventsUrl, getStream } from "./api.js";
import { openEvents } from "./event_source.js";
import { isGuest } from "./key.js";
import { Transcript, isTerminal } from "./transcript.js";

const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 15000;

export class Stream {
  constructor(id, { onState, onChange }) {
    this.id = id;
    this.transcript = new Transcript();
    this.state = { name: "connecting" };
    this.onState = onState;
    this.onChange = onChange;
    this.source = null;
    this.timer = null;
    this.failures = 0;
  }

  open() {
    this.timer = null;
    const source = openEvents(eventsUrl(this.id, this.transcript.lastId));
    this.source = source;
    this.become({ name: "connecting" });
    source.onopen = () => this.become({ name: "catching-up" });
    source.onmessage = (message) => this.receive(message);
    source.onerror = () => this.lose(source);
    source.addEventListener("hub.live", () => this.goLive());
    source.addEventListener("hub.gap", (message) => {
      this.transcript.gap(message.lastEventId, JSON.parse(message.data));
      this.onChange();
    });
    source.addEventListener("hub.stalled", (message) => {
      const { reason } = JSON.parse(message.data);
      this.become(reason === null ? { name: "live" } : { name: "stalled", reason });
    });
    source.addEventListener("hub.bye", (message) => {
      const { reason, reconnect } = JSON.parse(message.data);
      if (!reconnect) this.end({ name: "closed", reason });
    });
  }

  receive(message) {
    const event = JSON.parse(message.data);
    if (this.transcript.enter(message.lastEventId, event)) this.onChange();
    if (isTerminal(event)) this.end({ name: "ended" });
  }

  goLive() {
    this.failures = 0;
    this.become({ name: "live" });
  }

  /** The connection broke: the browser reconnects by itself, unless it has given up. */
  lose(source) {
    if (source !== this.source) return;
    if (source.readyState !== EventSource.CLOSED) {
      const since = this.state.name === "reconnecting" ? this.state.since : performance.now();
      this.become({ name: "reconnecting", since });
      return;
    }
    this.source = null;
    this.retry();
  }

  async retry() {
    const waitMs = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** this.failures) * (1 + Math.random() / 2);
    this.failures += 1;
    this.become({ name: "waiting", until: performance.now() + waitMs });
    this.timer = setTimeout(() => this.open(), waitMs);
    const problem = await getStream(this.id).then(() => null, (error) => error);
    if (this.state.name !== "waiting") return;
    if (problem?.code === "unknown_stream") this.end({ name: "gone" });
    if (isGuest() && [401, 403].includes(problem?.status)) this.end({ name: "closed", reason: problem.code });
    else if (problem?.status === 401) this.end({ name: "locked" });
  }

  /** Close the connection while the page is hidden; `resume` continues after the last cursor. */
  pause() {
    if (this.source !== null || this.timer !== null) this.end({ name: "paused" });
  }

  resume() {
    if (this.state.name === "paused") this.open();
  }

  /** A key has been entered. */
  unlock() {
    if (this.state.name === "locked") this.open();
  }

  close() {
    this.end({ name: "closed", reason: "left" });
  }

  end(state) {
    clearTimeout(this.timer);
    this.timer = null;
    this.source?.close();
    this.source = null;
    this.become(state);
  }

  become(state) {
    this.state = state;
    this.onState(state);
  }
}
