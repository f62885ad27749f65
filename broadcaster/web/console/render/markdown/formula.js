/** Formulas: TeX → MathML by Temml, which is loaded with the first formula. Until then, and when it fails, the TeX stays. */

import { element } from "../../dom.js";
import { growText } from "../nodes.js";

const MATHML = "http://www.w3.org/1998/Math/MathML";
const MAX_CHARS = 5000;
// A macro of a few lines can become a million nodes: a formula that defines one is not drawn.
const DEFINITION = /\\(?:[gex]?def|let|futurelet|(?:re)?newcommand|providecommand)(?![a-z])/i;
// Temml builds what these commands hold two or three times, so that its work grows by that factor with each level. So it
// does for the arrows of mhchem, and for a `\ce` within another one where that begins an isotope.
const REPEATING = /\\(?:cancelto|(?:math)?llap|equilibrium(?:Left|Right))(?![a-zA-Z])|<=>>|<<=>/;
const MAX_WORK_CHARS = 20_000;
const SIGNS = new RegExp(`${REPEATING.source}|\\\\(?:ce|verb)(?![a-zA-Z])|\\\\[^]|[{}%]`, "g");
// Attributes that run something, load something, or name an element of the page.
const FORBIDDEN = /^(id|href|src|on.*|xlink.*)$/i;
const OPTIONS = { throwOnError: true, trust: false, maxSize: [50, 500], maxExpand: 200, wrap: "tex" };

let temml = null;

/** Temml, or null when the server does not give it: the next formula tries once more. */
async function load() {
  temml ??= import("../../vendor/temml/temml.js");
  try {
    return (await temml).default;
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    temml = null;
    return null;
  }
}

// What the formulas of one turn of the event loop may take, and the pause before the next ones.
const TURN_MS = 8;
const PAUSE_MS = 8;

const waiting = new Set();
let isDrawing = false;

/** Draw those that wait, in portions: a text may have thousands. */
async function drawWaiting() {
  const loaded = await load();
  const began = performance.now();
  isDrawing = false;
  for (const view of waiting) {
    if (performance.now() - began > TURN_MS) {
      isDrawing = true;
      setTimeout(drawWaiting, PAUSE_MS);
      return;
    }
    waiting.delete(view);
    // One whose text has left the page meanwhile is not drawn.
    if (loaded !== null && view.node.isConnected) view.draw(loaded);
  }
}

export class FormulaView {
  #drawn = null;
  #drawnTex = null;

  constructor({ type }) {
    this.isBlock = type === "formula";
    this.text = document.createTextNode("");
    this.source = element("code", { class: "formula-source" }, this.text);
    this.node = element(this.isBlock ? "div" : "span", { class: this.isBlock ? "formula is-block" : "formula" });
    this.node.append(this.source);
    if (!this.isBlock) return;
    // A wide one scrolls by itself, and by the keyboard too.
    for (const [name, value] of Object.entries({ tabindex: "0", role: "group", "aria-label": "Formula" })) {
      this.node.setAttribute(name, value);
    }
  }

  update({ text, isOpen }) {
    growText(this.text, text);
    this.tex = text;
    waiting.delete(this);
    if (isOpen || text.length > MAX_CHARS || DEFINITION.test(text) || isExpensive(text)) return;
    waiting.add(this);
    if (isDrawing) return;
    isDrawing = true;
    drawWaiting();
  }

  draw(loaded) {
    if (this.#drawnTex === this.tex) return;
    this.#drawnTex = this.tex;
    const target = element("span");
    try {
      loaded.render(this.tex, target, { ...OPTIONS, displayMode: this.isBlock });
    } catch {
      // ParseError; or what a wrong formula makes of the parser: a TypeError, an array of its chemistry.
      this.#show(null);
      return;
    }
    this.#show(isFormula(target) ? [...target.childNodes] : null);
  }

  #show(nodes) {
    this.#drawn?.remove();
    this.#drawn = nodes === null ? null : element("span", { class: "formula-drawn" }, ...nodes);
    if (this.#drawn !== null) this.node.append(this.#drawn);
    this.source.hidden = nodes !== null;
  }
}

/** Whether the formula could hold the page up: it counts as three times its length for each command that repeats. */
function isExpensive(tex) {
  let repeating = 0;
  let depth = 0;
  for (const [sign] of tex.matchAll(SIGNS)) {
    if (sign === "{") depth += 1;
    else if (sign === "}") depth -= 1;
    else if (sign === "%" || sign === "\\verb") depth = Infinity; // the braces behind it may be text
    else if (sign === "\\ce" ? depth > 0 : REPEATING.test(sign)) repeating += 1;
  }
  return tex.length * 3 ** repeating > MAX_WORK_CHARS;
}

/** Whether there is nothing but MathML below the node; takes away the attributes that it must not have. */
function isFormula(root) {
  for (const node of root.querySelectorAll("*")) {
    if (node.namespaceURI !== MATHML) return false;
    for (const { name } of [...node.attributes]) if (FORBIDDEN.test(name)) node.removeAttribute(name);
  }
  return root.firstChild !== null;
}
