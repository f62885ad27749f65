/**
 * Where a reader stands in a stream: which message is new, and which one proves that something is missing. Pure.
 *
 * Rules
 * 1. Entries are taken in rising order, each once: an entry at or below the last one is a double.
 * 2. The next entry has the next seq. If it has another one, entries are missing without a gap: the connection is
 *    useless (`Lost`), and the reader reconnects after the last entry that it has taken.
 * 3. A gap moves the reader to the gap's cursor, backwards too; the entry after it may have any higher seq.
 */

import { badAnswer } from "./errors.js";

/** The connection is of no more use, and the next one may be. */
export class Lost extends Error {}

/** The cursor before the first entry. */
export const START = "0-0";

/** `<epoch>-<seq>` → {epoch, seq}. The epoch stays text: it may be larger than a number can be exactly. */
export function parseCursor(text) {
  const [, epoch, seq] = /^(0|[1-9]\d{0,19})-(0|[1-9]\d{0,15})$/.exec(text) ?? [];
  if (!epoch) throw badAnswer(`not a message of a front-end: its id is "${text}"`);
  return { epoch, seq: +seq };
}

/** Whether cursor `a` is after cursor `b`. */
export function isAfter(a, b) {
  return a.epoch === b.epoch ? a.seq > b.seq : BigInt(a.epoch) > BigInt(b.epoch);
}

export class Position {
  #at;
  #followsGap = false;

  /** `after`: the cursor to begin after, as text, or null. */
  constructor(after) {
    this.#at = parseCursor(after ?? START);
    this.cursor = after;
  }

  /** Whether the entry of this id is the next one. False for a double. Throws Lost. */
  accepts(id) {
    const next = parseCursor(id);
    if (!isAfter(next, this.#at)) return false;
    if (!this.#followsGap && next.seq !== this.#at.seq + 1) throw new Lost(`${id} cannot follow ${this.cursor ?? "the start"}`);
    return true;
  }

  /** Take the entry of this id. */
  enter(id) {
    this.gap(id);
    this.#followsGap = false;
  }

  /** Delivery continues after the gap's cursor. */
  gap(id) {
    this.#at = parseCursor(id);
    this.cursor = id;
    this.#followsGap = true;
  }
}
