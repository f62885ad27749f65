/**
 * The turns on the page, oldest first. The last one is followed at once; the streams of the earlier ones are read one or
 * two at a time, newest first, because browsers allow six connections to one HTTP/1.1 server.
 */

import { byId, place } from "../dom.js";
import { Turn } from "./turn.js";

const READ_AT_ONCE = 2;

export class Thread {
  /** See `Turn`; `onState` is called after the thread has begun the next stream. */
  constructor({ onChange, onState }) {
    this.root = byId("thread");
    this.turns = [];
    this.waiting = [];
    this.reading = new Set();
    this.changed = new Set();
    this.onState = onState;
    this.listeners = {
      onChange: (turn) => {
        this.changed.add(turn);
        onChange();
      },
      onState: (turn, state) => this.note(turn, state),
    };
  }

  get last() {
    return this.turns.at(-1) ?? null;
  }

  /** Show these turns; those that are there already stay as they are. */
  show(turns, actions) {
    const known = new Map(this.turns.map((turn) => [turn.id, turn]));
    const next = turns.map((turn) => known.get(turn.id) ?? new Turn(turn, { ...this.listeners, actions }));
    const left = this.turns.filter((turn) => !next.includes(turn));
    const added = next.filter((turn) => !known.has(turn.id));
    this.turns = next;
    for (const turn of left) this.leave(turn);
    for (const turn of next) this.changed.add(turn);
    place(this.root, next.map(({ root }) => root));
    this.waiting.push(...added.filter((turn) => turn !== this.last));
    if (added.includes(this.last)) this.last.open();
    this.readNext();
  }

  leave(turn) {
    this.waiting = this.waiting.filter((each) => each !== turn);
    this.reading.delete(turn);
    this.changed.delete(turn);
    turn.stream.close();
    turn.timeline.close();
    turn.answerView.close();
  }

  note(turn, state) {
    if (!this.turns.includes(turn)) return;
    this.changed.add(turn);
    if (!turn.stream.isOpen && state.name !== "paused" && this.reading.delete(turn)) this.readNext();
    this.onState(turn, state);
  }

  readNext() {
    while (this.reading.size < READ_AT_ONCE && this.waiting.length > 0) {
      const turn = this.waiting.pop();
      this.reading.add(turn);
      turn.open();
    }
  }

  /** Draw what has changed. */
  draw() {
    for (const turn of this.changed) turn.draw({ isLast: turn === this.last });
    this.changed.clear();
  }

  redraw(turn) {
    if (this.turns.includes(turn)) this.changed.add(turn);
  }

  pause() {
    for (const turn of this.turns) turn.stream.pause();
  }

  resume() {
    for (const turn of this.turns) turn.stream.resume();
  }

  unlock() {
    for (const turn of this.turns) turn.stream.unlock();
  }
}
