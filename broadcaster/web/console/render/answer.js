/**
 * One answer, or one feed, on the page: the parts of a folded state (clients/js/src/fold.js) in their order.
 *
 * Rules
 * 1. A part that has not changed is not touched, and a block of text that is whole keeps its nodes.
 * 2. A new attempt dims what the last one brought; its first content replaces that.
 * 3. Parts of a job that have no id and tell its state now (progress, status) share one place; log lines that follow each
 *    other share one log.
 * 4. Of parts beyond a number the newest of each kind are on the page (crowd.js).
 */

import { element, setText, show } from "../dom.js";
import { attemptSentence } from "../texts.js";
import { Crowds } from "./crowd.js";
import { ReasoningView, ToolView } from "./folded.js";
import { DataPart, LinkPart, LinksPart, LogView, ProgressView, StatusView } from "./feeds.js";
import { MarkdownView } from "./markdown/view.js";

const TICK_MS = 1000;

class TextPart {
  constructor() {
    this.node = element("div", { class: "text" });
    this.markdown = new MarkdownView(this.node);
  }

  update(part, { isOpen }) {
    const isOver = !isOpen || part.state === "done";
    this.node.classList.toggle("is-streaming", !isOver);
    this.markdown.update(part.text, { isOver });
  }

  close() {
    this.markdown.close();
  }
}

const VIEWS = {
  text: TextPart,
  reasoning: ReasoningView,
  tool: ToolView,
  "source-url": LinkPart,
  "source-document": LinkPart,
  file: LinkPart,
  "data-progress": ProgressView,
  "data-status": StatusView,
  "data-dropped": StatusView,
  "data-link": LinkPart,
  "data-links": LinksPart,
};
const SHARED = new Set(["data-progress", "data-status"]);
const OVER = new Set(["finished", "failed", "aborted"]);

export class AnswerView {
  #slots = []; // what draws parts[index]: {view, part}
  #shared = new Map();
  #ticking = new Set();
  #log = null; // the slot of the newest log
  #crowds = new Crowds();
  #attempt = null;
  #revision = null;
  #isOpen = false;
  #isStale = false;
  #timer = null;

  constructor(root) {
    this.note = element("p", { class: "attempt-note", role: "status", "data-testid": "attempt-note", hidden: "" });
    this.content = element("div", { class: "answer", "data-testid": "answer" });
    root.append(this.note, this.content);
  }

  /**
   * Draw the state. `revision` is another number when earlier contents are void although the attempt is the same;
   * `attemptReason`: why the attempt began; `isLive`: the events come as they happen, so that their times mean
   * something.
   */
  update(folded, { revision = 0, attemptReason = null, isLive = false } = {}) {
    const { parts, attempt, status } = folded;
    const isOpen = !OVER.has(status);
    this.#begin({ attempt, revision, attemptReason });
    if (this.#isStale && (!isOpen || parts.some(hasContent))) this.clear();
    this.content.setAttribute("aria-busy", String(isOpen));
    if (!this.#isStale) this.#drawParts(parts, { isOpen, isLive, now: performance.now() });
    this.#isOpen = isOpen;
    this.#keepTicking();
  }

  /** Take everything away. */
  clear() {
    this.#leave();
    this.#isStale = false;
    this.content.classList.remove("is-stale");
    this.content.replaceChildren();
  }

  /** Draw no more. */
  close() {
    this.#leave();
    clearInterval(this.#timer);
    this.#timer = null;
  }

  #leave() {
    for (const slot of this.#slots) slot.view?.close?.();
    this.#slots = [];
    this.#shared.clear();
    this.#ticking.clear();
    this.#log = null;
    this.#crowds = new Crowds();
  }

  /** Rule 2. */
  #begin({ attempt, revision, attemptReason }) {
    const isAnother = this.#attempt !== null && (attempt !== this.#attempt || revision !== this.#revision);
    if (isAnother && attempt > this.#attempt && this.content.hasChildNodes()) {
      this.#leave();
      this.#isStale = true;
      this.content.classList.add("is-stale");
    } else if (isAnother) {
      this.clear();
    }
    this.#attempt = attempt;
    this.#revision = revision;
    setText(this.note, attemptSentence(attempt, attemptReason));
    show(this.note, attempt > 1);
  }

  #drawParts(parts, clock) {
    const isChanged = clock.isOpen !== this.#isOpen;
    for (const [index, part] of parts.entries()) {
      const slot = (this.#slots[index] ??= this.#slotOf(part));
      if (slot.part === part && !isChanged) continue;
      slot.part = part;
      slot.view?.update?.(part, clock);
    }
  }

  /** The place of a part that is new. */
  #slotOf(part) {
    const { type, id } = part;
    if (type === "data-log" && id === undefined) return this.#logSlot(part);
    if (id !== undefined || !SHARED.has(type)) return this.#placed(viewOf(part), type);
    if (!this.#shared.has(type)) {
      this.#shared.set(type, viewOf(part));
      this.#append(this.#shared.get(type));
    }
    return { view: this.#shared.get(type) };
  }

  #logSlot(part) {
    // The view of a log that has left the page is null (rule 4).
    if (this.#log?.view == null || this.#log.view.node !== this.content.lastElementChild) {
      const view = new LogView();
      view.add(part);
      this.#log = this.#placed(view, part.type);
    } else {
      this.#log.view.add(part);
    }
    return this.#log;
  }

  #placed(view, type) {
    const slot = { view };
    if (view === null) return slot;
    this.#append(view);
    for (const left of this.#crowds.add(slot, type)) {
      left.view.close?.();
      this.#ticking.delete(left.view);
      left.view = null;
    }
    return slot;
  }

  #append(view) {
    this.content.append(view.node);
    if (view.tick !== undefined) this.#ticking.add(view);
  }

  /** Durations and remaining times go on without events. */
  #keepTicking() {
    if (this.#isOpen === (this.#timer !== null)) return;
    clearInterval(this.#timer);
    this.#timer = this.#isOpen ? setInterval(() => this.#tick(), TICK_MS) : null;
  }

  #tick() {
    for (const view of this.#ticking) view.tick(performance.now());
  }
}

function viewOf(part) {
  const View = Object.hasOwn(VIEWS, part.type) ? VIEWS[part.type] : part.type.startsWith("data-") ? DataPart : null;
  return View === null ? null : new View();
}

const hasContent = ({ type, text }) => type !== "step-start" && text !== "";
