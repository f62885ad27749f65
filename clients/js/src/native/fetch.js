/**
 * A `fetch` for React Native, whose own returns a body only when it is complete: the parts of `fetch` that `watch` uses,
 * over XMLHttpRequest, which receives text as it arrives.
 */

import { reasonOf } from "../pace.js";

// An XMLHttpRequest keeps all that it has received: with the first block of events that ends beyond this length the body
// ends, and its reader resumes with a new one.
const MAX_CHARS = 2 ** 20;
// Twice what a stream holds by default: no event is so long.
const LONGEST_BODY_CHARS = 2 ** 24;

/** Resolves when the head of the response is there. Rejects with a TypeError without one, and when `signal` aborts. */
export function fetch(url, { method = "GET", headers = {}, body = null, signal } = {}) {
  const request = new XMLHttpRequest();
  const state = { failure: undefined, wake: () => {} };
  const response = new Promise((resolve, reject) => {
    const fail = (error) => {
      state.failure = error;
      reject(error);
      state.wake();
    };
    const abort = () => {
      request.abort();
      fail(reasonOf(signal));
    };
    signal?.addEventListener("abort", abort);
    request.open(method, url);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.onerror = () => fail(new TypeError("no response, or the connection was lost"));
    request.onprogress = () => state.wake();
    request.onloadend = () => {
      signal?.removeEventListener("abort", abort);
      state.wake();
    };
    request.onreadystatechange = () => request.readyState === 2 && resolve(responseOf(request, state));
    if (signal?.aborted) abort();
    else request.send(body);
  });
  return response;
}

function responseOf(request, state) {
  const reader = readerOf(request, state);
  return {
    status: request.status,
    ok: request.status >= 200 && request.status < 300,
    headers: { get: (name) => request.getResponseHeader(name) },
    body: { getReader: () => reader },
    async text() {
      let text = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return text;
        text += value;
      }
    },
  };
}

/** A reader of texts, one at a time. */
function readerOf(request, state) {
  let read = 0;
  let isFull = false;
  return {
    async read() {
      for (;;) {
        if (state.failure !== undefined) throw state.failure;
        const isOver = request.readyState === 4;
        const text = request.responseText;
        const value = text.slice(read);
        isFull ||= text.length > LONGEST_BODY_CHARS || text.includes("\n\n", Math.max(MAX_CHARS, read - 1));
        read = text.length;
        if (value !== "") return { done: false, value };
        if (isOver || isFull) return { done: true };
        await new Promise((awake) => (state.wake = awake));
      }
    },
    async cancel() {
      request.abort();
    },
  };
}
