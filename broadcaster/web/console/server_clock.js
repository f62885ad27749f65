/**
 * The server's clock: the browser's, and the offset between the two, which the calls of this page bound.
 *
 * Rules
 * 1. A time that the server names in a response was its time at some moment between the request and the response.
 * 2. The bounds of all responses hold together. Where the newest contradict them, a clock was set: they hold alone.
 * 3. An offset that may be zero is zero.
 */

// A Date is cut to the second, and a front-end renews it once a second.
const DATE_S = 2;
// What the documents hold is cut to the millisecond.
const STAMP_S = 0.001;

export class Offset {
  #least = -Infinity;
  #most = Infinity;

  /** The server's clock was between `from` and `to` when the browser's was between `sentAt` and `receivedAt`, in seconds. */
  note({ from, to, sentAt, receivedAt }) {
    const [least, most] = [from - receivedAt, to - sentAt];
    const isContradicted = least > this.#most || most < this.#least;
    this.#least = isContradicted ? least : Math.max(least, this.#least);
    this.#most = isContradicted ? most : Math.min(most, this.#most);
  }

  get seconds() {
    return this.#least <= 0 && this.#most >= 0 ? 0 : (this.#least + this.#most) / 2;
  }
}

const offset = new Offset();
const browserNow = () => Date.now() / 1000;

/** The server's time in Unix seconds. */
export const serverNow = () => browserNow() + offset.seconds;

/** `fetch`, which notes the date of the response. */
export async function fetchDated(url, request) {
  const sentAt = browserNow();
  const response = await fetch(url, request);
  const from = Date.parse(response.headers.get("date")) / 1000;
  if (!Number.isNaN(from)) offset.note({ from, to: from + DATE_S, sentAt, receivedAt: browserNow() });
  return response;
}

/** Note when a generation was created, by the call that has created it: a far closer bound than a date. */
export async function noteCreation(creating) {
  const sentAt = browserNow();
  const state = await creating;
  const from = state.created_at;
  offset.note({ from, to: from + STAMP_S, sentAt, receivedAt: browserNow() });
  return state;
}
