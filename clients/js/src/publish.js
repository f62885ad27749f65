/**
 * Publish a stream of your own: a feed that is created, filled from a source and closed.
 *
 * Rules
 * 1. Texts become the deltas of a text part. Every event closes that part first, and so does the end.
 * 2. One append is under way; what the source yields meanwhile goes with the next, up to `MOST` events and `MAX_CHARS` of
 *    JSON. With so much waiting, the source is not read.
 * 3. The end is the source's: `finish` after its last piece, the terminal event that it yields, `error` with the code
 *    `publisher_failed` when it throws (without the text of the error), `abort` when `signal` aborts, `error` with the code
 *    `log_lost` when Redis has lost a part of the stream.
 * 4. The lease is renewed while the source is quiet. Of a publisher that is lost, viewers get the error `writer_lost`.
 *    With `lease_s: null` there is no lease, and they wait.
 */

import { MAX_CHARS, MOST, appendBatch, measured, takeBatch } from "./batches.js";
import { openRun } from "./feed.js";
import { TERMINAL } from "./fold.js";
import { unlessAborted } from "./pace.js";
import { createKey } from "./server.js";

/** Publish what `source` yields, texts and events, under this id. Resolves with the stream's state after its end. */
export async function publish(id, source, { signal, ...options } = {}) {
  const run = openRun(id, options);
  const timer = await run.create();
  const feed = openFeed(run);
  let end = { type: "finish" };
  try {
    for await (const piece of untilAborted(source, signal)) {
      if (TERMINAL.has(piece.type)) {
        end = piece;
        break;
      }
      await feed.take(piece);
    }
    await feed.flush(true);
  } catch (error) {
    // The caller gets the first error; a feed that cannot be closed now ends by its lease.
    await feed.flush().catch(() => {});
    await run.close(endOf(signal)).catch(() => {});
    throw error;
  } finally {
    clearInterval(timer);
  }
  return run.close(end);
}

const endOf = (signal) =>
  signal?.aborted
    ? { type: "abort", reason: "stopped" }
    : { type: "error", code: "publisher_failed", errorText: "the publisher failed" };

async function* untilAborted(source, signal) {
  const iterator = source[Symbol.asyncIterator]?.() ?? source[Symbol.iterator]();
  let isDone = false;
  try {
    for (;;) {
      const { done, value } = await unlessAborted(iterator.next(), signal);
      isDone = done;
      if (done) return;
      yield value;
    }
  } finally {
    // Not awaited: a source that hangs does not hold up the end.
    if (!isDone) Promise.resolve(iterator.return?.()).catch(() => {});
  }
}

/** What appends to the run's feed: {take, flush}. */
function openFeed(run) {
  const key = createKey();
  const waiting = [];
  let waitingChars = 0;
  let sending = null;
  let parts = 0;
  let isOpen = false;

  return {
    /** Take one piece; waits while too many are waiting. Throws what an append threw. */
    async take(piece) {
      const isText = typeof piece === "string";
      if (isText && !isOpen) add({ type: "text-start", id: `${key}-${++parts}` });
      if (!isText) closePart();
      isOpen = isText;
      add(isText ? { type: "text-delta", id: `${key}-${parts}`, delta: piece } : piece);
      send();
      if (waiting.length >= MOST || waitingChars >= MAX_CHARS) await sending;
      if (run.failure) throw run.failure;
    },

    /** Everything so far is in the log; `isWhole`: the open part is complete. Throws what an append threw. */
    async flush(isWhole) {
      if (isWhole) closePart();
      send();
      await sending;
      if (run.failure) throw run.failure;
    },
  };

  function add(event) {
    const last = measured(event);
    waiting.push(last);
    waitingChars += last.chars;
  }

  function closePart() {
    if (isOpen) add({ type: "text-end", id: `${key}-${parts}` });
    isOpen = false;
  }

  function send() {
    sending ??= appendAll();
  }

  async function appendAll() {
    // Without it, `sending` could be reset before it is set.
    await null;
    while (waiting.length > 0 && !run.failure) {
      const { events, chars } = takeBatch(waiting);
      waitingChars -= chars;
      await appendBatch(events, run.append).catch((error) => (run.failure ??= error));
    }
    // With no pause after the last look at `waiting`: what comes then begins another append.
    sending = null;
  }
}
