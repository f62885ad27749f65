/**
 * One stream, read over as many connections as it takes: the updates of an async iterator, and the folded state.
 *
 * Rules
 * 1. A connection that ends without the terminal entry, a 204, a refusal (4xx) or a `hub.bye` that forbids reconnecting
 *    is followed by another one, after the last entry that was taken (`Last-Event-ID`).
 * 2. No entry is given twice, and none is missing without a gap.
 * 3. No entry is kept: after a gap that makes entries void (`rewound`), the reader reads the stream from its beginning
 *    once more and folds it anew. Until the fold has caught up, `state` is the one before the gap. What has left the log
 *    meanwhile was given before: `state` alone lacks it. A further loss moves the gap back to where the reader stands.
 * 4. A token function is called before the first connection, when its token is refused, and when the server announces
 *    that it expires. A token that is refused twice in a row ends the reading. A failure between two refusals ends the
 *    row: the token may have expired during it. A new token that expires hardly later than the one before is not
 *    replaced before its connection has ended: there is a pause then.
 * 5. Nothing is read that the caller has not taken: between two updates the connection waits.
 * 6. When a response's head and first bytes are not there in time, a proxy holds server-sent events back: from then on all
 *    watches open their connections with ws.js, over a WebSocket where one can be opened.
 */

import { BroadcasterError, badAnswer, errorOf, isBusy } from "./errors.js";
import { Fold, TERMINAL } from "./fold.js";
import { Pace, onAbort, reasonOf, sleep, unlessAborted, untilVisible } from "./pace.js";
import { Lost, Position, START, isAfter, parseCursor } from "./position.js";
import { Credential, eventsUrl } from "./server.js";
import { SseDecoder } from "./sse.js";

// Three heartbeats of the server: a connection that brings nothing for so long is lost.
const IDLE_TIMEOUT_MS = 45_000;
// By how much later a token must expire than the last one that was replaced, to be replaced as well.
const LEAST_GAIN_S = 6;
// A front-end sends the head and the first event at once.
const FIRST_BYTES_MS = 8_000;
// A timer takes a longer time for 1 ms.
const LONGEST_TIMER_MS = 2 ** 31 - 1;
/** Whether server-sent events were held back. */
let isHeldBack = false;
const ENDED = { name: "ended" };
/** The cursor in the URL. */
const AFTER = /[?&]after=(\d+-\d+)\b/;
const NEW_TOKEN = new Set(["token_expired", "revoked"]);

/** Watch a stream: the id of one, or the `events_url` that a server gave. */
export const watch = (stream, options) => new Watch(stream, options);

class Watch {
  #options;
  #credential;
  #pace = new Pace();
  #position;
  #fold = new Fold();
  #base;
  #refold = null;
  #refusals = 0;
  #replacedExpiry = -Infinity;

  constructor(stream, options = {}) {
    this.url = eventsUrl(stream, options);
    this.connection = { name: "connecting" };
    this.#options = options;
    this.#credential = new Credential(options.token);
    this.#base = options.after ?? AFTER.exec(this.url)?.[1] ?? null;
    this.#position = new Position(this.#base);
  }

  /** What the events so far amount to. */
  get state() {
    return this.#fold.state;
  }

  /** The last entry or gap that was given: what `after` takes. */
  get cursor() {
    return this.#refold?.gap.cursor ?? this.#position.cursor;
  }

  get isOver() {
    return this.connection === ENDED;
  }

  /** The updates from here on. After an early `break`, another loop goes on where the last one stopped. */
  [Symbol.asyncIterator]() {
    const stop = new AbortController();
    const updates = this.#run(stop.signal);
    return {
      next: () => updates.next(),
      return: (value) => {
        stop.abort();
        return updates.return(value);
      },
      [Symbol.asyncIterator]() {
        return this;
      },
    };
  }

  async *#run(stop) {
    const { signal } = this.#options;
    const aborter = new AbortController();
    const abort = () => aborter.abort();
    const undo = [stop, signal].map((each) => onAbort(each, abort));
    this.#refusals = 0;
    try {
      while (!this.isOver && !aborter.signal.aborted) yield* this.#attempt(aborter.signal);
    } catch (error) {
      if (!aborter.signal.aborted) {
        this.connection = { name: "closed", error };
        throw error;
      }
    } finally {
      for (const each of undo) each();
    }
    if (signal?.aborted && !this.isOver) throw reasonOf(signal);
  }

  /** One connection, and the pause after it. */
  async *#attempt(signal) {
    const { idleTimeoutMs = IDLE_TIMEOUT_MS } = this.#options;
    const reason = "the connection ended before the stream did";
    const connection = { aborter: new AbortController(), idleTimeoutMs, reason };
    const abort = () => connection.aborter.abort();
    const forget = onAbort(signal, abort);
    try {
      yield* this.#connection(connection);
    } catch (error) {
      if (signal.aborted || !(error instanceof Lost)) throw error;
      connection.reason = error.message;
      // The token may expire before the next connection is made.
      if (!connection.stage) this.#refusals = 0;
    } finally {
      forget();
      abort();
    }
    if (this.isOver || connection.isReplaced) return;
    yield this.#become({ name: "reconnecting", reason: connection.reason, delayMs: this.#pace.nextDelayMs() });
    await sleep(this.connection.delayMs, signal);
    await untilVisible(signal);
  }

  async *#connection(connection) {
    const response = await this.#open(connection);
    if (!response) return;
    this.#refusals = 0;
    this.#pace.connected();
    yield this.#become({ name: (connection.stage = "catching-up") });
    const decoder = new SseDecoder();
    for await (const text of textsOf(response.body, connection)) {
      connection.isFirst = false;
      this.#pace.received();
      const messages = decoder.decode(text);
      this.#pace.retryMs = decoder.retryMs ?? this.#pace.retryMs;
      for (const message of messages) {
        yield* this.#take(message, connection);
        if (this.isOver || connection.isReplaced) return;
      }
    }
  }

  /** The response with the stream, or null: there is nothing to read from it. */
  async #open(connection) {
    const headers = { accept: "text/event-stream", ...(await this.#authorization(connection.aborter)) };
    if (this.#position.cursor) headers["last-event-id"] = this.#position.cursor;
    const { fetch = globalThis.fetch, transport = "auto" } = this.#options;
    const isWs = transport === "auto" ? isHeldBack : transport !== "sse";
    connection.isFirst = !isWs && transport !== "sse";
    // Where the module cannot be loaded, there is only `fetch`.
    const { open = fetch } = isWs ? await import("./ws.js").catch(() => ({})) : {};
    const request = { headers, signal: connection.aborter.signal, cache: "no-store" };
    const response = await inTime(open(this.url, request, this.#options), connection);
    const { status } = response;
    if (status === 204) {
      this.connection = ENDED;
      return null;
    }
    if (status !== 200) return this.#refused(connection, errorOf(response, await inTime(response.text(), connection)));
    const type = response.headers.get("content-type") ?? "untyped";
    if (/^text\/event-stream\s*(;|$)/i.test(type)) return response;
    throw badAnswer(`the answer is ${type}, not an event stream: is this a front-end?`, { status });
  }

  async #authorization({ signal }) {
    try {
      return await unlessAborted(this.#credential.headers(), signal);
    } catch (error) {
      // What `fetch` throws without a network, and an error that says so itself; others are the caller's.
      if (error instanceof TypeError || error?.retry === true) throw new Lost(error.message, { cause: error });
      throw error;
    }
  }

  /** A response that is not the stream. Throws, unless a new token may change it. */
  #refused(connection, error) {
    if (error.status === 401 && this.#mayRenew()) {
      connection.isReplaced = true;
      return null;
    }
    if (!isBusy(error.status)) throw Object.assign(error, { cursor: this.cursor });
    this.#pace.retryAfterMs = error.retryAfterMs;
    throw new Lost(error.message, { cause: error });
  }

  /** The token is refused: whether the next connection may bring another one. */
  #mayRenew() {
    return this.#credential.drop() && this.#refusals++ === 0;
  }

  *#take({ type, data, lastEventId }, connection) {
    const value = parsed(data);
    if (type === "message") yield* this.#entry(lastEventId, value);
    else if (type === "hub.gap") yield* this.#gap(lastEventId, value, connection);
    else if (type === "hub.live") {
      yield* this.#caughtUp(this.#position.cursor);
      yield this.#become({ name: (connection.stage = "live") });
    } else if (type === "hub.stalled") {
      const { reason } = value;
      yield this.#become(reason === null ? { name: connection.stage } : { name: "stalled", reason });
    } else if (type === "hub.snapshot") {
      throw badAnswer("leave `replay=snapshot` out of the URL");
    } else {
      yield { kind: "notice", name: type, data: value };
      if (type === "hub.bye") this.#bye(value);
      if (type === "hub.expiring" && this.#credential.isRenewable) this.#replaceWithNewToken(connection, value.expires_at);
    }
  }

  *#entry(cursor, event) {
    if (typeof event?.type !== "string") throw badAnswer("not a message of a front-end: an event without a type");
    if (!this.#position.accepts(cursor)) return;
    this.#pace.progressed();
    const wasGiven = this.#wasGiven(cursor);
    // The entry is not taken before the gap: a loop that ends at the gap leaves it to the next one.
    if (!wasGiven) yield* this.#caughtUp(this.#position.cursor);
    this.#position.enter(cursor);
    if (wasGiven) return void this.#refold.fold.apply(event);
    this.#fold.apply(event);
    if (TERMINAL.has(event.type)) this.connection = ENDED;
    yield { kind: "entry", cursor, event };
  }

  *#gap(cursor, { reason, from = 0, to = 0 }, connection) {
    const gap = { kind: "gap", cursor, reason, from, to };
    const isVoiding = reason === "rewound" || reason === "reset";
    this.#pace.progressed();
    // A second reading from where this one began would meet the same gap.
    const isAtBase = this.#position.cursor === this.#base;
    if (isVoiding && !isAtBase && parseCursor(cursor).seq > parseCursor(this.#base ?? START).seq) {
      this.#refold = { gap, fold: new Fold() };
      this.#position = new Position(this.#base);
      connection.isReplaced = true;
      return;
    }
    if (isVoiding) {
      this.#refold = null;
      this.#fold = new Fold();
      this.#base &&= cursor;
    }
    const wasGiven = this.#wasGiven(cursor);
    if (!wasGiven) yield* this.#caughtUp(cursor);
    this.#position.gap(cursor);
    if (!wasGiven) yield gap;
  }

  /** Whether the stream is folded anew, and the caller has been given what it holds up to this cursor. */
  #wasGiven(cursor) {
    return this.#refold !== null && !isAfter(parseCursor(cursor), parseCursor(this.#refold.gap.cursor));
  }

  /** The stream has been folded anew up to the gap that made it necessary, or up to `reached`, where it ends sooner. */
  *#caughtUp(reached) {
    if (!this.#refold) return;
    const { fold, gap } = this.#refold;
    const at = reached ?? START;
    const cursor = this.#wasGiven(at) ? at : gap.cursor;
    this.#refold = null;
    this.#fold = fold;
    yield { ...gap, cursor, from: parseCursor(cursor).seq + 1 };
  }

  #become(connection) {
    this.connection = connection;
    return { kind: "connection", ...connection };
  }

  /** Connect with a new token while the old one is still valid (rule 4). */
  #replaceWithNewToken(connection, expiry) {
    if (expiry < this.#replacedExpiry + LEAST_GAIN_S) return;
    const replace = (isNew) => {
      if (!isNew) return;
      this.#replacedExpiry = expiry;
      connection.isReplaced = true;
      connection.aborter.abort();
    };
    // A failure is no reason to end the connection: the function is called again when the old token is over.
    this.#credential.renew().then(replace, () => {});
  }

  #bye({ reason, reconnect }) {
    if (reconnect !== false || (NEW_TOKEN.has(reason) && this.#mayRenew())) throw new Lost(reason);
    throw new BroadcasterError(reason, `closed by the front-end: ${reason}`, { cursor: this.cursor });
  }
}

/** What the connection brings. Throws Lost when it breaks, and when nothing comes for `idleTimeoutMs`. */
async function inTime(coming, { aborter, idleTimeoutMs, isFirst }) {
  const timeoutMs = Math.min(idleTimeoutMs, isFirst ? FIRST_BYTES_MS : LONGEST_TIMER_MS);
  let isIdle = false;
  const timer = setTimeout(() => {
    isIdle = true;
    isHeldBack ||= isFirst;
    aborter.abort();
  }, timeoutMs);
  try {
    return await coming;
  } catch (cause) {
    throw new Lost(isIdle ? `nothing came for ${timeoutMs} ms` : cause.message, { cause });
  } finally {
    clearTimeout(timer);
  }
}

/** The texts of a body, as they arrive. */
async function* textsOf(body, connection) {
  const decoder = new TextDecoder();
  const reader = body.getReader();
  try {
    for (;;) {
      const { done, value } = await inTime(reader.read(), connection);
      if (done) return;
      yield typeof value === "string" ? value : decoder.decode(value, { stream: true });
    }
  } finally {
    // Rejects where the connection is broken already.
    reader.cancel().catch(() => {});
  }
}

function parsed(data) {
  try {
    return JSON.parse(data);
  } catch (cause) {
    throw badAnswer("not a message of a front-end: not JSON", { cause });
  }
}
