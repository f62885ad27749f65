/** The parts that are folded: what a model thought, and the tools that it called. */

import { element, setText, show } from "../dom.js";
import { Stopwatch } from "./clock.js";
import { MAX_FIELD_CHARS, MAX_LABEL_CHARS, cut } from "./lengths.js";
import { copyButton } from "./markdown/code.js";
import { MarkdownView } from "./markdown/view.js";

/** A fold with a line that says what it is, whether it still runs, and how long it took. */
class Fold {
  constructor(kind) {
    this.watch = new Stopwatch();
    this.spinner = element("span", { class: "spinner", "aria-hidden": "true" });
    this.label = element("span", { class: "fold-label" });
    this.brief = element("span", { class: "fold-brief" });
    this.state = element("span", { class: "fold-state" });
    this.took = element("span", { class: "fold-took" });
    const head = element("summary", {}, this.spinner, this.label, this.brief, this.state, this.took);
    this.body = element("div", { class: "fold-body" });
    this.node = element("details", { class: `fold is-${kind}`, "data-testid": kind }, head, this.body);
    this.node.addEventListener("toggle", () => this.node.open && this.drawBody());
  }

  note(isRunning, clock) {
    this.watch.note(isRunning, clock);
    this.node.classList.toggle("is-running", isRunning);
    this.tick(clock.now);
  }

  tick(now) {
    setText(this.took, this.watch.text(now));
  }
}

export class ReasoningView extends Fold {
  constructor() {
    super("reasoning");
    this.markdown = new MarkdownView(this.body);
    this.node.hidden = true;
  }

  update(part, { isOpen, ...clock }) {
    const isRunning = isOpen && part.state === "streaming";
    this.note(isRunning, clock);
    this.part = part;
    this.isOver = !isRunning;
    // A provider may keep the reasoning to itself: the part then stays empty.
    show(this.node, part.text !== "");
    setText(this.label, isRunning ? "Thinking" : "Reasoning");
    if (this.node.open) this.drawBody();
  }

  drawBody() {
    this.markdown.update(this.part.text, { isOver: this.isOver });
  }

  close() {
    this.markdown.close();
  }
}

const STATES = {
  "input-streaming": "preparing",
  "input-available": "running",
  "output-available": "done",
  "output-error": "failed",
};
const BRIEF_CHARS = 160;
const MAX_LEVELS = 20;

export class ToolView extends Fold {
  constructor() {
    super("tool");
    this.input = new Field("Input");
    this.output = new Field("Output");
    this.body.append(this.input.node, this.output.node);
  }

  update(part, { isOpen, ...clock }) {
    const isOver = part.state.startsWith("output-") && part.preliminary !== true;
    this.part = part;
    this.note(isOpen && !isOver, clock);
    setText(this.label, cut(part.toolName ?? "tool", MAX_LABEL_CHARS));
    setText(this.brief, briefOf(part));
    setText(this.state, isOver || isOpen ? (part.preliminary ? "running" : STATES[part.state]) : "not finished");
    this.node.dataset.state = part.state;
    if (this.node.open) this.drawBody();
  }

  drawBody() {
    const { input, rawInput, inputText, output, errorText } = this.part;
    this.input.update(inputText ?? readable(input ?? rawInput));
    setText(this.output.label, errorText === undefined ? "Output" : "Error");
    this.output.update(errorText ?? readable(output));
  }
}

class Field {
  constructor(name) {
    this.label = element("span", { text: name });
    this.pre = element("pre", { tabindex: "0", role: "group", "aria-label": name });
    this.more = element("p", { class: "fold-more" });
    const head = element("div", { class: "fold-head" }, this.label, copyButton(`Copy ${name.toLowerCase()}`, () => this.text));
    this.node = element("div", { class: "fold-field" }, head, this.pre, this.more);
    this.text = "";
  }

  update(text) {
    this.text = text;
    show(this.node, text !== "");
    setText(this.pre, text.slice(0, MAX_FIELD_CHARS));
    const hidden = text.length - MAX_FIELD_CHARS;
    setText(this.more, hidden > 0 ? `${hidden.toLocaleString("en")} more characters are not shown; Copy takes them all.` : "");
  }
}

function briefOf({ input, inputText = "" }) {
  const text = input === undefined ? inputText : typeof input === "string" ? input : JSON.stringify(input);
  return text.length > BRIEF_CHARS ? `${text.slice(0, BRIEF_CHARS)}…` : text;
}

/** A value as JSON, a text as it is; indented if it is a JSON object or array, not too long and not nested too deep. */
export function readable(value) {
  if (value === undefined) return "";
  const text = typeof value === "string" ? value : JSON.stringify(value);
  if (text.length > MAX_FIELD_CHARS || isDeep(text)) return text;
  try {
    const parsed = JSON.parse(text);
    return typeof parsed === "object" && parsed !== null ? JSON.stringify(parsed, null, 2) : text;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return text;
  }
}

/** Each level makes every line of the indented text longer. Brackets within texts count, too. */
function isDeep(text) {
  let levels = 0;
  for (const sign of text) {
    if (sign === "[" || sign === "{") levels += 1;
    if (sign === "]" || sign === "}") levels -= 1;
    if (levels > MAX_LEVELS) return true;
  }
  return false;
}
