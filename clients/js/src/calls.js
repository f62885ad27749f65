/** Start and stop generations. */

import { call, createKey, generationPath } from "./server.js";

/**
 * Start a generation: a prompt, or the body of `POST /v1/generations`. Returns at once, usually with it `queued`; watch its
 * `events_url`. A second call with the same `idempotencyKey` and body returns the generation of the first.
 */
export function start(request, { idempotencyKey = createKey(), ...options } = {}) {
  const body = typeof request === "string" ? { prompt: request } : request;
  return call("POST", "/v1/generations", { ...options, body, headers: { "idempotency-key": idempotencyKey } });
}

/** End a generation, even if it has viewers; idempotent. Returns its state then. */
export const stop = (id, options = {}) => call("POST", `${generationPath(id)}/stop`, { ...options, body: {} });
