/**
 * What stands beside the answer: the list of streams, the link to share, and the dialog for a key where the server
 * requires one.
 * Each generation in the list is a link, so that a middle click opens it in another tab.
 */

import { BroadcasterError } from "./client/errors.js";
import { createToken, isSuperseded, revokeToken, tryKey } from "./api.js";
import { hasKey, isGuest, isKey, keepKey, onRefused } from "./key.js";
import { byId, element, place, setText, show } from "./dom.js";
import { Eta, leftText } from "./render/eta.js";
import { MAX_LABEL_CHARS, cut } from "./render/lengths.js";
import { stepOf } from "./render/reports.js";
import { serverNow } from "./server_clock.js";
import { ago, isOver, statusText, viewersText } from "./texts.js";

export class KeyDialog {
  /** `onEnter` is called with the caller once the server has accepted a key. */
  constructor(onEnter) {
    this.onEnter = onEnter;
    this.root = byId("key-dialog");
    this.isTrying = false;
    byId("key-dialog-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    onRefused(() => this.openDialog());
  }

  get isOpen() {
    return this.root.open;
  }

  /** Whether the server has refused the key, and no other one was entered. */
  get isSignedOut() {
    return !isGuest() && !byId("signed-out").hidden;
  }

  /** Whether a call failed without a key, or with an earlier one: nothing else reports it. */
  handles(problem) {
    return isSuperseded(problem) || (problem.status === 401 && !isGuest());
  }

  openDialog() {
    show(byId("signed-out"), true);
    if (!this.isOpen) this.root.showModal();
  }

  async submit() {
    const key = byId("key").value.trim();
    if (this.isTrying) return;
    if (!isKey(key)) {
      this.report("A key consists of plain letters, digits and signs, without spaces.");
      return;
    }
    this.isTrying = true;
    let caller;
    try {
      caller = await tryKey(key);
    } catch (problem) {
      if (!(problem instanceof BroadcasterError)) throw problem;
      this.report(problem.status === 401 ? "The server does not accept this key." : problem.message);
      byId("key").select();
      return;
    } finally {
      this.isTrying = false;
    }
    keepKey(key);
    byId("key").value = "";
    this.report("");
    this.root.close();
    show(byId("signed-out"), false);
    this.onEnter(caller);
  }

  report(sentence) {
    byId("key-dialog-fault").textContent = sentence;
    show(byId("key-dialog-fault"), sentence !== "");
  }
}

/**
 * The link that "Copy link" makes. Where the server requires keys it carries a viewer token, which may only watch this one
 * stream, expires, and can be revoked here. The ids of the tokens are kept in this tab, the tokens are not.
 */
export class ShareLink {
  constructor() {
    this.made = new Map();
  }

  /** The link, and a sentence about it. Fails with a BroadcasterError. */
  async create(id) {
    const plain = `${location.origin}${location.pathname}#${id}`;
    if (isGuest()) return { link: location.href, sentence: "Copied" };
    if (!hasKey()) return { link: plain, sentence: "Copied" };
    try {
      const { token, jti, expires_at: expiresAt } = await createToken(id);
      this.made.set(id, [...(this.made.get(id) ?? []), jti]);
      const time = new Date(expiresAt * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
      return { link: `${plain}&token=${token}`, sentence: `Copied: read-only, until ${time}` };
    } catch (problem) {
      if (problem.code !== "tokens_off") throw problem;
      return { link: plain, sentence: "Copied: needs a key" };
    }
  }

  canRevoke(id) {
    return this.made.has(id);
  }

  /** Every link of this stream that this page has made ends. Fails with a BroadcasterError. */
  async revoke(id) {
    for (const jti of this.made.get(id) ?? []) await revokeToken(jti);
    this.made.delete(id);
  }
}

/** What runs on the server, and what this browser has seen of it lately. */
export class StreamList {
  constructor() {
    this.root = byId("generations");
    this.rows = new Map();
  }

  draw(streams, selectedId) {
    const now = serverNow();
    const rows = new Map();
    for (const stream of streams) {
      const row = this.rows.get(stream.id) ?? new Row(stream.id);
      row.update(stream, { isSelected: stream.id === selectedId, now });
      rows.set(stream.id, row);
    }
    this.rows = rows;
    place(this.root, [...rows.values()].map((row) => row.root));
    show(byId("streams-section"), rows.size > 0);
  }
}

class Row {
  constructor(id) {
    this.title = element("span", { class: "row-title" });
    this.detail = element("span", { class: "row-detail" });
    // The detail says the same in words.
    this.bar = element("progress", { class: "step-bar row-bar", "aria-hidden": "true" });
    const dot = element("span", { class: "dot", "aria-hidden": "true" });
    this.link = element("a", { class: "row", href: `#${id}` }, dot, this.title, this.detail, this.bar);
    this.root = element("li", {}, this.link);
    this.progress = new ListedProgress();
  }

  update(stream, { isSelected, now }) {
    const { id, status, title } = stream;
    this.progress.note(stream, { at: performance.now(), now });
    setText(this.title, title || id);
    setText(this.detail, this.facts(stream, now).join(" · "));
    this.detail.title = this.detail.textContent;
    const { step } = this.progress;
    show(this.bar, step !== null);
    if (step !== null) {
      this.bar.max = step.total;
      this.bar.value = Math.min(step.done, step.total);
    }
    this.link.dataset.status = status;
    if (isSelected) this.link.setAttribute("aria-current", "page");
    else this.link.removeAttribute("aria-current");
  }

  facts({ kind, status, created_at: createdAt, active_at: activeAt, viewers }, now) {
    const watching = !isOver(status) && viewers > 0 ? [viewersText(viewers)] : [];
    const texts = this.progress.texts(performance.now());
    if (texts !== null) return [...texts, ...watching];
    const time = isOver(status) ? `${ago(activeAt ?? createdAt, now)} ago` : ago(createdAt, now);
    return [...(kind === "feed" ? ["job"] : []), statusText(status), ...watching, time];
  }
}

// A job that reports more rarely may still be well; the reader should know.
const SILENT_S = 60;

/** The progress of one job as the lists that were read since report it. */
class ListedProgress {
  constructor() {
    this.eta = new Eta();
    this.step = null;
    this.job = null;
    this.activeAt = null;
    this.activeMs = null; // when the feed's newest event came, performance.now()
    this.notedMs = -Infinity;
  }

  /**
   * `at` is performance.now(), `now` the server's time. A report that has left the end of the feed's log counts until there
   * is another one.
   */
  note({ status, progress, active_at: activeAt }, { at, now }) {
    this.noteActivity(activeAt, { at, now });
    if (isOver(status)) this.step = null;
    const step = isOver(status) ? null : stepOf(progress);
    if (step === null || (step.done === this.step?.done && step.total === this.step.total && progress.job === this.job)) return;
    if (progress.job !== this.job) this.eta = new Eta();
    this.job = progress.job;
    this.step = step;
    this.eta.note(step, at);
  }

  /** What is new came after the list before: then it is not older than that, whatever the clocks show. */
  noteActivity(activeAt, { at, now }) {
    if (typeof activeAt === "number" && activeAt !== this.activeAt) {
      this.activeMs = Math.max(at - Math.max(0, now - activeAt) * 1000, this.notedMs);
      this.activeAt = activeAt;
    }
    this.notedMs = at;
  }

  /** null: no progress is known. */
  texts(at) {
    if (this.step === null) return null;
    const silentS = this.activeMs === null ? 0 : (at - this.activeMs) / 1000;
    const { percent, message } = this.step;
    const left = silentS > SILENT_S ? `no report for ${ago(0, silentS)}` : leftText(this.eta.secondsLeft(at));
    return [`${percent}%`, left, cut(message || this.job, MAX_LABEL_CHARS)].filter((text) => text !== "");
  }
}
