/**
 * The open end of a Markdown text, while it is being written, as it will most likely be read: without this, `**bol` would
 * show its stars until the closing ones come, and each list would begin as a heading. Pure.
 */

// A line that may become anything: a rule, a heading, an item, a fence, a row.
const UNDECIDED = /(?:^|\n)[ \t]*(?:>[ \t]*)*(?:[-+*_=#>~`|:$]+|\d{1,9}[.)]?|[-+*][ \t]+\[?[ xX]?\]?|\\\[?|(?:`{3}|~{3})[^\n]*)$/;
const TABLE_HEAD = /(?:^|\n)[ \t]*\|[^\n]*(?:\n[ \t|:-]*)?$/;
const OPENING = /^(?:\s|>|[-*+]\s|\d{1,9}[.)]\s|\[[ xX]\]\s|#{1,6}\s)*/;
const OPEN_LINK = /!?\[([^\]\n]*)\]\([^)\n]*$/;
// Reading a line takes time that grows with the square of its length, and longer ones have no markup (lexer.js).
const MAX_LINE_CHARS = 6000;
const RUN = /^(?:\*{1,3}|_{1,3}|~~)/;

/** The source of the open block with its end held back, or completed. A last line that is very long is left as it is. */
export function settled(source) {
  if (source.length - source.lastIndexOf("\n", source.length - 2) > MAX_LINE_CHARS) return source;
  const held = decided(source).replace(/\n$/, "");
  const at = held.lastIndexOf("\n") + 1;
  const last = held.slice(at);
  return held.slice(0, at) + (last.length > MAX_LINE_CHARS ? last : completed(last));
}

/** Without a last line whose meaning the next characters decide. */
function decided(source) {
  const at = Math.max(0, source.lastIndexOf("\n"));
  const undecided = headOfTable(source)?.index ?? (UNDECIDED.test(source.slice(at)) ? at : null);
  return undecided === null ? source : source.slice(0, undecided);
}

/** The first row of a table, and the line under it: a table only when both are there. */
function headOfTable(source) {
  const found = TABLE_HEAD.exec(source);
  return found !== null && !source.slice(0, found.index).trimEnd().endsWith("|") ? found : null;
}

/** A line with its open emphasis closed, and without the beginnings of links and formulas. */
export function completed(line) {
  const opening = OPENING.exec(line)[0];
  const text = line.slice(opening.length).replace(OPEN_LINK, "$1");
  const { end, open } = scan(text);
  if (open.length === 0) return opening + text.slice(0, end);
  const kept = text.slice(0, end).trimEnd();
  const closers = open.filter(({ at }) => at < kept.length).reverse();
  const content = closers.length < open.length ? kept.slice(0, open[closers.length].from).trimEnd() : kept;
  return opening + content + closers.map(({ run }) => run).join("");
}

/** What is still open at the end of a text, outermost first; `end` is where an undecided end begins. */
function scan(text) {
  const open = [];
  let at = 0;
  while (at < text.length) {
    const rest = text.slice(at);
    const [code] = /^`+/.exec(rest) ?? [""];
    const [run] = RUN.exec(rest) ?? [""];
    if (code !== "") {
      const close = closingOf(code, text, at + code.length);
      if (close < 0) return opened(open, { text, from: at, run: code });
      at = close + code.length;
    } else if (rest.startsWith("\\(") && !rest.includes("\\)")) {
      return { end: at, open };
    } else if (run !== "") {
      if (!turn(open, { text, from: at, run })) return { end: at, open };
      at += run.length;
    } else {
      at += rest[0] === "\\" ? 2 : 1;
    }
  }
  return { end: text.length, open };
}

function closingOf(code, text, from) {
  for (let at = text.indexOf(code, from); at >= 0; ) {
    let end = at;
    while (text[end] === "`") end += 1;
    if (end - at === code.length) return at;
    at = text.indexOf(code, end);
  }
  return -1;
}

/** Code that is open: nothing in it is markup. */
function opened(open, { text, from, run }) {
  const at = from + run.length;
  if (at >= text.length) return { end: from, open };
  const ticks = /`+$/.exec(text)?.[0].length ?? 0;
  return { end: text.length - ticks, open: [...open, { run, from, at }] };
}

/** Close what the run closes, or open it; false when the run stands at the end, where it may become either. */
function turn(open, { text, from, run }) {
  const [before = " ", after] = [text[from - 1], text[from + run.length]];
  const isClosing = open.at(-1)?.run === run && !/\s/.test(before);
  if (isClosing) open.pop();
  else if (after === undefined) return false;
  else if (!/\s/.test(after) && !(run[0] === "_" && /\w/.test(before))) open.push({ run, from, at: from + run.length });
  return true;
}
