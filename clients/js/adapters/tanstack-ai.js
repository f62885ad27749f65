/**
 * A `StreamDurability` of TanStack AI that stores runs in broadcaster: a run is a feed, a chunk is one event of it.
 *
 * Rules
 * 1. An offset is the cursor of the chunk's entry.
 * 2. The first append creates the feed, and a run has one producer: a second request for it is refused (`stream_exists`).
 *    The lease is renewed until `close`; of a producer that is lost, readers get a RUN_ERROR with the code `writer_lost`.
 * 3. `close` ends the feed: with an error after a RUN_ERROR, or when Redis has lost a part of the run (`log_lost`), else with
 *    `finish`. A feed that was ended by another program stays as it is.
 * 4. `read` ends with the feed and not with a terminal chunk. An end that no chunk has reported is given as a RUN_ERROR.
 *    Chunks that are gone (expired, trimmed) are an error, never a silent hole.
 */

import { appendBatch, measured, takeBatch } from "../src/batches.js";
import { BroadcasterError } from "../src/errors.js";
import { openRun } from "../src/feed.js";
import { call, streamPath } from "../src/server.js";
import { watch } from "../src/watch.js";

const CHUNK = "data-tanstack-ai";
const RUN_FAILED = "run_failed";
const FROM_START = "-1";
const FROM_NOW = "now";
const SNAPSHOT_TIMEOUT_MS = 30_000;

/**
 * The durability of one run. `source` is the Request, or `{runId, offset}`. `prefix` stands before the run's id in the id
 * of its feed; `config` is the body of `PUT /v1/streams/{id}`.
 */
export function broadcasterDurability(source, { prefix = "", ...options } = {}) {
  const { runId, offset } = source instanceof Request ? named(source) : { offset: null, ...source };
  if (typeof runId !== "string" || runId === "") {
    throw new TypeError("the run has no id: send it as the header X-Run-Id or as ?runId=, or pass {runId}");
  }
  const id = prefix + runId;
  const writer = openWriter(openRun(id, options));

  async function* read(from, signal) {
    let after = from === FROM_START ? null : from;
    if (from === FROM_NOW) after = (await call("GET", streamPath(id), { ...options, signal })).last_id;
    try {
      for await (const update of watch(id, { ...options, after, signal })) {
        const entry = entryOf(update);
        if (entry !== null) yield entry;
      }
    } catch (error) {
      if (!signal?.aborted) throw error;
    }
  }

  /** What is stored now: up to the entry with which the past ends. */
  async function snapshot() {
    const entries = [];
    try {
      for await (const update of watch(id, { ...options, signal: AbortSignal.timeout(SNAPSHOT_TIMEOUT_MS) })) {
        if (update.kind === "entry" && update.event.type === CHUNK) entries.push(entryOf(update));
        if (update.kind === "gap") entryOf(update);
        if (update.kind === "connection" && update.name === "live") break;
      }
    } catch (error) {
      if (error.code !== "unknown_stream") throw error;
    }
    return entries;
  }

  return { resumeFrom: () => offset, append: writer.append, close: writer.close, read, snapshot };
}

/** The producer's side: {append, close}. */
function openWriter(run) {
  let opening = null;
  let timer = null;
  let hasFailed = false;

  const open = () => (opening ??= create());

  async function create() {
    timer = await run.create();
    timer?.unref?.();
  }

  return {
    async append(chunks) {
      await open();
      const offsets = [];
      const waiting = chunks.map((chunk) => measured({ type: CHUNK, data: chunk }));
      while (waiting.length > 0) {
        if (run.failure !== null) throw run.failure;
        const { events } = takeBatch(waiting);
        offsets.push(...(await appendBatch(events, run.append)));
      }
      hasFailed = chunks.at(-1)?.type === "RUN_ERROR";
      return offsets;
    },

    async close() {
      const end = { type: "error", code: RUN_FAILED, errorText: "the run failed" };
      try {
        await open();
        await run.close(hasFailed ? end : { type: "finish" });
      } catch (error) {
        if (error.code !== "stream_closed") throw error;
      } finally {
        clearInterval(timer);
      }
    },
  };
}

/** The chunk in an update, or null without one. Throws for a gap. */
function entryOf(update) {
  if (update.kind === "gap") {
    const { reason, from, to, cursor } = update;
    throw new BroadcasterError("gap", `chunks ${from} to ${to} of the run are gone (${reason})`, { cursor });
  }
  if (update.kind !== "entry") return null;
  const { cursor, event } = update;
  if (event.type === CHUNK) return { offset: cursor, chunk: event.data };
  if (event.type === "error" && event.code !== RUN_FAILED) return failed(cursor, event.errorText, event.code);
  if (event.type === "abort") return failed(cursor, "the run was stopped", event.reason ?? "aborted");
  return null;
}

const failed = (offset, message, code) => ({ offset, chunk: { type: "RUN_ERROR", message, code } });

/** The run that a request names, and the offset after which it reads. */
function named(request) {
  const { searchParams } = new URL(request.url);
  const { headers } = request;
  return {
    runId: headers.get("x-run-id") || searchParams.get("runId"),
    offset: headers.get("last-event-id") || searchParams.get("offset"),
  };
}
