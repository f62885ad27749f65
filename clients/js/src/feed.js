/**
 * The calls of one run to the feed that it writes.
 *
 * Rules
 * 1. A feed has one run. A random `metadata.producer` makes the creation of every other run another one, which is refused
 *    (409 `stream_exists`), and a repeated creation the same one. Callers that should write one feed pass the same name.
 * 2. The lease is renewed from the creation on. A renewal that fails for now is followed by another one;
 *    after a failure of the run there is none, and the feed ends by its lease unless it is closed.
 * 3. The numbers of a feed only rise. A response with a lower one than is due proves that Redis has lost entries, and a
 *    renewal may have created the feed anew: that is the failure of the run, whose end is then `LOST`.
 */

import { BroadcasterError } from "./errors.js";
import { Credential, call, createKey, streamPath } from "./server.js";

const LEASE_S = 15;

/** The end of a feed of which Redis has lost a part. */
const LOST = { type: "error", code: "log_lost", errorText: "Redis lost a part of this stream" };

export function openRun(id, { config, ...options }) {
  const path = streamPath(id);
  const body = { lease_s: LEASE_S, ...config, metadata: { producer: createKey(), ...config?.metadata } };
  const credential = new Credential(options.token);
  let lastSeq = 0;
  let lost = null;

  /** `count`: how many entries the call appends. */
  async function send(method, below, count, more) {
    const leastSeq = lastSeq + count;
    const response = await call(method, path + below, { ...options, ...more, credential, writes: true });
    if (response.last_seq < leastSeq) {
      lost = LOST;
      throw (run.failure = new BroadcasterError(lost.code, lost.errorText));
    }
    if (count > 0) lastSeq = response.last_seq;
    return response;
  }

  const put = () => send("PUT", "", 0, { body });

  const run = {
    /** What no later call can mend. */
    failure: null,

    /** Create the feed. Resolves with the timer of its renewals, if it has a lease. */
    async create() {
      await put();
      const renew = () => run.failure ?? put().catch((error) => error.retry || (run.failure ??= error));
      return body.lease_s && setInterval(renew, (body.lease_s * 1000) / 3);
    },

    append: (more) => send("POST", "/events", more.body.length, more),

    /** `end`, or by rule 3 LOST. Throws what was lost. */
    close: (end) => send("POST", "/close", 1, { body: lost ?? end }),
  };
  return run;
}
