/** Tables whose rows keep their nodes while their contents change: a focused link or button keeps its focus. */

import { element, show } from "../dom.js";

const FORMS = {
  text: () => element("span"),
  link: () => element("a"),
  button: () => element("button", { class: "quiet", type: "button" }),
};

/** A cell is a text, or {text, href} or {text, label, onClick}. */
class Cell {
  constructor(column) {
    // The roles: a narrow page shows rows as blocks, and some browsers then forget that it is a table.
    this.root = element("td", { role: "cell", "data-label": column.title, ...(column.isNumber ? { class: "number" } : {}) });
    this.form = null;
  }

  update(given) {
    const cell = typeof given === "object" && given !== null ? given : { text: given };
    const form = cell.onClick ? "button" : cell.href ? "link" : "text";
    if (form !== this.form) {
      this.node = FORMS[form]();
      this.root.replaceChildren(this.node);
      this.form = form;
    }
    const text = String(cell.text ?? "–");
    if (this.node.textContent !== text) this.node.textContent = text;
    if (cell.href) this.node.setAttribute("href", cell.href);
    if (cell.label) this.node.setAttribute("aria-label", cell.label);
    if (cell.onClick) this.node.onclick = cell.onClick;
    this.root.dataset.tone = cell.tone ?? "";
    this.root.classList.toggle("is-empty", (cell.text ?? "") === "");
  }
}

class Row {
  constructor(columns) {
    this.cells = columns.map((column) => new Cell(column));
    this.root = element("tr", { role: "row" }, ...this.cells.map((cell) => cell.root));
  }

  update(cells) {
    for (const [index, cell] of cells.entries()) this.cells[index].update(cell);
  }
}

export class Table {
  /** `columns`: {title, hint, isNumber}; `empty`: the sentence in place of rows. */
  constructor(label, columns, empty) {
    this.columns = columns;
    this.rows = new Map();
    this.body = element("tbody", { role: "rowgroup" });
    const heads = columns.map(({ title, hint, isNumber }) => {
      const more = { ...(isNumber ? { class: "number" } : {}), ...(hint ? { title: hint } : {}) };
      return element("th", { scope: "col", role: "columnheader", text: title, ...more });
    });
    const head = element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, ...heads));
    this.table = element("table", { role: "table", "aria-label": label }, head, this.body);
    this.empty = element("p", { class: "operate-empty", text: empty });
    this.root = element("div", {}, this.table, this.empty);
    this.draw([]);
  }

  /** `rows`: {key, cells}, in order. */
  draw(rows) {
    const kept = new Map();
    for (const { key, cells } of rows) {
      const row = this.rows.get(key) ?? new Row(this.columns);
      row.update(cells);
      kept.set(key, row);
    }
    this.rows = kept;
    const nodes = [...kept.values()].map((row) => row.root);
    const isShown = new Set(nodes);
    for (const child of [...this.body.children]) if (!isShown.has(child)) child.remove();
    for (const [index, node] of nodes.entries()) {
      if (this.body.children[index] !== node) this.body.insertBefore(node, this.body.children[index] ?? null);
    }
    show(this.table, rows.length > 0);
    show(this.empty, rows.length === 0);
  }
}

/** A heading, a sentence that explains it, a line of facts, a fault, and whatever is below. */
export class Section {
  constructor({ name, title, about }, ...children) {
    this.facts = element("p", { class: "operate-facts" });
    this.fault = element("p", { class: "fault", role: "status" });
    const heading = element("h2", { id: `operate-${name}`, text: title });
    this.root = element(
      "section",
      { class: "operate-section", "aria-labelledby": `operate-${name}`, "data-testid": `operate-${name}` },
      heading,
      element("p", { class: "operate-about", text: about }),
      this.facts,
      this.fault,
      ...children,
    );
    this.report(null);
  }

  setFacts(facts) {
    const text = facts.filter((fact) => fact !== null).join(" · ");
    if (this.facts.textContent !== text) this.facts.textContent = text;
  }

  /** Show why the section could not be read; what it showed before stays. */
  report(problem) {
    show(this.fault, problem !== null);
    const text = problem === null ? "" : `${problem.message} (${problem.code})`;
    if (this.fault.textContent !== text) this.fault.textContent = text;
  }
}
