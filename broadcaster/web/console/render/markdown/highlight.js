/**
 * The colours of code: highlight.js finds the ranges, and the browser paints them (CSS Custom Highlight API). The nodes of
 * the code are not touched; a browser without that API shows the code in one colour.
 *
 * It is loaded with the first block whose language it knows.
 */

const MAX_CHARS = 60_000;
// Patterns of highlight.js take time that grows with the square of the length of a line, and of a text without other signs.
const RUNS = [/[^\n]+/g, /[\w\s.-]+/g];
const MAX_COST = 10_000_000;
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
// The scopes that have a colour in answer.css; the part behind the dot may add another.
const SCOPES = {
  keyword: "keyword",
  built_in: "type",
  type: "type",
  literal: "literal",
  number: "literal",
  string: "string",
  regexp: "string",
  symbol: "literal",
  comment: "comment",
  doctag: "comment",
  quote: "comment",
  meta: "meta",
  title: "title",
  section: "title",
  name: "title",
  attr: "attribute",
  attribute: "attribute",
  variable: "attribute",
  property: "attribute",
  params: null,
  tag: null,
  selector: "title",
  addition: "addition",
  deletion: "deletion",
};

let highlighter = null;

/** The language's name for people; an unknown one is shown as it was written. */
export function languageName(language) {
  const alias = language.toLowerCase();
  return SHOWN.get(alias) ?? LANGUAGES[NAMES.get(alias)]?.[0] ?? language;
}

export const languageOf = (language) => NAMES.get(language.toLowerCase()) ?? null;

/** Notes the scopes instead of building HTML, as ranges that do not overlap: [start, end, scope]. */
class RangeEmitter {
  constructor() {
    this.ranges = [];
    this.length = 0;
    this.open = [];
  }

  addText(text) {
    const scope = this.open.at(-1);
    if (scope !== undefined) this.ranges.push([this.length, this.length + text.length, scope]);
    this.length += text.length;
  }

  openNode(scope) {
    this.open.push(scope);
  }

  closeNode() {
    this.open.pop();
  }

  startScope(scope) {
    this.openNode(scope);
  }

  endScope() {
    this.closeNode();
  }

  __addSublanguage(emitter) {
    for (const [from, to, scope] of emitter.ranges) this.ranges.push([from + this.length, to + this.length, scope]);
    this.length += emitter.length;
  }

  finalize() {
    return true;
  }

  toHTML() {
    return "";
  }
}

/** highlight.js, or null when the server does not give it: the next block tries once more. */
async function load() {
  highlighter ??= import("../../vendor/highlight/highlight.min.js");
  try {
    const { default: hljs } = await highlighter;
    hljs.configure({ __emitter: RangeEmitter });
    return hljs;
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    highlighter = null;
    return null;
  }
}

function isCostly(text) {
  return RUNS.some((pattern) => {
    let cost = 0;
    for (const [run] of text.matchAll(pattern)) cost += run.length ** 2;
    return cost > MAX_COST;
  });
}

/** The ranges of a text: [start, end, colour]. A text that would take long has none. */
export async function rangesOf(text, name) {
  if (isCostly(text)) return [];
  const hljs = await load();
  if (hljs === null) return [];
  const { _emitter } = hljs.highlight(text, { language: name, ignoreIllegals: true });
  const coloured = _emitter.ranges.map(([from, to, scope]) => [from, to, SCOPES[scope.split(/[.-]/)[0]]]);
  return coloured.filter(([from, to, colour]) => colour && from < to);
}

// Those that have ranges on the page.
const painted = new Set();

/** The colours of one text node. */
export class Colours {
  #node;
  #ranges = [];
  #drawn = "";
  #timer = null;

  constructor(node) {
    this.#node = node;
  }

  /** Colour the text soon. */
  update(language, { isOpen }) {
    const name = languageOf(language);
    const text = this.#node.data;
    if (name === null || typeof Highlight !== "function" || text.length > MAX_CHARS || text === this.#drawn) return;
    if (this.#timer !== null && isOpen) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#draw(name), isOpen ? OPEN_MS + text.length / 20 : 0);
  }

  async #draw(name) {
    this.#timer = null;
    const text = this.#node.data;
    const ranges = await rangesOf(text, name);
    if (!this.#node.data.startsWith(text)) return;
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
