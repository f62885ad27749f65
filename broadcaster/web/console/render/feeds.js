/** What jobs report: progress with the time that is left, log lines, links and statuses (docs/publishing.md). */

import { element, setText, show } from "../dom.js";
import { Eta, leftText } from "./eta.js";
import { readable } from "./folded.js";
import { MAX_FIELD_CHARS, MAX_LABEL_CHARS, MAX_LINE_CHARS, cut } from "./lengths.js";
import { safeUrl } from "./links.js";
import { linkTo } from "./markdown/inline.js";
import { droppedText, levelOf, lineOf, stepOf } from "./reports.js";

/** Of longer logs only the newest lines are on the page. */
const MAX_LOG_LINES = 500;
// Fewer than fit into a log's box.
const LINES_IN_VIEW = 5;
const MAX_LINKS = 200;

export class ProgressView {
  constructor() {
    this.eta = new Eta();
    this.label = element("span", { class: "step-label" });
    this.count = element("span", { class: "step-count" });
    this.left = element("span", { class: "step-left" });
    this.bar = element("progress", { class: "step-bar" });
    const facts = element("span", { class: "step-facts" }, this.left, this.count);
    this.node = element("div", { class: "step", "data-testid": "step" }, this.label, facts, this.bar);
  }

  update(part, { isLive, isOpen, now }) {
    const step = stepOf(part.data);
    this.isRunning = isOpen && step !== null && step.done < step.total;
    for (const node of [this.bar, this.count]) show(node, step !== null);
    const label = step === null ? readable(part.data) : step.message || part.id || "Progress";
    setText(this.label, cut(label, MAX_LABEL_CHARS));
    this.node.classList.toggle("is-whole", part.id === undefined);
    if (step !== null) this.#draw(step);
    if (step !== null && isLive) this.eta.note(step, now);
    this.tick(now);
  }

  #draw({ done, total, percent }) {
    const amount = (number) => number.toLocaleString("en", { maximumFractionDigits: 2 });
    setText(this.count, `${percent}% (${amount(done)}/${amount(total)})`);
    this.bar.max = total;
    this.bar.value = Math.min(done, total);
    this.bar.setAttribute("aria-label", this.label.textContent);
    this.node.classList.toggle("is-done", done >= total);
  }

  tick(now) {
    setText(this.left, this.isRunning ? leftText(this.eta.secondsLeft(now)) : "");
  }
}

/** Lines of a log, the newest at the end and in view, unless the reader has scrolled up. */
export class LogView {
  #waiting = [];
  #dropped = 0;
  /** How many there were. */
  lines = 0;

  constructor() {
    this.list = element("ol", { class: "log-lines" });
    this.note = element("p", { class: "log-note", hidden: "" });
    const label = { class: "log", tabindex: "0", role: "group", "aria-label": "Log", "data-testid": "log" };
    this.node = element("div", label, this.note, this.list);
  }

  get linesShown() {
    return Math.min(this.lines, MAX_LOG_LINES);
  }

  /** Take a part of type data-log; it is drawn with the others of its frame. */
  add({ data }) {
    if (this.#waiting.length === 0) queueMicrotask(() => this.#draw());
    this.#waiting.push(data);
    this.lines += 1;
    if (this.#waiting.length <= MAX_LOG_LINES) return;
    this.#waiting.shift();
    this.#dropped += 1;
  }

  #draw() {
    const follows = this.#isAtEnd();
    this.list.append(...this.#waiting.splice(0).map(lineNode));
    while (this.list.childElementCount > MAX_LOG_LINES) {
      this.list.firstElementChild.remove();
      this.#dropped += 1;
    }
    setText(this.note, `${this.#dropped.toLocaleString("en")} earlier lines are not shown.`);
    show(this.note, this.#dropped > 0);
    if (follows && this.list.childElementCount > LINES_IN_VIEW) this.node.scrollTop = this.node.scrollHeight;
  }

  /** Asks the browser for a layout only where there may be something to scroll. */
  #isAtEnd() {
    if (this.list.childElementCount <= LINES_IN_VIEW) return true;
    const { scrollTop, scrollHeight, clientHeight } = this.node;
    return scrollHeight - scrollTop - clientHeight < 24;
  }
}

function lineNode(data) {
  const level = levelOf(data);
  const line = element("li", { class: "log-line" });
  if (level !== "") {
    line.dataset.level = level;
    line.append(element("span", { class: "log-level", text: level }));
  }
  line.append(element("span", { text: cut(lineOf(data), MAX_LINE_CHARS) }));
  return line;
}

export class StatusView {
  constructor() {
    this.node = element("p", { class: "report-status", "data-testid": "report-status" });
  }

  update({ type, data, id }) {
    const text = type === "data-dropped" ? droppedText(data) : lineOf(data);
    setText(this.node, cut(id === undefined ? text : `${id}: ${text}`, MAX_LINE_CHARS));
    this.node.dataset.level = levelOf(data);
  }
}

/** A source, a file, or a link that a job reports. */
export class LinkPart {
  constructor() {
    this.node = element("p", { class: "source", "data-testid": "source" });
  }

  update(part) {
    const given = part.type.startsWith("data-") ? part.data : part;
    const { url = given, title, label: name, filename, mediaType } = given ?? {};
    const label = [title, filename, name, mediaType, url].find((text) => typeof text === "string" && text !== "") ?? "";
    const href = safeUrl(url);
    const shown = cut(label, MAX_LABEL_CHARS);
    this.node.replaceChildren(href === null ? element("span", { text: shown }) : linkTo(href, shown));
  }
}

export class LinksPart {
  constructor() {
    this.node = element("div", { class: "sources" });
  }

  update({ data }) {
    const links = Array.isArray(data) ? data.slice(0, MAX_LINKS) : [];
    const views = links.map((link) => [new LinkPart(), link]);
    for (const [view, link] of views) view.update({ type: "data-link", data: link });
    this.node.replaceChildren(...views.map(([view]) => view.node));
  }
}

/** Any other data, as JSON, with the link that it may have. */
export class DataPart {
  constructor() {
    this.name = element("strong");
    this.value = element("pre", { tabindex: "0", role: "group" });
    this.link = element("p", { class: "source" });
    this.node = element("div", { class: "data", "data-testid": "data" }, this.name, this.value, this.link);
  }

  update({ type, id, data }) {
    const name = type.slice("data-".length);
    setText(this.name, cut(id === undefined ? name : `${name} · ${id}`, MAX_LABEL_CHARS));
    this.value.setAttribute("aria-label", cut(name, MAX_LABEL_CHARS));
    setText(this.value, cut(readable(data), MAX_FIELD_CHARS));
    const href = safeUrl(data?.url);
    this.link.replaceChildren(...(href === null ? [] : [linkTo(href, cut(href, MAX_LABEL_CHARS))]));
    show(this.link, href !== null);
  }
}
