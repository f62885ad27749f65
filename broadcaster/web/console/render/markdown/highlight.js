/**
 * The colours of code: highlight.js finds the ranges, and the browser paints them (CSS Custom Highlight API). The nodes of
 * the code are not touched; a browser without that API shows the code in one colour.
 *
 * highlight.js is loaded with the first block whose language it knows.
 */

import { rangeFinder } from "./range_finder.js";

const MAX_CHARS = 60_000;
// An open block is coloured again at most every so often, and longer ones more rarely.
const OPEN_MS = 200;

const LANGUAGES = {
  bash: ["Bash", "sh", "zsh", "shell", "console"],
  c: ["C", "h"],
  cpp: ["C++", "c++", "cc", "hpp"],
  csharp: ["C#", "cs", "c#"],
  css: ["CSS"],
  diff: ["Diff", "patch"],
  go: ["Go", "golang"],
  graphql: ["GraphQL", "gql"],
  ini: ["INI", "toml"],
  java: ["Java"],
  javascript: ["JavaScript", "js", "jsx", "mjs", "cjs", "node"],
  json: ["JSON", "jsonc", "json5"],
  kotlin: ["Kotlin", "kt"],
  less: ["Less"],
  lua: ["Lua"],
  makefile: ["Makefile", "make"],
  markdown: ["Markdown", "md"],
  perl: ["Perl", "pl"],
  php: ["PHP"],
  python: ["Python", "py", "python3"],
  r: ["R"],
  ruby: ["Ruby", "rb"],
  rust: ["Rust", "rs"],
  scss: ["SCSS"],
  sql: ["SQL", "postgresql", "sqlite", "mysql"],
  swift: ["Swift"],
  typescript: ["TypeScript", "ts", "tsx"],
  xml: ["XML", "html", "svg", "xhtml"],
  yaml: ["YAML", "yml"],
};
const NAMES = new Map(
  Object.entries(LANGUAGES).flatMap(([name, [, ...aliases]]) => [name, ...aliases].map((alias) => [alias, name])),
);
// The aliases that have a name of their own.
const SHOWN = new Map(Object.entries({ html: "HTML", svg: "SVG", tsx: "TSX", jsx: "JSX", toml: "TOML" }));
/** The language's name for people; an unknown one is shown as it was written. */
export function languageName(language) {
  const alias = language.toLowerCase();
  return SHOWN.get(alias) ?? LANGUAGES[NAMES.get(alias)]?.[0] ?? language;
}

export const languageOf = (language) => NAMES.get(language.toLowerCase()) ?? null;

// Those that have ranges on the page.
const painted = new Set();

/** The colours of one text node. */
export class Colours {
  #node;
  #name = null;
  #isOpen = false;
  #ranges = [];
  #drawn = "";
  #timer = null;
  #isDrawing = false;
  #isCostly = false;

  constructor(node) {
    this.#node = node;
  }

  /** Colour the text soon. */
  update(language, { isOpen }) {
    this.#name = languageOf(language);
    this.#isOpen = isOpen;
    this.#plan();
  }

  #plan() {
    const text = this.#node.data;
    if (this.#name === null || typeof Highlight !== "function" || text.length > MAX_CHARS) return;
    if (text === this.#drawn || this.#isCostly || this.#isDrawing || (this.#timer !== null && this.#isOpen)) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#draw(), this.#isOpen ? OPEN_MS + text.length / 20 : 0);
  }

  async #draw() {
    this.#timer = null;
    this.#isDrawing = true;
    const text = this.#node.data;
    const ranges = await rangeFinder.find(text, this.#name);
    this.#isDrawing = false;
    this.#isCostly = ranges === null;
    if (ranges !== null && this.#node.data.startsWith(text)) this.#paintAll(text, ranges);
    this.#plan();
  }

  #paintAll(text, ranges) {
    this.#drawn = text;
    this.#clear();
    for (const [from, to, colour] of ranges) this.#paint(from, to, colour);
    painted.add(this);
    sweep();
  }

  #paint(from, to, colour) {
    const node = this.#node;
    const range = new StaticRange({ startContainer: node, startOffset: from, endContainer: node, endOffset: to });
    const name = `code-${colour}`;
    if (!CSS.highlights.has(name)) CSS.highlights.set(name, new Highlight());
    CSS.highlights.get(name).add(range);
    this.#ranges.push({ name, range });
  }

  #clear() {
    for (const { name, range } of this.#ranges) CSS.highlights.get(name).delete(range);
    this.#ranges = [];
  }

  /** Whether the text is no longer on the page; its ranges are taken back then. */
  clearGone() {
    if (this.#node.isConnected) return false;
    this.#clear();
    return true;
  }
}

/** The registry of the page would keep the answers that it no longer shows. */
function sweep() {
  for (const colours of painted) if (colours.clearGone()) painted.delete(colours);
}
