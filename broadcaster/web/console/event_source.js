/**
 * An EventSource that sends a key: the browser's own sends no header. The same names, the same rules (WHATWG HTML,
 * 9.2), so that stream.js cannot tell them apart.
 *
 * Rules
 * 1. A connection that is lost, or could not be made, is made again after `retry`, with `Last-Event-ID`; each loss is an
 *    `error` while `readyState` is CONNECTING.
 * 2. A response other than a 200 with an event stream (a 204 too) ends it: `error`, and `readyState` is CLOSED.
 * 3. After `close` no event is dispatched.
 */

import { hasKey, keyHeaders, noteRefusal } from "./key.js";
import { SseDecoder } from "./sse.js";

const CONNECTING = 0;
const OPEN = 1;
const CLOSED = 2;
// The pause of Chromium when the server has sent no `retry`.
const RETRY_MS = 3000;

/** The events at a URL: by the browser's own EventSource, unless a key must be sent. */
export const openEvents = (url) => (hasKey() ? new KeyedEventSource(url) : new EventSource(url));

export class KeyedEventSource extends EventTarget {
  constructor(url) {
    super();
    this.url = url;
    this.readyState = CONNECTING;
    this.lastEventId = "";
    this.retryMs = RETRY_MS;
    this.onopen = null;
    this.onmessage = null;
    this.onerror = null;
    this.aborter = new AbortController();
    this.timer = null;
    for (const name of ["open", "message", "error"]) {
      this.addEventListener(name, (event) => this[`on${name}`]?.(event));
    }
    // Only after the caller has set its listeners.
    queueMicrotask(() => this.connect());
  }

  close() {
    this.readyState = CLOSED;
    clearTimeout(this.timer);
    this.aborter.abort();
  }

  async connect() {
    if (this.readyState === CLOSED) return;
    const isRefused = await this.follow();
    if (this.readyState === CLOSED) return;
    this.readyState = isRefused ? CLOSED : CONNECTING;
    this.dispatchEvent(new Event("error"));
    if (this.readyState === CONNECTING) this.timer = setTimeout(() => this.connect(), this.retryMs);
  }

  /** One connection to its end. True when the response was not an event stream. */
  async follow() {
    const headers = { accept: "text/event-stream", ...keyHeaders() };
    if (this.lastEventId !== "") headers["last-event-id"] = this.lastEventId;
    try {
      const response = await fetch(this.url, { headers, cache: "no-store", signal: this.aborter.signal });
      if (response.status === 401) noteRefusal(headers);
      const type = response.headers.get("content-type") ?? "";
      if (response.status !== 200 || !/^text\/event-stream\s*(;|$)/i.test(type)) return true;
      this.readyState = OPEN;
      this.dispatchEvent(new Event("open"));
      await this.read(response.body.pipeThrough(new TextDecoderStream()).getReader());
    } catch {
      // Lost: `connect` dispatches the error. Or closed by our side: no event is due.
    }
    return false;
  }

  async read(reader) {
    const decoder = new SseDecoder(this.lastEventId);
    for (;;) {
      const { done, value } = await reader.read();
      if (done || this.readyState === CLOSED) return;
      for (const { type, data, lastEventId } of decoder.decode(value)) {
        this.lastEventId = lastEventId;
        this.dispatchEvent(new MessageEvent(type, { data, lastEventId, origin: location.origin }));
        if (this.readyState === CLOSED) return;
      }
      this.lastEventId = decoder.lastEventId;
      this.retryMs = decoder.retryMs ?? this.retryMs;
    }
  }
}
