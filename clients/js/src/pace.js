/**
 * When to reconnect, and how to wait.
 *
 * Rules
 * 1. A delay is what the server requires (`retry`, or once a `Retry-After`; at most five minutes) plus a random part, from
 *    nothing to half a second. Each further failure doubles that part's limit, up to ten seconds: clients that fail
 *    together do not return together.
 * 2. Progress ends the row of failures: an entry, a gap, or bytes on a connection that has held for six seconds. The
 *    heartbeats of a long queue count, and a server that accepts and closes each time does not.
 */

const FIRST_MS = 500;
const MAX_MS = 10_000;
const STEADY_MS = 6_000;
// A longer delay would mean that the server is down; no timer takes more than 2^31 ms.
const LONGEST_MS = 300_000;

export class Pace {
  /** The server's own delay (`retry`). */
  retryMs = 0;
  /** The delay of the next connection alone (`Retry-After`). */
  retryAfterMs = null;
  #openedAt = 0;
  #failures = 0;

  /** A connection begins. */
  connected() {
    this.#openedAt = Date.now();
  }

  /** Bytes have arrived. */
  received() {
    if (Date.now() - this.#openedAt >= STEADY_MS) this.progressed();
  }

  /** The reader moved on. */
  progressed() {
    this.#failures = 0;
  }

  /** Until the next connection. */
  nextDelayMs() {
    const requiredMs = Math.min(this.retryAfterMs ?? this.retryMs, LONGEST_MS);
    this.retryAfterMs = null;
    return requiredMs + Math.random() * Math.min(MAX_MS, FIRST_MS * 2 ** this.#failures++);
  }
}

/** Wait so long; shorter when `signal` aborts. */
export const sleep = (ms, signal) =>
  wait(signal, (end) => {
    const timer = setTimeout(end, ms);
    return () => clearTimeout(timer);
  });

/** Wait while the page is hidden; shorter when `signal` aborts. */
export const untilVisible = (signal, page = globalThis.document) =>
  wait(signal, (end) => {
    const check = () => page?.visibilityState === "hidden" || end();
    page?.addEventListener?.("visibilitychange", check);
    check();
    return () => page?.removeEventListener?.("visibilitychange", check);
  });

/** Resolves when `begin` calls what it is given, or `signal` aborts; then what `begin` returned is called. */
async function wait(signal, begin) {
  let end;
  const over = new Promise((resolve) => (end = resolve));
  const undo = [onAbort(signal, end), begin(end)];
  await over;
  for (const each of undo) each();
}

/** Call `act` when `signal` aborts, or at once when it has. Returns what takes that back. */
export function onAbort(signal, act) {
  if (signal?.aborted) act();
  signal?.addEventListener("abort", act);
  return () => signal?.removeEventListener("abort", act);
}

/** What `coming` brings. Rejects when `signal` aborts first. */
export function unlessAborted(coming, signal) {
  let forget;
  return new Promise((resolve, reject) => {
    forget = onAbort(signal, () => reject(reasonOf(signal)));
    Promise.resolve(coming).then(resolve, reject);
  }).finally(() => forget());
}

/** Why a signal aborted; React Native's signals do not know it. */
export const reasonOf = (signal) => signal.reason ?? Object.assign(new Error("aborted"), { name: "AbortError" });
