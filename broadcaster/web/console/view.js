/**
 * The content of one answer. Everything is text nodes: text of a model or a user can never become markup.
 *
 * A part only grows, as long as the stream's `revision` is the same: its node is extended by what is new. A new attempt
 * or a rewound log raises it, and the answer is redrawn.
 */

import { element, setText, show } from "./dom.js";
import { isOver, stepOf } from "./texts.js";

/** A text that grows: only what is new is appended. */
class Growing {
  constructor(parent) {
    this.node = document.createTextNode("");
    parent.append(this.node);
  }

  grow(text) {
    const drawn = this.node.length;
    if (text.length > drawn) this.node.appendData(text.slice(drawn));
  }
}

class TextPart {
  constructor() {
    this.root = element("div", { class: "text" });
    this.text = new Growing(this.root);
  }

  update(part) {
    this.text.grow(part.text);
    this.root.classList.toggle("streaming", part.state === "streaming");
  }
}

const TOOL_STATES = {
  "input-streaming": "preparing…",
  "input-available": "called",
  "output-available": "done",
  "output-error": "failed",
};

class ToolPart {
  constructor() {
    this.name = element("strong", { class: "tool-name" });
    this.state = element("span", { class: "tool-state" });
    this.brief = element("span", { class: "tool-brief" });
    this.input = element("pre", { class: "tool-input" });
    this.output = element("pre", { class: "tool-output" });
    const head = element("summary", {}, this.name, this.brief, this.state);
    this.root = element("details", { class: "tool", "data-testid": "tool", open: "" }, head, this.input, this.output);
  }

  update(part) {
    // A call with a result folds once: a user who reopens it keeps it open.
    if (part.state === "output-available" && this.root.dataset.state !== part.state) this.root.open = false;
    this.root.dataset.state = part.state;
    setText(this.name, part.toolName ?? "tool");
    setText(this.state, part.preliminary ? "running…" : TOOL_STATES[part.state]);
    setText(this.input, part.inputText ?? pretty(part.input ?? part.rawInput));
    setText(this.brief, part.input === undefined ? "" : JSON.stringify(part.input));
    const output = part.errorText ?? (part.output === undefined ? "" : pretty(part.output));
    setText(this.output, output);
    show(this.output, output !== "");
  }
}

class LinkPart {
  constructor() {
    this.root = element("p", { class: "source" });
  }

  update(part) {
    const label = part.title ?? part.filename ?? part.mediaType ?? part.url;
    const href = safeUrl(part.url);
    const link = { text: label, href: href ?? "", rel: "noopener noreferrer nofollow", target: "_blank" };
    this.root.replaceChildren(href === null ? element("span", { text: label }) : element("a", link));
  }
}

class DataPart {
  constructor() {
    this.name = element("strong");
    this.value = element("pre");
    this.root = element("div", { class: "data" }, this.name, this.value);
  }

  update(part) {
    setText(this.name, part.type.slice("data-".length));
    setText(this.value, pretty(part.data));
  }
}

class StepPart {
  constructor() {
    this.label = element("span", { class: "step-label" });
    this.count = element("span", { class: "step-count" });
    this.bar = element("progress", { class: "step-bar" });
    this.root = element("div", { class: "step", "data-testid": "step" }, this.label, this.count, this.bar);
  }

  update(part) {
    const step = stepOf(part.data);
    show(this.bar, step !== null);
    show(this.count, step !== null);
    const label = step === null ? pretty(part.data) : step.message || part.id || "Progress";
    setText(this.label, label);
    if (step === null) return;
    setText(this.count, `${step.percent}% (${step.done}/${step.total})`);
    this.bar.max = step.total;
    this.bar.value = Math.min(step.done, step.total);
    this.bar.setAttribute("aria-label", label);
  }
}

const STEP = "data-progress";
const VIEWS = {
  text: TextPart,
  tool: ToolPart,
  "source-url": LinkPart,
  "source-document": LinkPart,
  file: LinkPart,
  [STEP]: StepPart,
};

function viewOf(part) {
  const View = VIEWS[part.type] ?? (part.type.startsWith("data-") ? DataPart : null);
  return View === null ? null : new View();
}

function pretty(value) {
  if (value === undefined) return "";
  return typeof value === "string" ? value : JSON.stringify(value, null, 2);
}

/** http and https only: a `javascript:` link is a script, and the contents of a `data:` page are not ours. */
function safeUrl(url) {
  if (!URL.canParse(url ?? "")) return null;
  const { protocol, href } = new URL(url);
  return protocol === "https:" || protocol === "http:" ? href : null;
}

/** One answer inside `root`: its reasoning, then its parts. */
export class AnswerView {
  constructor(root) {
    this.reasoningLabel = element("span", { text: "Reasoning" });
    this.reasoningText = element("div", { class: "reasoning-text", "data-testid": "reasoning-text" });
    const summary = element("summary", {}, this.reasoningLabel);
    const folded = { class: "reasoning", "data-testid": "reasoning", hidden: "" };
    this.reasoning = element("details", folded, summary, this.reasoningText);
    this.answer = element("div", { class: "answer", "data-testid": "answer" });
    root.append(this.reasoning, this.answer);
    this.clear();
  }

  clear() {
    this.drawn = null;
    this.views = [];
    this.reasonings = [];
    this.hadText = false;
    this.answer.replaceChildren();
    this.reasoningText.replaceChildren();
    this.reasoning.open = false;
    show(this.reasoning, false);
  }

  /** Draw the folded state; `revision` rises when earlier contents are void. */
  update(folded, { revision }) {
    if (this.drawn !== revision) this.clear();
    this.drawn = revision;
    const isOpen = !isOver(folded.status);
    this.drawParts(folded.parts, isOpen);
    this.answer.setAttribute("aria-busy", String(isOpen));
  }

  drawParts(parts, isOpen) {
    for (const [index, part] of parts.entries()) {
      if (part.type === "reasoning") {
        this.drawReasoning(index, part);
        continue;
      }
      if (part.type === "text" && part.text !== "" && !this.hadText) {
        this.hadText = true;
        this.reasoning.open = false;
      }
      this.views[index] ??= this.placed(viewOf(part));
      this.views[index]?.update(part);
    }
    this.foldSteps(parts);
    const isThinking = isOpen && parts.at(-1)?.type === "reasoning" && parts.at(-1).state === "streaming";
    setText(this.reasoningLabel, isThinking ? "Reasoning…" : "Reasoning");
    this.reasoning.classList.toggle("streaming", isThinking);
  }

  /** Steps without an id replace each other: only the last one is visible. */
  foldSteps(parts) {
    const isNameless = ({ type, id }) => type === STEP && id === undefined;
    const last = parts.findLastIndex(isNameless);
    for (const [index, part] of parts.entries()) if (isNameless(part)) show(this.views[index].root, index === last);
  }

  placed(view) {
    if (view !== null) this.answer.append(view.root);
    return view;
  }

  /** Reasoning stands apart, above the answer: open until the answer itself begins, then folded. */
  drawReasoning(index, part) {
    if (this.reasonings[index] === undefined) {
      const paragraph = element("p");
      this.reasoningText.append(paragraph);
      this.reasonings[index] = new Growing(paragraph);
    }
    this.reasonings[index].grow(part.text);
    if (part.text !== "" && this.reasoning.hidden) {
      show(this.reasoning, true);
      this.reasoning.open = !this.hadText;
    }
  }
}
