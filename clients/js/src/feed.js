/**
 * The calls of one run to the feed that it writes.
 *
 * Rules
 * 1. A feed has one run. A random `metadata.producer` makes the creation of every other run another one, which is refused
 *    (409 `stream_exists`), and a repeated creation the same one. Callers that should write one feed pass the same name.
 * 2. The lease is renewed from the creation on. A renewal that fails for now is followed by another one.
 */

import { Credential, call, createKey, streamPath } from "./server.js";

const LEASE_S = 15;
// All that a call has time for.
const RETRIES = 9;

export function openRun(id, { config, ...options }) {
  const path = streamPath(id);
  const body = { lease_s: LEASE_S, ...config, metadata: { producer: createKey(), ...config?.metadata } };
  const credential = new Credential(options.token);
  const send = (method, below, more) => call(method, path + below, { ...options, ...more, credential, retries: RETRIES });
  const put = () => send("PUT", "", { body });

  const run = {
    /** What no later call can mend. */
    failure: null,

    fail(error) {
      run.failure ??= error;
    },

    /** Create the feed. Resolves with the timer of its renewals, if it has a lease. */
    async create() {
      await put();
      return body.lease_s && setInterval(() => put().catch((error) => error.retry || run.fail(error)), (body.lease_s * 1000) / 3);
    },

    append: (more) => send("POST", "/events", more),
    close: (end) => send("POST", "/close", { body: end }),
  };
  return run;
}
