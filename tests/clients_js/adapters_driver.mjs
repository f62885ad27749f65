// The adapters of the JavaScript client beside the packages whose interfaces they have, called line by line
// (tests/compat/node/jobs.mjs). `kind` is "theirs", the package itself over memory, or "ours".

import {
  memoryStream,
  resumeServerSentEventsResponse,
  toServerSentEventsResponse,
} from "../compat/node/node_modules/@tanstack/ai/dist/esm/index.js";
import generic from "../compat/node/node_modules/resumable-stream/dist/generic.js";
import { createResumableStreamContext } from "../../clients/js/adapters/resumable-stream.js";
import { broadcasterDurability } from "../../clients/js/adapters/tanstack-ai.js";
import { serve } from "../compat/node/jobs.mjs";

const MOST_TRIES = 400;

function gate() {
  let open;
  const opened = new Promise((resolve) => (open = resolve));
  return { open, opened };
}

async function until(isTrue) {
  for (let tries = 0; tries < MOST_TRIES; tries += 1) {
    if (await isTrue()) return;
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  throw new Error("the condition has not come true");
}

// ---------------------------------------------------------------------------------------------- resumable-stream

/** Redis as `resumable-stream/generic` needs it. */
function memoryRedis() {
  const values = new Map();
  const listeners = new Map();
  return {
    connect: async () => {},
    publish: async (channel, message) => listeners.get(channel)?.(message),
    subscribe: async (channel, callback) => void listeners.set(channel, callback),
    unsubscribe: async (channel) => listeners.delete(channel),
    set: async (key, value) => void values.set(key, value),
    get: async (key) => values.get(key) ?? null,
    incr: async (key) => {
      const value = Number(values.get(key) ?? 0) + 1;
      if (Number.isNaN(value)) throw new Error("ERR value is not an integer or out of range");
      values.set(key, String(value));
      return value;
    },
  };
}

function contextOf({ kind, server, failures = [] }) {
  if (kind === "ours") return createResumableStreamContext({ server, onError: (error) => failures.push(error.message) });
  const redis = memoryRedis();
  return generic.createResumableStreamContext({ waitUntil: null, publisher: redis, subscriber: redis });
}

/** A stream of the texts before the gate, and of those after it. */
const gated = (before, after, opened) => () => {
  const texts = (async function* () {
    yield* before;
    await opened;
    yield* after;
  })();
  return new ReadableStream({
    async pull(controller) {
      const { done, value } = await texts.next();
      if (done) controller.close();
      else controller.enqueue(value);
    },
  });
};

async function joined(stream) {
  let text = "";
  for await (const piece of stream) text += piece;
  return text;
}

const never = () => {
  throw new Error("a stream that exists is not made anew");
};

async function resume({ stream: id, ...job }) {
  const context = contextOf(job);
  const { open, opened } = gate();
  const seen = { before: [await context.hasExistingStream(id), (await context.resumeExistingStream(id)) ?? "none"] };
  const first = await context.resumableStream(id, gated(["one ", "two "], ["three"], opened));
  seen.during = await context.hasExistingStream(id);
  const readers = [
    first,
    await context.resumeExistingStream(id),
    await context.resumeExistingStream(id, 4),
    await context.resumableStream(id, never, 8),
  ];
  const texts = readers.map(joined);
  open();
  seen.texts = await Promise.all(texts);
  await until(async () => (await context.hasExistingStream(id)) === "DONE");
  seen.after = [await context.resumeExistingStream(id), await context.resumableStream(id, never)];
  return seen;
}

/** Ten calls at once for one id: how many sources were made, and what each call reads. */
async function race({ stream: id, ...job }) {
  const context = contextOf(job);
  let made = 0;
  const { open, opened } = gate();
  const make = () => {
    made += 1;
    return gated(["one "], ["two"], opened)();
  };
  const streams = await Promise.all(Array.from({ length: 10 }, () => context.resumableStream(id, make)));
  const texts = streams.map(joined);
  open();
  const read = await Promise.all(texts);
  return { made, texts: read };
}

async function failing({ stream: id, ...job }) {
  const failures = [];
  const context = contextOf({ ...job, failures });
  const broken = () =>
    new ReadableStream({
      start: (controller) => controller.enqueue("half"),
      pull: (controller) => controller.error(new Error("the source is broken: secret")),
    });
  const stream = await context.createNewResumableStream(id, broken);
  const error = await joined(stream).catch(({ code, message }) => ({ code, message }));
  await until(() => failures.length > 0);
  const taken = await context.createNewResumableStream(id, never).catch(({ code }) => code);
  return { error, failures, taken };
}

async function readGap({ stream: id, ...job }) {
  const stream = await contextOf(job).resumeExistingStream(id);
  return joined(stream).catch(({ code }) => ({ code }));
}

// --------------------------------------------------------------------------------------------------- TanStack AI

const URL_OF_RUN = "http://app.example/api/chat";

const durabilityOf = ({ kind, server, ...options }, request) =>
  kind === "ours" ? broadcasterDurability(request, { server, ...options }) : memoryStream(request);

const producing = (run) => new Request(URL_OF_RUN, { method: "POST", headers: { "x-run-id": run } });

function joining(run, offset) {
  if (offset === "-1" || offset === "now") return new Request(`${URL_OF_RUN}?runId=${run}&offset=${offset}`);
  return new Request(`${URL_OF_RUN}?runId=${run}`, { headers: { "last-event-id": offset } });
}

const text = (delta) => ({ type: "TEXT_MESSAGE_CONTENT", messageId: "m", delta });
const BEFORE = [
  { type: "RUN_STARTED", runId: "r", threadId: "t" },
  { type: "RUN_FINISHED", runId: "r", threadId: "t", finishReason: "tool_calls" },
  { type: "TEXT_MESSAGE_START", messageId: "m", role: "assistant" },
  text("It is "),
];
const AFTER = [text("warm."), { type: "TEXT_MESSAGE_END", messageId: "m" }, { type: "RUN_FINISHED", finishReason: "stop" }];

/** The events of a response: {id, type, delta}. */
async function* eventsOf(response) {
  let buffer = "";
  const decoder = new TextDecoder();
  for await (const bytes of response.body) {
    buffer += decoder.decode(bytes, { stream: true });
    const blocks = buffer.split("\n\n");
    buffer = blocks.pop();
    for (const block of blocks) {
      const lines = block.split("\n");
      const id = lines.find((line) => line.startsWith("id:"))?.slice(3).trim();
      const data = lines.find((line) => line.startsWith("data:"))?.slice(5).trim();
      if (data === undefined || data === "[DONE]") continue;
      const { type, delta, code, message } = JSON.parse(data);
      yield { id, type, delta, code, message };
    }
  }
}

async function all(events) {
  const found = [];
  for await (const event of events) found.push(event);
  return found;
}

const shown = (events) => events.map(({ type, delta }) => (delta === undefined ? type : `${type} ${delta}`));

async function durable({ run, ...job }) {
  const { open, opened } = gate();
  async function* chunks() {
    yield* BEFORE;
    await opened;
    yield* AFTER;
  }
  const empty = await durabilityOf(job, producing(run)).snapshot();
  const adapter = durabilityOf(job, producing(run));
  const produced = eventsOf(toServerSentEventsResponse(chunks(), { durability: { adapter, batch: 1 } }));
  const live = [];
  // Before the chunks of the run, the package stores that the run was accepted.
  while (live.length < 1 + BEFORE.length) live.push((await produced.next()).value);
  const attached = (offset) => all(eventsOf(resumeServerSentEventsResponse({ adapter: durabilityOf(job, joining(run, offset)) })));
  const readers = [attached("-1"), attached(live[2].id)];
  const snapshot = await durabilityOf(job, joining(run, "-1")).snapshot();
  open();
  live.push(...(await all(produced)));
  const [fromStart, resumed] = await Promise.all(readers);
  const late = await attached("-1");
  const atEnd = await attached(late.at(-1).id);
  return {
    empty,
    snapshot: snapshot.map(({ chunk }) => chunk.type),
    live: shown(live),
    fromStart: shown(fromStart),
    resumed: shown(resumed),
    late: shown(late),
    atEnd,
    sameIds: JSON.stringify(live.map(({ id }) => id)) === JSON.stringify(late.map(({ id }) => id)),
  };
}

/** A run whose provider fails in mid-answer, and how its stream in broadcaster ends. */
async function brokenRun({ run, ...job }) {
  async function* chunks() {
    // After a RUN_FINISHED the package would store no RUN_ERROR.
    yield* BEFORE.filter(({ type }) => type !== "RUN_FINISHED");
    throw new Error("the provider is gone");
  }
  const adapter = durabilityOf(job, producing(run));
  const live = await all(eventsOf(toServerSentEventsResponse(chunks(), { durability: { adapter, batch: 1 }, debug: false })));
  const late = await all(eventsOf(resumeServerSentEventsResponse({ adapter: durabilityOf(job, joining(run, "-1")) })));
  return { live: shown(live), late: shown(late) };
}

/** A run that is stored as far as `BEFORE`, by a producer that never closes it: what a reader gets until the end. */
async function lostRun({ run, ...job }) {
  const adapter = durabilityOf(job, producing(run));
  const offsets = await adapter.append(BEFORE);
  const rest = [];
  for await (const { chunk } of durabilityOf(job, joining(run, "-1")).read(offsets[1])) rest.push(chunk);
  await adapter.close();
  return { offsets, rest };
}

/** A run that is stored with one append: the lengths of the texts that a reader gets, and how many offsets there are. */
async function manyRun({ run, texts, chars, values, ...job }) {
  const adapter = durabilityOf(job, producing(run));
  const chunk = { ...text("x".repeat(chars)), rawEvent: Array(values).fill(1) };
  const offsets = await adapter.append(Array(texts).fill(chunk));
  await adapter.close();
  const read = await all(durabilityOf(job, joining(run, "-1")).read("-1"));
  return { offsets: new Set(offsets).size, lengths: read.map(({ chunk }) => chunk.delta.length) };
}

async function snapshot({ run, ...job }) {
  const entries = await durabilityOf(job, joining(run, "-1")).snapshot();
  return { chunks: entries.map(({ chunk }) => chunk) };
}

/** Two requests for one run: how the second one fails, and what is stored of the first. */
async function twoRequests({ run, ...job }) {
  const first = durabilityOf(job, producing(run));
  const second = durabilityOf(job, producing(run));
  const codeOf = ({ code }) => code;
  await first.append([text("It is ")]);
  const refused = [await second.append([text("It is ")]).catch(codeOf), await second.close().catch(codeOf)];
  await first.append([text("warm.")]);
  await first.close();
  const read = await all(durabilityOf(job, joining(run, "-1")).read("-1"));
  return { second: refused, texts: read.map(({ chunk }) => chunk.delta) };
}

const begun = new Map();

async function beginRun({ run, text: delta, ...job }) {
  begun.set(run, durabilityOf(job, producing(run)));
  return { offsets: (await begun.get(run).append([text(delta)])).length };
}

/** The rest of a run, as the package writes it: the codes of what was refused, and what is stored. */
async function endRun({ run, texts, closes = true, ...job }) {
  const adapter = begun.get(run);
  const calls = texts.map((delta) => () => adapter.append([text(delta)]));
  if (closes) calls.push(() => adapter.close());
  const codes = [];
  for (const call of calls) await call().catch(({ code }) => codes.push(code));
  const read = await all(durabilityOf(job, joining(run, "-1")).read("-1"));
  return { codes, read: read.map(({ chunk }) => chunk) };
}

async function refusal({ run, offset, ...job }) {
  const read = durabilityOf(job, joining(run, offset)).read(offset);
  return all(read).then(
    () => null,
    ({ code, message }) => ({ code, message }),
  );
}

function misuse() {
  const attempts = {
    run: () => broadcasterDurability(new Request(URL_OF_RUN), { server: "http://127.0.0.1" }),
    redis: () => createResumableStreamContext({ server: "http://127.0.0.1", publisher: {}, subscriber: {} }),
  };
  return Object.fromEntries(
    Object.entries(attempts).map(([name, attempt]) => {
      try {
        attempt();
        return [name, null];
      } catch (error) {
        return [name, error.message];
      }
    }),
  );
}

serve({
  resume,
  race,
  failing,
  read_gap: readGap,
  durable,
  broken_run: brokenRun,
  lost_run: lostRun,
  many_run: manyRun,
  snapshot,
  two_requests: twoRequests,
  begin_run: beginRun,
  end_run: endRun,
  refusal,
  misuse,
});
