/** When a part of an answer began and ended, as this page saw it. What came before the page watched has no times. */

import { durationText } from "./eta.js";

const SHOWN_MS = 2000;

export class Stopwatch {
  #began = null;
  #took = null;

  /** `isRunning`: the part is not over. `isLive`: what it does, it does now. */
  note(isRunning, { isLive, now }) {
    if (isRunning && isLive) this.#began ??= now;
    if (!isRunning && this.#began !== null) this.#took ??= now - this.#began;
  }

  /** "3.2 s", "" when it is not known, or is not worth showing yet. */
  text(now) {
    if (this.#took !== null) return durationText(this.#took);
    if (this.#began === null || now - this.#began < SHOWN_MS) return "";
    return durationText(Math.floor((now - this.#began) / 1000) * 1000).replace(".0", "");
  }
}
