/**
 * The transcript: what one viewer has received of one stream, proven dense, and the fold over it.
 *
 * Rules
 * 1. Entries are kept as they came: when the server says that the tail after a cursor is void (`rewound`), the fold is
 *    rebuilt from what remains.
 * 2. An entry that is already there changes nothing; an entry that skips numbers without a gap notice is shown as a
 *    gap all the same. Both would be faults of the server, which this page must not hide.
 * 3. A gap is permanent and is shown in its place; nothing fills it later.
 *
 * Pure, like the fold.
 */

import { Fold, TERMINAL } from "./fold.js";

/** `<epoch>-<seq>` → {epoch, seq}, or null when it is no cursor. */
export function parseCursor(text) {
  const match = /^(\d{1,20})-(\d{1,20})$/.exec(text);
  return match === null ? null : { epoch: match[1], seq: Number(match[2]) };
}

export class Transcript {
  constructor() {
    this.entries = []; // {epoch, seq, event}, seq rising
    this.fold = new Fold();
    this.notices = []; // {kind, from, to, after}: after = how many entries stood before it
    this.revision = 0; // rises when earlier contents are void: a view must redraw
    this.seq = 0; // of the last entry or gap: what comes next is seq + 1
    this.lastId = null; // the cursor to resume from, as text
  }

  get isOver() {
    return this.fold.terminal !== null;
  }

  /** Add an entry. True when it is new. */
  enter(id, event) {
    const cursor = parseCursor(id);
    if (cursor === null || cursor.seq <= this.seq) return false;
    if (cursor.seq > this.seq + 1) this.note("missing", this.seq + 1, cursor.seq - 1);
    this.entries.push({ ...cursor, event });
    this.fold.apply(event);
    this.seq = cursor.seq;
    this.lastId = id;
    return true;
  }

  /** A gap notice: `reason` as sent, `id` the cursor that delivery continues from. */
  gap(id, { reason, from, to }) {
    const at = parseCursor(id) ?? { seq: reason === "reset" ? 0 : this.seq };
    if (reason === "rewound" || reason === "reset") this.keepUpTo(reason === "reset" ? 0 : at.seq);
    this.seq = at.seq;
    if (id) this.lastId = id;
    this.note(reason, from, to);
  }

  /** Forget every entry after `seq`. */
  keepUpTo(seq) {
    this.entries = this.entries.filter((entry) => entry.seq <= seq);
    this.notices = this.notices.filter((notice) => notice.after <= this.entries.length);
    this.fold = new Fold();
    for (const entry of this.entries) this.fold.apply(entry.event);
    this.revision += 1;
  }

  note(kind, from, to) {
    this.notices.push({ kind, from, to, after: this.entries.length });
  }
}

export const isTerminal = (event) => TERMINAL.has(event.type);
