/** How long a job will still take, from what its progress was. Pure: the caller gives the time. */

const WINDOW_MS = 60_000;
const LEAST_MS = 1000;
const SPACING_MS = 250;

export class Eta {
  #samples = []; // {at, done}, oldest first
  #total = null;

  /** Note the progress at a time in ms. A job that begins anew, or learns of more to do, is measured anew. */
  note({ done, total }, at) {
    const last = this.#samples.at(-1);
    if (total !== this.#total || (last !== undefined && done < last.done)) this.#samples = [];
    this.#total = total;
    const previous = this.#samples.at(-2);
    // Of reports of one moment, such as a history that is drawn at once, only the last one says how far the job was then.
    const isOfLast = last !== undefined && this.#samples.length > 0 && last.at === at;
    if (isOfLast || (previous !== undefined && last.at - previous.at < SPACING_MS)) this.#samples.pop();
    this.#samples.push({ at, done });
    while (this.#samples.length > 2 && at - this.#samples[1].at > WINDOW_MS) this.#samples.shift();
  }

  /** The seconds left at a time in ms; null when that cannot be known. */
  secondsLeft(at) {
    const [first, last] = [this.#samples[0], this.#samples.at(-1)];
    if (first === undefined || last.at - first.at < LEAST_MS || last.done <= first.done) return null;
    const msPerUnit = (last.at - first.at) / (last.done - first.done);
    const left = (this.#total - last.done) * msPerUnit - (at - last.at);
    // Later than expected: it will come when it comes.
    return left < 0 ? null : left / 1000;
  }
}

/** "about 40 s left"; "" when it is not known. */
export function leftText(seconds) {
  if (seconds === null) return "";
  if (seconds < 55) return `about ${Math.max(1, Math.ceil(seconds / 5) * 5)} s left`;
  if (seconds < 3300) return `about ${Math.ceil(seconds / 60)} min left`;
  if (seconds < 84_600) return `about ${Math.round(seconds / 3600)} h left`;
  return `about ${Math.round(seconds / 86_400)} d left`;
}

/** How long something took: "0.4 s", "12 s", "3 min 5 s". */
export function durationText(ms) {
  if (ms < 9950) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  return seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}
