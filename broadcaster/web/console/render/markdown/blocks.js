/** Paragraphs, lists, tables and the other blocks: tokens of marked → nodes. */

import { element } from "../../dom.js";
import { safeUrl } from "../links.js";
import { Children, growText } from "../nodes.js";
import { CodeBlock } from "./code.js";
import { FormulaView } from "./formula.js";
import { inlineView, linkTo } from "./inline.js";

class InlineBlock {
  constructor({ type, depth, level }) {
    // In a list or a quotation a heading is no part of the page's outline.
    this.node = element(level !== undefined ? `h${level}` : type === "text" ? "div" : "p");
    if (type === "heading") this.node.classList.add("heading", `is-depth-${Math.min(3, depth)}`);
    this.children = new Children(this.node, inlineView);
  }

  update({ tokens, raw, text }) {
    this.children.update(tokens ?? [{ type: "escape", raw, text }]);
  }
}

/** Text as it is: HTML, and what cannot be read. */
class PlainBlock {
  constructor() {
    this.text = document.createTextNode("");
    this.node = element("p", { class: "plain" }, this.text);
  }

  update({ raw }) {
    growText(this.text, raw.replace(/\n+$/, ""));
  }
}

/** A link's definition, as it was written. What stands before it has been drawn without its address. */
class DefinitionView {
  constructor() {
    this.node = element("p", { class: "definition" });
  }

  update({ raw, href }) {
    const text = raw.replace(/\n+$/, "");
    const at = text.indexOf(href, text.indexOf("]:"));
    const url = safeUrl(href);
    const isLink = url !== null && at >= 0;
    const shown = isLink ? [text.slice(0, at), linkTo(url, href), text.slice(at + href.length)] : [text];
    this.node.replaceChildren(...shown);
  }
}

class Quote {
  constructor() {
    this.node = element("blockquote", { dir: "auto" });
    this.children = new Children(this.node, blockView);
  }

  update({ tokens }) {
    this.children.update(tokens.filter(isDrawn));
  }
}

class ListView {
  constructor({ ordered, start }) {
    // Its marks stand where its first text begins.
    this.node = element(ordered ? "ol" : "ul", { dir: "auto" });
    if (ordered && start !== 1) this.node.setAttribute("start", String(start));
    this.children = new Children(this.node, () => new ItemView());
  }

  update({ items }) {
    this.children.update(items);
  }
}

class ItemView {
  constructor() {
    this.node = element("li");
    this.children = new Children(this.node, blockView);
  }

  update({ task, tokens }) {
    this.node.classList.toggle("has-task", task);
    this.children.update(tokens.filter(isDrawn));
  }
}

class TableView {
  constructor() {
    this.head = element("thead");
    this.body = element("tbody");
    // Scrolls by itself, and by the keyboard too.
    const table = element("table", {}, this.head, this.body);
    this.node = element("div", { class: "table", tabindex: "0", role: "group", "aria-label": "Table" }, table);
    this.headRows = new Children(this.head, () => new RowView("th"));
    this.bodyRows = new Children(this.body, () => new RowView("td"));
  }

  update({ header, rows }) {
    this.headRows.update([rowOf(header)]);
    this.bodyRows.update(rows.map(rowOf));
  }
}

const rowOf = (cells) => ({ type: "row", raw: cells.map(({ text }) => text).join("|"), cells });

class RowView {
  constructor(tag) {
    this.node = element("tr");
    this.children = new Children(this.node, (cell) => new CellView(tag, cell));
  }

  update({ cells }) {
    this.children.update(cells);
  }
}

class CellView {
  constructor(tag, { align }) {
    this.node = element(tag);
    if (tag === "th") this.node.setAttribute("scope", "col");
    if (align !== null) this.node.classList.add(`is-${align}`);
    this.children = new Children(this.node, inlineView);
  }

  update({ tokens }) {
    this.children.update(tokens);
  }
}

const VIEWS = {
  heading: InlineBlock,
  paragraph: InlineBlock,
  text: InlineBlock,
  blockquote: Quote,
  list: ListView,
  table: TableView,
  code: CodeBlock,
  def: DefinitionView,
  formula: FormulaView,
};

export function blockView(token) {
  if (token.type === "hr") return { node: element("hr") };
  if (token.type === "checkbox") return inlineView(token);
  const View = Object.hasOwn(VIEWS, token.type) ? VIEWS[token.type] : PlainBlock;
  return new View(token);
}

export const isDrawn = ({ type }) => type !== "space";
