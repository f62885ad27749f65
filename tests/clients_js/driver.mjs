// The JavaScript client under node, called line by line (tests/compat/node/jobs.mjs).

import { publish, start, stop, watch } from "../../clients/js/src/index.js";
import { serve } from "../compat/node/jobs.mjs";

const facts = ({ name, message, code = null, status = null, retry = null, cursor = null }) => ({
  name,
  message,
  code,
  status,
  retry,
  cursor,
});

/** Tokens in turn; the last one again and again. A text that begins with "!" is what the function throws, "!never" takes for ever. */
function tokensOf(tokens) {
  const given = [];
  return {
    given,
    token: async () => {
      const token = tokens[Math.min(given.length, tokens.length - 1)];
      given.push(token);
      if (token === "!never") await new Promise(() => {});
      if (token === "!offline") throw new TypeError("fetch failed");
      if (token.startsWith("!")) throw new Error(token);
      return token;
    },
  };
}

class BrokenWebSocket {
  constructor() {
    throw new TypeError("no WebSocket can be created here");
  }
}

const watched = new Map();

/**
 * Watch until the end, an update of the kind `until`, `most` or `abort_after` entries, or `abort_ms`: {updates, state, failure,
 * tokens}. With `isWebSocketBroken` this process can create none from then on.
 */
async function follow({ name, url, until, most, abort_after: abortAfter, abort_ms: abortMs, tokens, token, isWebSocketBroken, ...options }) {
  if (isWebSocketBroken) globalThis.WebSocket = BrokenWebSocket;
  const renewing = tokens === undefined ? { given: [], token } : tokensOf(tokens);
  const aborter = new AbortController();
  if (abortMs !== undefined) setTimeout(() => aborter.abort(), abortMs);
  const stream = watched.get(name) ?? watch(url, { ...options, token: renewing.token, signal: aborter.signal });
  if (name !== undefined) watched.set(name, stream);
  const updates = [];
  let failure = null;
  let entries = 0;
  try {
    for await (const update of stream) {
      updates.push(update);
      if (update.kind === "entry") entries += 1;
      if (entries === most || update.kind === until) break;
      if (entries === abortAfter) aborter.abort();
    }
  } catch (error) {
    failure = facts(error);
  }
  const { state, cursor, isOver, connection } = stream;
  return { updates, state, cursor, isOver, connection: connection.name, failure, tokens: renewing.given };
}

/** How many of the states that a watch has shown are not what they were. */
async function snapshots({ url }) {
  const stream = watch(url);
  const states = [];
  for await (const { kind } of stream) if (kind === "entry") states.push([stream.state, JSON.stringify(stream.state)]);
  return { changed: states.filter(([state, text]) => JSON.stringify(state) !== text).length };
}

let openGate;
const gate = new Promise((resolve) => (openGate = resolve));

async function* pieces(list, hangs) {
  for (const piece of list) {
    if (piece === "!") throw new Error("the source is broken: secret");
    if (piece === "|") await gate;
    else yield piece;
  }
  if (hangs) await new Promise(() => {});
}

async function send({ stream, list, abort_ms: abortMs, ...options }) {
  const aborter = new AbortController();
  if (abortMs !== undefined) setTimeout(() => aborter.abort(), abortMs);
  try {
    return { state: await publish(stream, pieces(list, abortMs !== undefined), { ...options, signal: aborter.signal }) };
  } catch (error) {
    return { failure: facts(error) };
  }
}

/** Publish two texts, whose source ends so many microtasks after the first append was stored: the types of what is stored. */
async function endAfter(ticks) {
  const stored = [];
  let respond;
  const responding = new Promise((resolve) => (respond = resolve));
  async function fetch(url, { body }) {
    if (url.endsWith("/events")) {
      stored.push(...JSON.parse(body));
      await responding;
    }
    if (url.endsWith("/close")) stored.push(JSON.parse(body));
    return new Response("{}");
  }
  async function* source() {
    yield "a";
    yield "b";
    setTimeout(respond);
    await responding;
    for (let count = 0; count < ticks; count += 1) await null;
  }
  await publish("job", source(), { server: "http://127.0.0.1", fetch });
  return stored.map(({ type }) => type);
}

async function ends({ most }) {
  const stored = [];
  for (let ticks = 0; ticks < most; ticks += 1) stored.push(await endAfter(ticks));
  return { stored };
}

async function attempt(call) {
  try {
    return { result: await call() };
  } catch (error) {
    return { failure: facts(error) };
  }
}

serve({
  follow,
  snapshots,
  publish: send,
  ends,
  open_gate: () => openGate(),
  start: ({ request, tokens, abort_ms: abortMs, ...options }) => {
    if (tokens !== undefined) options.token = tokensOf(tokens).token;
    if (abortMs !== undefined) options.signal = AbortSignal.timeout(abortMs);
    return attempt(() => start(request, options));
  },
  stop: ({ stream, ...options }) => attempt(() => stop(stream, options)),
});
