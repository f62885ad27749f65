/** A hook for React: the folded state of a stream, and how its connection is. */

import { useCallback, useEffect, useMemo, useRef, useSyncExternalStore } from "react";

import { watch } from "./watch.js";

/**
 * What the stream amounts to so far: {…state, connection, error}. `stream` is an id or an `events_url`; null watches nothing.
 * Events that arrive together are one rendering. A new `token` function does not reconnect: the latest is called.
 */
export function useStream(stream, options = {}) {
  const latest = useRef(options);
  useEffect(() => {
    latest.current = options;
  });
  const { server, after } = options;
  const isFunction = typeof options.token === "function";
  const token = isFunction ? () => latest.current.token() : options.token;
  const key = isFunction ? null : token;
  const store = useMemo(() => createStore(stream, { ...options, token }), [stream, server, after, isFunction, key]);
  const subscribe = useCallback((listener) => store.subscribe(listener), [store]);
  return useSyncExternalStore(subscribe, store.read, store.read);
}

const NOTHING = { name: "connecting" };
const EMPTY = Object.freeze({
  status: "queued",
  attempt: 1,
  text: "",
  reasoning: "",
  parts: [],
  usage: null,
  error: null,
  finishReason: null,
  abortReason: null,
  messageId: null,
  metadata: {},
  providerMetadata: {},
  connection: NOTHING,
});

/**
 * One watch, which runs while the store has a subscriber, and goes on where it stopped when it has one again. A server that
 * renders has none, and no page whose host a URL could mean.
 */
function createStore(stream, options) {
  let watched = null;
  let snapshot = EMPTY;

  function subscribe(listener) {
    if (stream == null) return () => {};
    watched ??= watch(stream, options);
    const updates = watched[Symbol.asyncIterator]();
    let isPlanned = false;
    let isLeft = false;
    const draw = () => {
      isPlanned = false;
      if (isLeft) return;
      snapshot = { ...watched.state, connection: watched.connection };
      listener();
    };
    const follow = async () => {
      for (;;) {
        const { done } = await updates.next().catch(() => ({ done: true })); // `connection` has the error
        if (!isPlanned) setTimeout(draw);
        isPlanned = true;
        if (done) return;
      }
    };
    follow();
    return () => {
      isLeft = true;
      updates.return();
    };
  }

  return { subscribe, read: () => snapshot };
}
