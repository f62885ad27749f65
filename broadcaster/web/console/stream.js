/**
 * One stream as this page shows it: a watch of the client, which resumes by itself, and what the page must know beside it.
 *
 * States passed to `onState`, with their fields:
 *   connecting               no response yet
 *   catching-up              connected; past events are arriving
 *   live                     all past events have arrived
 *   stalled {reason}         connected, but the server reports that no event can arrive now
 *   reconnecting {since}     the connection was lost then (ms, performance.now), and another one is tried
 *   gone                     there is no such stream
 *   locked                   the server requires a key first
 *   closed {reason}          the server ended it for good
 *   ended                    the terminal event has arrived
 *   paused                   the page is hidden
 */

import { watch } from "./client/watch.js";
import { isGuest, keyHeaders, noteRefusal, sentKey } from "./key.js";

export class Stream {
  constructor(id, { onState, onChange }) {
    this.id = id;
    this.notices = []; // {kind, from, to}
    this.revision = 0; // rises when earlier contents are void: a view must redraw
    this.state = { name: "connecting" };
    this.onState = onState;
    this.onChange = onChange;
    this.updates = null;
    this.sent = {};
    this.watch = watch(id, { token: isGuest() ? sentKey() : () => this.key() });
  }

  /** What the events so far amount to. */
  get folded() {
    return this.watch.state;
  }

  get seq() {
    return Number(this.watch.cursor?.split("-")[1] ?? 0);
  }

  get isOpen() {
    return this.updates !== null;
  }

  /** The key that the next connection sends. */
  key() {
    this.sent = keyHeaders();
    return sentKey();
  }

  async open() {
    const updates = this.watch[Symbol.asyncIterator]();
    this.updates = updates;
    this.become({ name: "connecting" });
    const failure = await this.follow(updates).then(() => null, (error) => error);
    if (this.updates !== updates) return;
    this.updates = null;
    this.become(failure === null ? { name: "ended" } : this.refused(failure));
  }

  async follow(updates) {
    for await (const update of updates) {
      if (this.updates !== updates) return;
      if (update.kind === "connection") this.become(this.connection(update));
      if (update.kind === "gap") this.note(update);
      if (update.event?.type === "attempt") this.revision += 1;
      if (update.kind !== "notice") this.onChange();
    }
  }

  connection({ name, reason }) {
    if (name === "stalled") return { name, reason };
    if (name !== "reconnecting") return { name };
    return { name, since: this.state.name === name ? this.state.since : performance.now() };
  }

  note({ reason, from, to }) {
    if (reason === "rewound" || reason === "reset") this.revision += 1;
    this.notices.push({ kind: reason, from, to });
  }

  /** The state after a failure that ends the watch. */
  refused({ code, status = null, message }) {
    if (code === "unknown_stream") return { name: "gone" };
    if (status !== 401 || isGuest()) return { name: "closed", reason: code ?? message };
    noteRefusal(this.sent);
    return { name: "locked" };
  }

  /** Close the connection while the page is hidden; `resume` continues after the last cursor. */
  pause() {
    if (this.isOpen) this.end({ name: "paused" });
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
    this.updates?.return();
    this.updates = null;
    this.become(state);
  }

  become(state) {
    this.state = state;
    this.onState(state);
  }
}
