/** What jobs report: progress with the time that is left, log lines, links and statuses (docs/publishing.md). */

import { element, setText, show } from "../dom.js";
import { Eta, leftText } from "./eta.js";
import { MAX_CHARS, readable } from "./folded.js";
import { safeUrl } from "./links.js";
import { linkTo } from "./markdown/inline.js";
import { droppedText, levelOf, lineOf, stepOf } from "./reports.js";

/** Of longer logs only the newest lines are on the page. */
export const MAX_LOG_LINES = 500;
const MAX_LINE_CHARS = 2000;
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
    setText(this.label, label);
    if (step !== null) this.#draw(step, label);
    if (step !== null && isLive) this.eta.note(step, now);
    this.tick(now);
  }

  #draw({ done, total, percent }, label) {
    const amount = (number) => number.toLocaleString("en", { maximumFractionDigits: 2 });
    setText(this.count, `${percent}% (${amount(done)}/${amount(total)})`);
    this.bar.max = total;
    this.bar.value = Math.min(done, total);
    this.bar.setAttribute("aria-label", label);
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

  constructor() {
    this.lines = element("ol", { class: "log-lines" });
    this.note = element("p", { class: "log-note", hidden: "" });
    const label = { class: "log", tabindex: "0", role: "group", "aria-label": "Log", "data-testid": "log" };
    this.node = element("div", label, this.note, this.lines);
  }

  /** Take a part of type data-log; it is drawn with the others of its frame. */
  add({ data }) {
    if (this.#waiting.length === 0) queueMicrotask(() => this.#draw());
    this.#waiting.push(data);
    if (this.#waiting.length <= MAX_LOG_LINES) return;
    this.#waiting.shift();
    this.#dropped += 1;
  }

  #draw() {
    const { scrollTop, scrollHeight, clientHeight } = this.node;
    const follows = scrollHeight - scrollTop - clientHeight < 24;
    this.lines.append(...this.#waiting.splice(0).map(lineNode));
    while (this.lines.childElementCount > MAX_LOG_LINES) {
      this.lines.firstElementChild.remove();
      this.#dropped += 1;
    }
    setText(this.note, `${this.#dropped.toLocaleString("en")} earlier lines are not shown.`);
    show(this.note, this.#dropped > 0);
    if (follows) this.node.scrollTop = this.node.scrollHeight;
  }
}

function lineNode(data) {
  const text = lineOf(data);
  const shown = text.length > MAX_LINE_CHARS ? `${text.slice(0, MAX_LINE_CHARS)}…` : text;
  const level = levelOf(data);
  const line = element("li", { class: "log-line" });
  if (level !== "") {
    line.dataset.level = level;
    line.append(element("span", { class: "log-level", text: level }));
  }
  line.append(element("span", { text: shown }));
  return line;
}

export class StatusView {
  constructor() {
    this.node = element("p", { class: "report-status", "data-testid": "report-status" });
  }

  update({ type, data, id }) {
    const text = type === "data-dropped" ? droppedText(data) : lineOf(data);
    setText(this.node, id === undefined ? text : `${id}: ${text}`);
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
    this.node.replaceChildren(href === null ? element("span", { text: label }) : linkTo(href, label));
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

const shortened = (text) => (text.length > MAX_CHARS ? `${text.slice(0, MAX_CHARS)}…` : text);

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
    setText(this.name, id === undefined ? name : `${name} · ${id}`);
    this.value.setAttribute("aria-label", name);
    setText(this.value, shortened(readable(data)));
    const href = safeUrl(data?.url);
    this.link.replaceChildren(...(href === null ? [] : [linkTo(href, href)]));
    show(this.link, href !== null);
  }
}
