/**
 * The parts of `fetch` that `watch` uses, over a WebSocket: for networks that hold server-sent events back. Loaded when it
 * is needed.
 *
 * Rules
 * 1. The URL is that of the events, with `/ws` at its end. A page cannot set headers of a handshake: the cursor goes as
 *    `after`, and a viewer token as `token`. API keys have no place there.
 * 2. A page does not learn why a handshake failed, and a server that cannot refuse one accepts it and closes before the
 *    first message. The same path as a plain request passes the same checks: its response is the result, unless it is
 *    426, which means that only the WebSocket was missing. Then `auto` reads server-sent events for the next minutes, as
 *    slowly as they come. It reads them after a 404, too: a server may have no such path. Where the first message does not
 *    come in time, the network swallows WebSockets, and `auto` does the same.
 * 3. Each message becomes a block of an event stream: what reads it is the same for both.
 * 4. A WebSocket cannot be paused. With `MAX_CHARS` waiting it is closed, and the reader resumes with a new one.
 */

import { BroadcasterError } from "./errors.js";

const MAX_CHARS = 2 ** 22;
const ENDED = 1000;
// Before the first message: a refusal, of a server that cannot refuse a handshake.
const REFUSED = new Set([1008, 1011, 1013]);
const UNKNOWN = 404;
const NO_HANDSHAKE = 426;
const CUT_MS = 300_000;
// A front-end sends the first message at once.
const FIRST_MESSAGE_MS = 8_000;
const EVENTS = /\/events(\?.*)?$/;
const VIEWER_TOKEN = /^Bearer (eyJ[\w.-]+)$/;

/** Until when this network is known to carry no WebSocket. */
let isCutUntil = 0;
const isCut = () => Date.now() < isCutUntil;
const noteCut = () => (isCutUntil = Date.now() + CUT_MS);

/**
 * Resolves with the first message, or with the refusal. Where no WebSocket can be opened, `auto` reads server-sent events;
 * `ws` rejects, or throws at once when one could never be opened.
 */
export function open(url, request, options) {
  const { transport = "auto", fetch = globalThis.fetch, idleTimeoutMs = Infinity } = options;
  const isAuto = transport === "auto";
  const fault = faultOf(url, request.headers, transport);
  if (fault !== null && !isAuto) throw new BroadcasterError("invalid_option", fault);
  if (fault !== null || (isAuto && isCut())) return fetch(url, request);
  // What follows a WebSocket that was not opened has as long.
  return openWebSocket(url, request, { isAuto, fetch, timeoutMs: Math.min(FIRST_MESSAGE_MS, idleTimeoutMs / 2) });
}

async function openWebSocket(url, request, { isAuto, fetch, timeoutMs }) {
  const address = addressOf(url, request.headers);
  const aborter = new AbortController();
  const abort = () => aborter.abort();
  request.signal.addEventListener("abort", abort);
  const late = () => {
    noteCut();
    abort();
  };
  const timer = isAuto ? setTimeout(late, timeoutMs) : undefined;
  if (request.signal.aborted) abort();
  // Where none can be created this throws, and `late` comes all the same.
  const opened = await connected(address.replace(/^http/i, "ws"), aborter.signal);
  clearTimeout(timer);
  if (opened !== null) return opened;
  if (isAuto && isCut()) return fetch(url, request);
  const refusal = await fetch(address, request);
  if (refusal.status === NO_HANDSHAKE) noteCut();
  else if (refusal.status !== UNKNOWN || !isAuto) return refusal;
  if (isAuto) return fetch(url, request);
  throw new TypeError("the network carries no WebSocket to the server");
}

/** Why no WebSocket can be opened here, whatever the network; null: one can. */
function faultOf(url, { authorization = "" }, transport) {
  if (transport !== "auto" && transport !== "ws") return `transport "${transport}": write "auto", "sse" or "ws"`;
  if (!globalThis.WebSocket) return "there is no WebSocket here: Node has it from version 22 on";
  if (authorization && !VIEWER_TOKEN.test(authorization)) return "a WebSocket needs a viewer token: an API key would stand in the URL";
  return EVENTS.test(url) ? null : `for a WebSocket the URL must end with /events, and is ${url}`;
}

/** The address of the handshake, as `http`. Made from text: the `URL` of React Native cannot be changed. */
function addressOf(url, { authorization = "", "last-event-id": cursor }) {
  const absolute = url.startsWith("/") ? new URL(url, globalThis.location.href).href : url;
  const address = withField(absolute.replace(EVENTS, "/ws$1"), "token", VIEWER_TOKEN.exec(authorization)?.[1]);
  return withField(address, "after", cursor);
}

/** The URL with this field of its query, in place of one that it has; without a value as it is. */
function withField(url, name, value) {
  if (!value) return url;
  const rest = url.replace(new RegExp(`([?&])${name}=[^&]*`), "$1");
  return `${rest}${rest.includes("?") ? "&" : "?"}${name}=${encodeURIComponent(value)}`;
}

/** The response that the WebSocket is; null: it was refused or not opened, or `signal` aborted before its first message. */
async function connected(address, signal) {
  const socket = new WebSocket(address);
  const close = () => socket.close();
  let blocks = [];
  let chars = 0;
  let isOpen = false;
  let isOver = false;
  let wake = () => {};
  const reader = {
    async read() {
      while (blocks.length === 0 && !isOver) await new Promise((awake) => (wake = awake));
      const value = blocks.join("");
      blocks = [];
      chars = 0;
      return { done: value === "", value };
    },
    cancel: async () => close(),
  };
  const head = { status: 200, headers: { get: () => "text/event-stream" }, body: { getReader: () => reader } };
  return new Promise((resolve) => {
    socket.onopen = () => (isOpen = true);
    socket.onmessage = ({ data }) => {
      blocks.push(blockOf(data));
      chars += data.length;
      if (chars > MAX_CHARS) close();
      resolve(head);
      wake();
    };
    const end = ({ code }) => {
      isOver = true;
      signal.removeEventListener("abort", abort);
      resolve(code === ENDED ? { status: 204 } : isOpen && !signal.aborted && !REFUSED.has(code) ? head : null);
      wake();
    };
    // A network that swallows what is sent does not confirm the close either.
    const abort = () => {
      close();
      end({});
    };
    signal.addEventListener("abort", abort);
    // Node 20 reports a refused handshake as an error alone.
    socket.onerror = socket.onclose = end;
    if (signal.aborted) abort();
  });
}

/** A message as a block of an event stream. What is no message of a front-end is no JSON there. */
function blockOf(text) {
  let message = {};
  try {
    message = JSON.parse(text);
  } catch {
    // The block has no data that could be read.
  }
  const { event, id, retry, data } = message;
  if (event === "hub.heartbeat") return ":\n\n";
  const fields = Object.entries({ event, id, retry }).filter(([, value]) => value !== undefined);
  return `${fields.map(([name, value]) => `${name}: ${value}\n`).join("")}data: ${JSON.stringify(data)}\n\n`;
}
