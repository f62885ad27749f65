/** A Markdown text on the page, as it grows. A block that is whole keeps its nodes. */

import { element } from "../../dom.js";
import { Children } from "../nodes.js";
import { blockView, isDrawn } from "./blocks.js";
import { MarkdownSource } from "./source.js";

// What one frame may take for reading and drawing: the rest of a long text follows in the next ones.
const BUDGET_MS = 12;
// An open block that is slow to read, a table of a thousand rows, is read more rarely.
const REST_FACTOR = 6;
// The browser lays out whole sections, and only those in view.
const SECTION_CHARS = 12_000;
const [TITLE_LEVEL, LAST_LEVEL] = [1, 6];

export class MarkdownView {
  #source = new MarkdownSource();
  #root;
  #children;
  #length = 0; // of the text in the last section
  #level = TITLE_LEVEL; // of the last heading that is whole
  #frame = null;
  #notBefore = 0;

  constructor(parent) {
    this.#root = parent;
    this.#children = new Children(null, blockView);
    this.#addSection();
  }

  /** Draw the text so far, as much of it as fits into this frame. `isOver`: no more will come. */
  update(text, { isOver }) {
    this.#source.write(text, { isOver });
    if (this.#frame === null && this.#source.isBehind) this.#draw();
  }

  /** Draw no more. */
  close() {
    cancelAnimationFrame(this.#frame);
    this.#frame = null;
  }

  #draw() {
    const began = performance.now();
    if (began >= this.#notBefore) {
      do this.#step();
      while (this.#source.isBehind && performance.now() - began < BUDGET_MS);
      const cost = performance.now() - began;
      this.#notBefore = this.#source.isBehind || cost < BUDGET_MS / 2 ? 0 : began + REST_FACTOR * cost;
    }
    if (!this.#source.isBehind) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = null;
      this.#draw();
    });
  }

  #step() {
    const whole = this.#levelled(this.#source.step().filter(isDrawn));
    this.#level = whole.findLast(({ level }) => level !== undefined)?.level ?? this.#level;
    this.#children.update([...whole, ...this.#levelled(this.#source.open.filter(isDrawn))]);
    this.#children.release(whole.length);
    this.#length += whole.reduce((length, { raw }) => length + raw.length, 0);
    if (this.#length >= SECTION_CHARS) this.#addSection();
  }

  /** With the levels of the headings: below the page's title, and none left out. */
  #levelled(blocks) {
    let last = this.#level;
    return blocks.map((block) => {
      if (block.type !== "heading") return block;
      last = Math.min(LAST_LEVEL, block.depth + TITLE_LEVEL, last + 1);
      return { ...block, level: last };
    });
  }

  /** The blocks that are drawn stay where they are. */
  #addSection() {
    this.#length = 0;
    this.#children.parent = element("div", { class: "text-section" });
    this.#root.append(this.#children.parent);
  }
}
