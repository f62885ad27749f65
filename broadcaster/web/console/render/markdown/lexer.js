/**
 * Markdown text → tokens, as marked gives them, with formulas: `$…$`, `\(…\)` and, in lines of their own, `$$…$$` and
 * `\[…\]`. Pure.
 *
 * Text that is nested too deep is one token of type `plain`, and emphasis and links of a paragraph that is too long are
 * left as they were written: reading those takes time that grows with the square of the length.
 */

import { Lexer, Marked } from "../../vendor/marked/marked.esm.js";

const BLOCKS = [
  [/^ {0,3}\$\$((?:(?!\n[ \t]*\n)[^])*?)\$\$[ \t]*(?:\n|$)/, /^ {0,3}\$\$(?!\$)((?:(?!\n[ \t]*\n|\$\$)[^])*)$/],
  [/^ {0,3}\\\[((?:(?!\n[ \t]*\n)[^])*?)\\\][ \t]*(?:\n|$)/, /^ {0,3}\\\[((?:(?!\n[ \t]*\n|\\\])[^])*)$/],
];
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

function formulaBlock(given) {
  const source = given.slice(0, MAX_BLOCK_CHARS);
  for (const [closed, open] of BLOCKS) {
    const found = closed.exec(source) ?? (source === given ? open.exec(source) : null);
    if (found) return { type: "formula", raw: found[0], text: found[1].trim(), isOpen: !closed.test(source) };
  }
  return undefined;
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
  // A line below a formula underlines what follows the formula, as it does where the text comes letter by letter.
  lheading(source) {
    return FORMULA_LINE.test(this.rules.block.lheading.exec(source)?.[0] ?? "") ? undefined : false;
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
  if (TOO_DEEP.test(source)) return [plain(source)];
  const lexer = new Lexer(marked.defaults);
  lexer.tokens.links = links;
  try {
    lexer.blockTokens(source, lexer.tokens);
    for (const { src, tokens } of lexer.inlineQueue) readInline(lexer, src, tokens);
    return [...lexer.tokens];
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return [plain(source)];
  }
}

const plain = (source) => ({ type: "plain", raw: source, text: source });

function readInline(lexer, source, tokens) {
  lexer.state.inRawBlock = false;
  if (source.length > MAX_INLINE_CHARS) tokens.push({ type: "escape", raw: source, text: source });
  else lexer.inlineTokens(source, tokens);
}
