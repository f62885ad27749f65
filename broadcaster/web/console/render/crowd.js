/** How many parts of one kind are on the page: beyond that the newest, and a line where the oldest stood. */

import { element, setText } from "../dom.js";

const MAX_PARTS = 300;
// An answer's own parts are what its reader came for.
const MAX_OWN_PARTS = 2000;
const MAX_LOG_LINES = 2000;
// A log of one line has about as many nodes as ten lines.
const LEAST_LOG_LINES = 10;

const LINKS = { name: "links", most: MAX_PARTS };
const REPORTS = { name: "reports", most: MAX_PARTS };
/** What each kind is called, and how many of it are on the page. */
const KINDS = {
  text: { name: "texts", most: MAX_OWN_PARTS },
  reasoning: { name: "thoughts", most: MAX_OWN_PARTS },
  tool: { name: "tool calls", most: MAX_OWN_PARTS },
  "data-log": { name: "log lines", most: MAX_LOG_LINES },
  "data-progress": { name: "bars", most: MAX_PARTS },
  "data-status": { name: "statuses", most: MAX_PARTS },
  "source-url": LINKS,
  "source-document": LINKS,
  file: LINKS,
  "data-link": LINKS,
  "data-links": LINKS,
};

/** All kinds of one answer. A slot is {view}; a view with several lines has `lines` and `linesShown`. */
export class Crowds {
  #crowds = new Map();

  /** Note a slot whose view is new on the page. Returns those whose views have left it. */
  add(slot, type) {
    const kind = Object.hasOwn(KINDS, type) ? KINDS[type] : REPORTS;
    if (!this.#crowds.has(kind)) this.#crowds.set(kind, new Crowd(kind));
    return this.#crowds.get(kind).add(slot);
  }
}

class Crowd {
  #slots = [];
  #dropped = 0;
  #note = element("p", { class: "log-note", "data-testid": "earlier" });

  constructor({ name, most }) {
    this.name = name;
    this.most = most;
  }

  add(slot) {
    this.#slots.push(slot);
    const left = [];
    while (this.#slots.length > 1 && this.#size(slot.view) > this.most) {
      left.push(this.#slots.shift());
      this.#drop(left.at(-1).view);
    }
    return left;
  }

  #size({ linesShown }) {
    if (linesShown === undefined) return this.#slots.length;
    return this.#slots.reduce((sum, { view }) => sum + Math.max(view.linesShown ?? 0, LEAST_LOG_LINES), 0);
  }

  #drop(view) {
    this.#dropped += view.lines ?? 1;
    setText(this.#note, `${this.#dropped.toLocaleString("en")} earlier ${this.name} are not shown.`);
    view.node.replaceWith(this.#note);
  }
}
