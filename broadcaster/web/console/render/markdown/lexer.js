/**
 * Markdown text → tokens, as marked gives them, with formulas: `$…$`, `\(…\)` and, in lines of their own, `$$…$$` and
 * `\[…\]`. Pure.
 *
 * Text that is nested too deep, or has too many lines that may begin tables, is one token of type `plain`, and emphasis
 * and links of a paragraph that is too long are left as they were written: reading those takes time that grows with the
 * square of the length.
 */

import { Lexer, Marked, Tokenizer } from "../../vendor/marked/marked.esm.js";

const OPENING = /^ {0,3}(\$\$|\\\[)/;
const CLOSING = { $$: "$$", "\\[": "\\]" };
const BLANK_LINE = /\n[ \t]*\n/g;
// An amount of money is no formula: no space inside the dollars, no digit behind them.
const INLINE = [
  /^\$\$((?:\\[^]|[^\\$\n])+)\$\$/,
  /^\$(?![\s$])((?:\\[^]|[^\\$\n])*(?:\\[^]|[^\\$\s]))\$(?!\d)/,
  /^\\\(((?:(?!\\\))[^])+)\\\)/,
  /^\\\[((?:(?!\\\])[^])+)\\\]/,
];
const MAX_FORMULA_CHARS = 2000;
const MAX_BLOCK_CHARS = 6000;
const MAX_INLINE_CHARS = 6000;
const MAX_SPARSE_CELLS = 2000;
const TOO_DEEP = /^(?:[ \t]*>){32}/m;
// Below each line that may begin a table, marked searches all lines up to the next blank one.
const DELIMITER_LINE = /^[ \t>]*[|:-][ \t|:-]*$/gm;
const MAX_DELIMITER_LINES = 50;

// How many characters the search for the ends of formulas may pass in one text: without a bound, each line that opens a
// formula and has no end would be followed by another search of all that comes after it. Further openings are text.
const MAX_PASSED_CHARS = 400_000;
let passedChars = 0;

/**
 * A formula in lines of its own; without an end it is open, where the text ends. The first end marker decides: with text
 * behind it, or below a blank line, there is no such formula. A later marker could not be seen while the text grows.
 */
function formulaBlock(source) {
  const [opening, marker] = OPENING.exec(source) ?? [];
  if (opening === undefined || passedChars > MAX_PASSED_CHARS) return undefined;
  const searched = source.slice(0, MAX_BLOCK_CHARS);
  BLANK_LINE.lastIndex = opening.length;
  const limit = BLANK_LINE.exec(searched)?.index ?? searched.length;
  const at = searched.indexOf(CLOSING[marker], opening.length);
  const isOpen = at < 0 && limit === source.length && !searched.startsWith("$$$");
  if (isOpen) return { type: "formula", raw: source, text: source.slice(opening.length).trim(), isOpen };
  const end = at >= 0 && at < limit ? endOfLine(source, at + CLOSING[marker].length) : null;
  passedChars += end ?? limit;
  if (end === null) return undefined;
  return { type: "formula", raw: source.slice(0, end), text: source.slice(opening.length, at).trim(), isOpen };
}

/** Behind the line, if nothing but space is left of it; else null. */
function endOfLine(source, from) {
  let at = from;
  while (source[at] === " " || source[at] === "\t") at += 1;
  if (at === source.length) return at;
  return source[at] === "\n" ? at + 1 : null;
}

function formula(source) {
  if (!/^[$\\]/.test(source)) return undefined;
  const start = source.slice(0, MAX_FORMULA_CHARS);
  const found = INLINE.map((pattern) => pattern.exec(start)).find(Boolean);
  return found && { type: "inlineFormula", raw: found[0], text: found[1].trim() };
}

const startOf = (pattern) => (source) => {
  const at = source.search(pattern);
  return at < 0 ? undefined : at;
};

const DELIMITERS = /^[^\n]*\n([ \t:|-]*)(?:\n|$)/;

/** Whether a table would have more cells than characters: marked fills up each row to the number of the columns. */
function isSparse(source) {
  const [head, delimiters] = DELIMITERS.exec(source) ?? ["", ""];
  const end = source.indexOf("\n\n", head.length);
  const body = end < 0 ? source.slice(head.length) : source.slice(head.length, end);
  const cells = (delimiters.split("|").length + 1) * (body.split("\n").length + 1);
  return cells > Math.max(MAX_SPARSE_CELLS, body.length);
}

const FORMULA_LINE = /\n {0,3}(?:\$\$|\\\[)/;

// undefined: it is no such block; false: marked decides.
const tokenizer = {
  table: (source) => (DELIMITERS.test(source) && isSparse(source) ? undefined : false),
  // A line below a formula underlines what follows the formula, as it does where the text comes letter by letter. Nor is
  // it looked for there: below each of many lines that open formulas, that would be the whole rest of the text.
  lheading(source) {
    const end = source.search(FORMULA_LINE);
    return Tokenizer.prototype.lheading.call(this, end < 0 ? source : source.slice(0, end + 1));
  },
};

const marked = new Marked({
  gfm: true,
  tokenizer,
  extensions: [
    { name: "formula", level: "block", start: startOf(/(?<=\n) {0,3}(?:\$\$|\\\[)/), tokenizer: formulaBlock },
    { name: "inlineFormula", level: "inline", start: startOf(/\$|\\[([]/), tokenizer: formula },
  ],
});

/** The blocks of a text. `links` are the link definitions found so far: those of this text are added. */
export function blocksOf(source, links) {
  if (TOO_DEEP.test(source) || hasManyTables(source)) return [plain(source)];
  const lexer = new Lexer(marked.defaults);
  lexer.tokens.links = links;
  passedChars = 0;
  try {
    lexer.blockTokens(source, lexer.tokens);
    for (const { src, tokens } of lexer.inlineQueue) readInline(lexer, src, tokens);
    return [...lexer.tokens];
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return [plain(source)];
  }
}

const hasManyTables = (source) =>
  source.split(/\n[ \t]*\n/).some((block) => (block.match(DELIMITER_LINE)?.length ?? 0) > MAX_DELIMITER_LINES);

const plain = (source) => ({ type: "plain", raw: source, text: source });

function readInline(lexer, source, tokens) {
  lexer.state.inRawBlock = false;
  if (source.length > MAX_INLINE_CHARS) tokens.push({ type: "escape", raw: source, text: source });
  else lexer.inlineTokens(source, tokens);
}
