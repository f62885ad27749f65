/**
 * One stream as this page shows it: a watch of the client, which resumes by itself, and what the page must know beside it.
 *
 * States passed to `onState`, with their fields:
 *   connecting               no response yet
 *   catching-up              connected; past events are arriving
 *   live                     all past events have arrived
 *   stalled {reason}         connected, but the server reports that no event can arrive now
 *   reconnecting {since}     the connection was lost then (ms, performance.now), and another one is tried
 *   awaited                  there is no such stream yet; the page waits for it
 *   gone                     there is no such stream
 *   locked                   the server requires a key first
 *   closed {reason}          the server ended it for good
 *   ended                    the terminal event has arrived
 *   paused                   the page is hidden
 */

import { streamPath } from "./client/server.js";
import { watch } from "./client/watch.js";
import { isGuest, keyHeaders, noteRefusal, sentKey } from "./key.js";

/** Whether a stream is a generation's: no other id begins so. */
export const isGeneration = (id) => id.startsWith("gen_");

// Shorter than the time after which `watch` takes a response without a head for one that a proxy holds back.
const WAIT_S = 5;
const RECHECK_MS = 1000;

/** Functions that are called with each stream and each of its updates. */
export const observers = new Set();

export class Stream {
  constructor(id, { onState, onChange }) {
    this.id = id;
    // A generation's link is known after its creation: one that is missing has expired. A feed may be created later.
    this.mayComeLater = !isGeneration(id);
    this.newsAt = 0; // of the last event, performance.now()
    this.notices = []; // {kind, from, to}
    this.attemptReason = null; // why the newest attempt began, where it is not the first
    this.revision = 0; // rises when earlier contents are void: a view must redraw
    this.state = { name: "connecting" };
    this.onState = onState;
    this.onChange = onChange;
    this.updates = null;
    this.sent = {};
    const events = `${streamPath(id)}/events?wait_s=${WAIT_S}`;
    this.watch = watch(this.mayComeLater ? events : id, { token: isGuest() ? sentKey() : () => this.key() });
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

  /** Whether the terminal event has arrived. */
  get isAtEnd() {
    return this.watch.isOver;
  }

  /** The key that the next connection sends. */
  key() {
    this.sent = keyHeaders();
    return sentKey();
  }

  async open() {
    const updates = this.watch[Symbol.asyncIterator]();
    this.updates = updates;
    if (this.state.name !== "awaited") this.become({ name: "connecting" });
    const failure = await this.follow(updates).then(() => null, (error) => error);
    if (this.updates !== updates) return;
    this.updates = null;
    this.become(failure === null ? { name: "ended" } : this.refused(failure));
    if (this.state.name === "awaited") setTimeout(() => this.recheck(), RECHECK_MS);
  }

  recheck() {
    if (this.state.name === "awaited" && !this.isOpen) this.open();
  }

  async follow(updates) {
    for await (const update of updates) {
      if (this.updates !== updates) return;
      if (update.kind === "connection") this.become(this.connection(update));
      if (update.kind === "gap") this.note(update);
      if (update.kind === "entry" || update.name === "live") this.newsAt = performance.now();
      if (update.event?.type === "attempt") this.noteAttempt(update.event);
      for (const observe of observers) observe(this, update);
      if (update.kind !== "notice") this.onChange();
    }
  }

  connection({ name, reason }) {
    if (name === "connecting" && this.state.name === "awaited") return this.state;
    if (name === "stalled") return { name, reason };
    if (name !== "reconnecting") return { name };
    return { name, since: this.state.name === name ? this.state.since : performance.now() };
  }

  noteAttempt({ reason = "worker_lost" }) {
    this.attemptReason = reason;
    this.notices = []; // they are about earlier contents, which are void
    this.revision += 1;
  }

  note({ reason, from, to }) {
    if (reason === "rewound" || reason === "reset") this.revision += 1;
    this.notices.push({ kind: reason, from, to });
  }

  /** The state after a failure that ends the watch. */
  refused({ code, status = null, message }) {
    if (code === "unknown_stream") return { name: this.mayComeLater && this.seq === 0 ? "awaited" : "gone" };
    if (status !== 401 || isGuest()) return { name: "closed", reason: code ?? message };
    noteRefusal(this.sent);
    return { name: "locked" };
  }

  /** The API has no such stream. Its events may still be waited for, with a request that the server holds open. */
  noteMissing() {
    if (!this.mayComeLater || this.seq > 0) this.end({ name: "gone" });
    else if (this.state.name === "connecting") this.become({ name: "awaited" });
  }

  /** Close the connection while the page is hidden; `resume` continues after the last cursor. */
  pause() {
    if (this.isOpen || this.state.name === "awaited") this.end({ name: "paused" });
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
