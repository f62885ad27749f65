/** The list of running and recent generations; each is a link, so that a middle click opens it in another tab. */

import { ago, isOver, statusWord, viewersWord } from "./words.js";
import { element } from "./view.js";

export class GenerationList {
  constructor() {
    this.root = document.getElementById("generations");
    this.empty = document.getElementById("side-empty");
    this.rows = new Map();
  }

  draw(generations, selectedId) {
    const now = Date.now() / 1000;
    const rows = new Map();
    for (const generation of generations) {
      const row = this.rows.get(generation.id) ?? new Row(generation.id);
      row.update(generation, { isSelected: generation.id === selectedId, now });
      rows.set(generation.id, row);
    }
    this.rows = rows;
    this.place([...rows.values()].map((row) => row.root));
    this.empty.hidden = rows.size > 0;
  }

  /** Put the nodes in order and touch only what moves: the focused link keeps its focus. */
  place(nodes) {
    for (const child of [...this.root.children]) if (!nodes.includes(child)) child.remove();
    for (const [index, node] of nodes.entries()) {
      if (this.root.children[index] !== node) this.root.insertBefore(node, this.root.children[index] ?? null);
    }
  }
}

class Row {
  constructor(id) {
    this.title = element("span", { class: "row-title" });
    this.detail = element("span", { class: "row-detail" });
    const dot = element("span", { class: "dot", "aria-hidden": "true" });
    this.link = element("a", { class: "row", href: `#${id}` }, dot, this.title, this.detail);
    this.root = element("li", {}, this.link);
  }

  update({ id, status, title, created_at, viewers }, { isSelected, now }) {
    this.title.textContent = title || id;
    const words = [statusWord(status)];
    if (!isOver(status) && viewers > 0) words.push(viewersWord(viewers));
    words.push(ago(created_at, now));
    this.detail.textContent = words.join(" · ");
    this.link.dataset.status = status;
    if (isSelected) this.link.setAttribute("aria-current", "page");
    else this.link.removeAttribute("aria-current");
  }
}
