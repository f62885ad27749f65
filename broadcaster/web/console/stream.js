/**
 * One stream as this browser receives it: a native EventSource, whose own `Last-Event-ID` resumes after a break; where
 * the server wants a key, our own one, which follows the same rules (event_source.js).
 *
 * The browser reconnects by itself after a lost connection, as soon as the server's `retry` says. It gives up for good
 * on an answer that is no event stream (a proxy's 502, say): then we look why, and open a new one after the last cursor.
 *
 * States told to `onState`, with what they carry:
 *   connecting               no answer yet
 *   catching-up              answered; the past is arriving
 *   live                     all there was has arrived
 *   stalled {reason}         connected, but the server says that nothing can come now
 *   reconnecting {since}     the browser is at it; `since` is when the connection was lost (ms, performance.now)
 *   waiting {until}          we try again then
 *   gone                     there is no such stream
 *   locked                   the server wants a key first
 *   closed {reason}          the server asked not to come back
 *   ended                    the terminal event is here
 *   paused                   nobody looks at this page
 */

import { eventsUrl, getStream } from "./api.js";
import { openEvents } from "./event_source.js";
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

  /** The connection broke: the browser comes back by itself, unless it has given up. */
  lose(source) {
    if (source !== this.source) return;
    if (source.readyState !== EventSource.CLOSED) {
      const since = this.state.name === "reconnecting" ? this.state.since : performance.now();
      this.become({ name: "reconnecting", since });
      return;
    }
    this.source = null;
    this.tryAgain();
  }

  async tryAgain() {
    const waitMs = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** this.failures) * (1 + Math.random() / 2);
    this.failures += 1;
    this.become({ name: "waiting", until: performance.now() + waitMs });
    this.timer = setTimeout(() => this.open(), waitMs);
    const problem = await getStream(this.id).then(() => null, (error) => error);
    if (this.state.name !== "waiting") return;
    if (problem?.code === "unknown_stream") this.end({ name: "gone" });
    if (problem?.status === 401) this.end({ name: "locked" });
  }

  /** Let go of the connection while nobody looks; `resume` goes on after the last cursor. */
  pause() {
    if (this.source !== null || this.timer !== null) this.end({ name: "paused" });
  }

  resume() {
    if (this.state.name === "paused") this.open();
  }

  /** There is a key now. */
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
