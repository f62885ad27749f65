/** The addresses of a server, its tokens, and calls that are repeated until they have an answer. */

import { BroadcasterError, badAnswer, cannotConnect, errorOf } from "./errors.js";
import { onAbort, reasonOf, sleep, unlessAborted } from "./pace.js";

const FIRST_DELAY_MS = 400;
const TIMEOUT_MS = 30_000;
const RETRIES = 2;
// After a longer delay than this the caller decides whether to retry. Not for `writes`.
const LONGEST_DELAY_MS = 5_000;
// What a header takes as a credential: not the page of a login, nor that of a proxy whose backend is away.
const TOKEN = /^[\x21-\x7e]*$/;
// The back-off is at most five first delays.
const MOST_DELAYS = 5;

/** The URL of a path of the API. `server` is where a front-end, or a router, is mounted; "" is the page's own host. */
export const urlOf = (path, { server = "" } = {}) => checked(server.replace(/\/+$/, "") + path);

/** The URL of a stream's events; a stream is named by its id, or by an `events_url` that a server gave. */
export function eventsUrl(stream, options) {
  if (!stream.includes("/")) return urlOf(`${streamPath(stream)}/events`, options);
  if (!stream.startsWith("/")) return checked(stream);
  // What a server gives begins with the path at which it is mounted, unless a proxy takes that path away.
  const server = urlOf("", options);
  const [, host = "", path] = /^(\w+:\/\/[^/]+)?(.*)/.exec(server);
  return checked((stream.startsWith(`${path}/`) ? host : server) + stream);
}

export const streamPath = (id) => `/v1/streams/${segment(id)}`;
export const generationPath = (id) => `/v1/generations/${segment(id)}`;

/** An id as one segment of a path; a dot segment would lead upwards. */
function segment(id) {
  if (/^\.*$/.test(id)) throw new TypeError(`"${id}" is not the id of a stream`);
  return encodeURIComponent(id);
}

function checked(url) {
  if (/^https?:\/\/[^/]/i.test(url) || (globalThis.location && /^(\/|$)/.test(url))) return url;
  throw new TypeError(`"${url}" names no server: pass {server: "https://…"}`);
}

/** The credential of one caller: a text, or a function that is called again when the server refuses what it gave. */
export class Credential {
  #source;
  #current;

  constructor(token) {
    this.isRenewable = typeof token === "function";
    this.#source = this.isRenewable ? token : () => token;
  }

  /** Throws what `renew` throws. */
  async headers() {
    if (this.#current === undefined) await this.renew();
    return this.#current ? { authorization: `Bearer ${this.#current}` } : {};
  }

  /** Forget a token that was refused. Whether the function may give another one. */
  drop() {
    this.#current = undefined;
    return this.isRenewable;
  }

  /**
   * Call the function. Whether its token is another one than before. Throws what it throws, and BroadcasterError when it
   * gives no token; then the one before stays.
   */
  async renew() {
    const before = this.#current;
    const token = `${(await this.#source()) || ""}`.trim();
    if (!TOKEN.test(token)) {
      const message = "this is no token: it has characters other than visible ASCII";
      throw new BroadcasterError("bad_token", message, { retry: this.isRenewable });
    }
    this.#current = token;
    return token !== before;
  }
}

/**
 * One idempotent call; the document that it returns (null for 204). A call without a response, or with a retryable
 * failure, is repeated (`retries` times; one that `writes` to a feed for as long as it has time), and one that a token was
 * refused for, with a new one. All within 30 s: a pause that outlasts them is not begun.
 */
export async function call(method, path, options) {
  const { body, headers, signal, fetch = globalThis.fetch, writes, retries = RETRIES } = options;
  const { credential = new Credential(options.token) } = options;
  const url = urlOf(path, options);
  const aborter = new AbortController();
  let reason;
  const abort = (why) => {
    reason = why;
    aborter.abort();
  };
  const forget = onAbort(signal, () => abort(reasonOf(signal)));
  const timer = setTimeout(() => abort(cannotConnect(new Error(`no response within ${TIMEOUT_MS / 1000} s`))), TIMEOUT_MS);
  const given = body === undefined ? headers : { ...headers, "content-type": "application/json" };
  const send = (authorization) => {
    const request = { method, headers: { ...given, ...authorization }, body: JSON.stringify(body), signal: aborter.signal };
    return fetch(url, request).then(read).catch(cannotConnect);
  };
  const endsAt = Date.now() + TIMEOUT_MS;
  let refusals = 0;
  try {
    for (let failures = 0; ; failures += 1) {
      const result = await unlessAborted(credential.headers(), aborter.signal).then(send, (error) => {
        if (error instanceof BroadcasterError) return error;
        throw reason ?? error;
      });
      if (reason !== undefined) throw reason;
      if (!(result instanceof Error)) return result.document;
      if (result.status === 401 && refusals++ === 0 && credential.drop()) continue;
      const { retryAfterMs } = result;
      const delayMs = Math.max(retryAfterMs, FIRST_DELAY_MS * (0.5 + Math.random() / 2) * Math.min(2 ** failures, MOST_DELAYS));
      const isLast = !writes && (failures >= retries || retryAfterMs > LONGEST_DELAY_MS);
      if (isLast || !result.retry || Date.now() + delayMs >= endsAt) throw result;
      await sleep(delayMs, aborter.signal);
    }
  } finally {
    clearTimeout(timer);
    forget();
  }
}

/** {document}, or the error that the response is. */
async function read(response) {
  const { status } = response;
  const text = await response.text();
  if (!response.ok) return errorOf(response, text);
  try {
    return { document: text === "" ? null : JSON.parse(text) };
  } catch (cause) {
    return badAnswer("the response is not a front-end's: it is not JSON", { status, cause });
  }
}

/** A key that makes a repeated call one call. Not randomUUID: over plain HTTP, and in React Native, it does not exist. */
export const createKey = () => [1, 2, 3, 4].map(() => Math.random().toString(36).slice(2)).join("");
