/**
 * The interface of the package `resumable-stream` over broadcaster: streams that outlive the process that makes them.
 *
 * Rules
 * 1. A stream is a feed, and each of its texts is one event: what the texts hold is the caller's own.
 * 2. One call creates a stream, however many come at once: each tries to create the feed under a random name of its own, and
 *    the server accepts one of them.
 * 3. The producer reads its source no faster than the server stores it, whether or not it has readers. Every reader, the
 *    first one too, reads what is stored: a slow reader slows itself alone, and nothing is buffered for it.
 * 4. A source that fails, a producer that is lost, and texts that are gone are errors of the readers' streams.
 */

import { BroadcasterError } from "../src/errors.js";
import { publish } from "../src/publish.js";
import { call, createKey, streamPath } from "../src/server.js";
import { watch } from "../src/watch.js";

const CHUNK = "data-chunk";
const LEASE_S = 15;
const DONE = "DONE";

/**
 * `waitUntil` keeps a serverless function alive until the source is stored. `onError` gets what ends the publishing of a
 * stream; its readers get it, too. `config` is the body of `PUT /v1/streams/{id}`.
 */
export function createResumableStreamContext(options = {}) {
  const { waitUntil, keyPrefix, onError = report, config, publisher, subscriber, ...rest } = options;
  if (publisher || subscriber) {
    throw new TypeError("broadcaster has its own Redis: pass {server, token} in place of publisher and subscriber");
  }
  const idOf = (streamId) => (keyPrefix ? `${keyPrefix}:${streamId}` : streamId);

  /** null without such a stream, true while it runs, "DONE" after its end. */
  async function hasExistingStream(streamId) {
    try {
      const { status } = await call("GET", streamPath(idOf(streamId)), rest);
      return status === "running" ? true : DONE;
    } catch (error) {
      if (error.code === "unknown_stream") return null;
      throw error;
    }
  }

  async function resumeExistingStream(streamId, skipCharacters) {
    const found = await hasExistingStream(streamId);
    if (found === null) return undefined;
    return found === DONE ? null : textsOf(idOf(streamId), rest, skipCharacters);
  }

  /** Throws a BroadcasterError with the code `stream_exists` when the id is taken. */
  async function createNewResumableStream(streamId, makeStream, skipCharacters) {
    const id = idOf(streamId);
    const body = { lease_s: LEASE_S, ...config, metadata: { ...config?.metadata, producer: createKey() } };
    await call("PUT", streamPath(id), { ...rest, body });
    const stored = publish(id, eventsOf(makeStream), { ...rest, config: body }).then(() => {}, onError);
    waitUntil?.(stored);
    return textsOf(id, rest, skipCharacters);
  }

  async function resumableStream(streamId, makeStream, skipCharacters) {
    try {
      return await createNewResumableStream(streamId, makeStream, skipCharacters);
    } catch (error) {
      if (error.code !== "stream_exists") throw error;
      return (await resumeExistingStream(streamId, skipCharacters)) ?? null;
    }
  }

  return { hasExistingStream, resumeExistingStream, createNewResumableStream, resumableStream };
}

const report = (error) => console.error("a resumable stream was not published to its end:", error);

/** The source's texts as events. */
async function* eventsOf(makeStream) {
  const reader = makeStream().getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      if (value !== "") yield { type: CHUNK, data: value };
    }
  } finally {
    // Rejects where the source has failed already, and `read` has thrown that.
    reader.cancel().catch(() => {});
  }
}

/** A stream of the texts that are stored and of those that come, without the first characters. */
function textsOf(id, options, skipCharacters = 0) {
  const updates = watch(id, options)[Symbol.asyncIterator]();
  let skipped = skipCharacters;

  async function next() {
    for (;;) {
      const { done, value: update } = await updates.next();
      if (done) return null;
      const text = textOf(update);
      if (text.length > skipped) return text.slice(skipped);
      skipped -= text.length;
    }
  }

  async function pull(controller) {
    try {
      const text = await next();
      if (text === null) return controller.close();
      skipped = 0;
      controller.enqueue(text);
    } catch (error) {
      // A stream that has failed is not cancelled: its connection would stay open.
      await updates.return();
      throw error;
    }
  }

  return new ReadableStream({ pull, cancel: () => updates.return() }, { highWaterMark: 0 });
}

/** The text in an update, or "". Throws for the end of a stream that is not whole. */
function textOf(update) {
  if (update.kind === "gap") throw failure("gap", `texts of the stream are gone (${update.reason})`, update);
  if (update.kind !== "entry") return "";
  const { event } = update;
  if (event.type === "error") throw failure(event.code, event.errorText, update);
  if (event.type === "abort") throw failure("aborted", `the stream was stopped (${event.reason ?? "aborted"})`, update);
  return event.type === CHUNK ? event.data : "";
}

const failure = (code, message, { cursor }) => new BroadcasterError(code, message, { cursor });
