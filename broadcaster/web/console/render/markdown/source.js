/**
 * A Markdown text that grows, as blocks that are whole and blocks that are still open. Pure.
 *
 * Rules
 * 1. A block is whole when another one has begun behind it and the first line of that one is complete; a paragraph without
 *    a blank line behind it, when that one is whole. It is given once: what comes later does not change it.
 * 2. `step` reads at most one window of text, so that a long text can be read in steps.
 * 3. The lines of an open fence are not read again: it grows by its new lines.
 * 4. A block that is longer than MAX_WINDOW_CHARS is cut at a line.
 * 5. A link's definition counts for the blocks that are read after it. It is drawn, too.
 */

import { blocksOf } from "./lexer.js";
import { settled } from "./pending.js";

const WINDOW_CHARS = 16_384;
const MAX_WINDOW_CHARS = 65_536;
const FENCE = /^( {0,3})(`{3,}(?=[^`\n]*\n)|~{3,}(?!~))([^\n]*)\n/;

export class MarkdownSource {
  #text = "";
  #taken = 0;
  #place = 0; // what stands before it is in blocks that are whole
  #window = WINDOW_CHARS;
  #fence = null;
  #links = Object.create(null);
  #isOver = false;
  #isRead = true;

  /** The blocks behind those that `step` gave, as far as they have come. */
  open = [];

  /** Take the text so far: the earlier one, and perhaps more. `isOver`: no more will come. */
  write(text, { isOver = false } = {}) {
    if (text.length === this.#taken && isOver === this.#isOver) return;
    this.#text += text.slice(this.#taken).replaceAll("\r", "");
    this.#taken = text.length;
    this.#isOver = isOver;
    this.#isRead = false;
  }

  /** Whether `step` has something to read. */
  get isBehind() {
    return !this.#isRead;
  }

  /** The blocks that have become whole. */
  step() {
    return this.#fence === null ? this.#readBlocks() : this.#readFence();
  }

  #readBlocks() {
    const isCut = this.#text.length - this.#place > this.#window;
    const source = this.#windowed(isCut);
    const tokens = this.#lexed(source);
    const whole = tokens.slice(0, this.#countWhole(tokens, { source, isCut }));
    const length = lengthOf(whole);
    this.#place += length;
    this.#window = isCut && length === 0 ? 2 * this.#window : WINDOW_CHARS;
    const rest = source.slice(length);
    if (this.#entersFence(tokens.at(-1), rest)) return whole;
    this.#isRead = !isCut;
    this.open = isCut || rest === "" ? tokens.slice(whole.length) : blocksOf(settled(rest), this.#links);
    return whole;
  }

  /** The text to read now; where it is cut, at the end of a line. */
  #windowed(isCut) {
    const source = this.#text.slice(this.#place, this.#place + this.#window);
    const at = source.lastIndexOf("\n") + 1;
    return isCut && at > 0 ? source.slice(0, at) : source;
  }

  #lexed(source) {
    const tokens = blocksOf(source, this.#links);
    return lengthOf(tokens) === source.length ? tokens : [{ type: "plain", raw: source, text: source }];
  }

  /** Rules 1 and 4. */
  #countWhole(tokens, { source, isCut }) {
    const isLast = this.#isOver && !isCut;
    if (isLast || (isCut && this.#window >= MAX_WINDOW_CHARS && !isOpenFence(tokens.at(-1)))) return tokens.length;
    let last = lastBlock(tokens);
    const hasLine = source.indexOf("\n", lengthOf(tokens.slice(0, last))) >= 0;
    if (!hasLine) last = lastBlock(tokens.slice(0, Math.max(0, last)));
    while (isContinued(tokens[last - 1])) last -= 1;
    return Math.max(0, last);
  }

  /** Rule 3. */
  #entersFence(token, rest) {
    if (this.#isOver && this.#place === this.#text.length) return false;
    const found = token?.raw === rest && isOpenFence(token) ? FENCE.exec(rest) : null;
    if (found === null) return false;
    const [opening, indent, marker] = found;
    const closing = new RegExp(`^ {0,3}${marker[0]}{${marker.length},}[ \\t]*$`);
    this.#fence = { closing, lang: token.lang, indent: new RegExp(`^ {0,${indent.length}}`), text: "" };
    this.#place += opening.length;
    this.open = [this.#fenceToken("", { isOpen: true })];
    return true;
  }

  #readFence() {
    const { closing, indent } = this.#fence;
    const until = this.#place + MAX_WINDOW_CHARS;
    for (let end; (end = this.#text.indexOf("\n", this.#place)) >= 0; ) {
      const line = this.#text.slice(this.#place, end);
      this.#place = end + 1;
      if (closing.test(line)) return this.#endFence(this.#place);
      this.#fence.text += `${line.replace(indent, "")}\n`;
      if (this.#place > until) return [];
    }
    const line = this.#text.slice(this.#place);
    const isMarker = /^ {0,3}[`~]+[ \t]*$/.test(line);
    const shown = this.#isOver ? closing.test(line) : isMarker;
    const tail = shown ? "" : line.replace(indent, "");
    if (this.#isOver) {
      this.#fence.text += tail;
      return this.#endFence(this.#text.length);
    }
    this.open = [this.#fenceToken(tail, { isOpen: true })];
    this.#isRead = true;
    return [];
  }

  #endFence(place) {
    const token = this.#fenceToken("", { isOpen: false });
    this.#fence = null;
    this.#place = place;
    this.open = [];
    this.#isRead = place === this.#text.length;
    return [token];
  }

  #fenceToken(tail, { isOpen }) {
    const { lang, text } = this.#fence;
    return { type: "code", raw: text + tail, lang, text: text + tail, isOpen };
  }
}

const lengthOf = (tokens) => tokens.reduce((length, { raw }) => length + raw.length, 0);

const lastBlock = (tokens) => tokens.findLastIndex(({ type }) => type !== "space");

/** Whether what follows may yet turn out to belong to the paragraph. */
const isContinued = (token) => token?.type === "paragraph" && !/\n[ \t]*\n$/.test(token.raw);

/** Whether the token is a fence without its end. */
function isOpenFence(token) {
  const found = token?.type === "code" ? FENCE.exec(token.raw) : null;
  if (found === null) return false;
  const [opening, , marker] = found;
  const lines = token.raw.slice(opening.length).split("\n");
  return !lines.some((line) => new RegExp(`^ {0,3}${marker[0]}{${marker.length},}[ \\t]*$`).test(line));
}
