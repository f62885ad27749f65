/** The timeline below one answer: folded away until it is opened, and drawn only then. */

import { serverNow } from "../server_clock.js";
import { observers } from "../stream.js";
import { courseOf } from "./course.js";
import { Picture } from "./picture.js";
import { Rows } from "./rows.js";

const REDRAW_MS = 1000;

export class AnswerTimeline {
  /** `stream` is the answer's. */
  constructor(stream) {
    this.stream = stream;
    this.rows = new Rows();
    this.picture = new Picture();
    this.times = null;
    this.timer = null;
    const summary = document.createElement("summary");
    summary.textContent = "Timeline";
    this.root = document.createElement("details");
    this.root.className = "timeline";
    this.root.dataset.testid = "timeline";
    this.root.hidden = true;
    this.root.append(summary, this.picture.root);
    this.root.addEventListener("toggle", () => this.draw());
    this.observe = (observed, update) => observed === stream && this.note(update);
    observers.add(this.observe);
  }

  /** The answer is no longer on the page. */
  close() {
    observers.delete(this.observe);
    clearTimeout(this.timer);
  }

  note(update) {
    if (this.rows.note(update, serverNow())) this.draw();
  }

  /** `state` is the API's newest document of the generation, or null. */
  setState(state) {
    if (typeof state?.created_at !== "number") return;
    this.times = { createdAt: state.created_at, endedAt: state.ended_at ?? null };
    this.draw();
  }

  draw() {
    clearTimeout(this.timer);
    const { rows } = this.rows;
    this.root.hidden = this.times === null || rows.length === 0;
    if (this.root.hidden || !this.root.open) return;
    const isOver = rows.at(-1).kind === "end";
    this.endedAt = isOver ? (this.times.endedAt ?? this.endedAt ?? serverNow()) : null;
    this.picture.draw(courseOf({ createdAt: this.times.createdAt, endedAt: this.endedAt, now: serverNow(), rows }));
    if (!isOver) this.timer = setTimeout(() => this.draw(), REDRAW_MS);
  }
}
