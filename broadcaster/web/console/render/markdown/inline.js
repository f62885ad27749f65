/** What stands in a line: tokens of marked → nodes. HTML that a model writes is shown as text. */

import { element } from "../../dom.js";
import { safeUrl, targetOf } from "../links.js";
import { Children, growText } from "../nodes.js";
import { decoded } from "./entities.js";
import { FormulaView } from "./formula.js";

const TAGS = { strong: "strong", em: "em", del: "s" };
const REL = "noopener noreferrer nofollow";

class TextNode {
  constructor() {
    this.node = document.createTextNode("");
  }

  update({ type, raw, text }) {
    growText(this.node, type === "html" ? raw : type === "escape" ? text : decoded(text ?? raw));
  }
}

class Marked {
  constructor({ type }) {
    this.node = element(TAGS[type]);
    this.children = new Children(this.node, inlineView);
  }

  update({ tokens }) {
    this.children.update(tokens);
  }
}

class CodeSpan {
  constructor() {
    this.node = element("code", { text: "" });
    this.text = document.createTextNode("");
    this.node.append(this.text);
  }

  update({ text }) {
    growText(this.text, text);
  }
}

/** A link that may be followed, with the host it leads to; any other is its label and its address, as text. */
class LinkView {
  constructor({ href }) {
    this.href = safeUrl(decoded(href));
    this.node = element(this.href === null ? "span" : "a");
    if (this.href !== null) setTarget(this.node, this.href);
    this.label = element("span", { class: "link-label" });
    this.target = element("span", { class: "link-target" });
    this.node.append(this.label, this.target);
    this.children = new Children(this.label, inlineView);
  }

  update({ href, tokens }) {
    this.children.update(tokens);
    const target = this.href === null ? decoded(href) : targetOf(this.href, this.label.textContent);
    this.target.textContent = target === "" ? "" : ` (${target})`;
  }
}

/** An image is not loaded: the page tells no other host that it is read. */
class ImageView {
  constructor({ href, text }) {
    const url = safeUrl(decoded(href));
    const label = decoded(text) || "image";
    this.node = url === null ? element("span", { text: label }) : linkTo(url, label);
    this.node.classList.add("image");
  }
}

class CheckboxView {
  constructor({ checked }) {
    const label = checked ? "Done" : "To do";
    this.node = element("span", { class: "task", role: "img", "aria-label": label, "data-checked": String(checked) });
  }
}

function setTarget(link, href) {
  link.setAttribute("href", href);
  link.setAttribute("rel", REL);
  link.setAttribute("target", "_blank");
}

/** A link as the blocks and parts beside the text show it. */
export function linkTo(href, label) {
  const link = element("a", {}, element("span", { class: "link-label", text: label }));
  setTarget(link, href);
  const target = targetOf(href, label);
  if (target !== "") link.append(element("span", { class: "link-target", text: ` (${target})` }));
  return link;
}

const VIEWS = {
  strong: Marked,
  em: Marked,
  del: Marked,
  codespan: CodeSpan,
  link: LinkView,
  image: ImageView,
  checkbox: CheckboxView,
  inlineFormula: FormulaView,
};

export function inlineView(token) {
  if (token.type === "br" || (token.type === "html" && /^<br\s*\/?>$/i.test(token.raw))) return { node: element("br") };
  const View = Object.hasOwn(VIEWS, token.type) ? VIEWS[token.type] : TextNode;
  return new View(token);
}
