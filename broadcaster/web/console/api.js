/** The HTTP API as this page uses it. Every failure is a BroadcasterError with a readable sentence. */

import { BroadcasterError } from "./client/errors.js";
import { call, generationPath, streamPath } from "./client/server.js";
import { keyHeaders, noteRefusal } from "./key.js";
import { fetchDated, noteCreation } from "./server_clock.js";

const SUPERSEDED = "superseded";

/** A second call with the same `key` and body returns the generation that the first call created. */
export const startGeneration = (body, key) => noteCreation(send("POST", "/v1/generations", body, { "idempotency-key": key }));
/** The newest generations and feeds. */
export const listStreams = (limit) => send("GET", `/v1/streams?limit=${limit}`);
/** Resolves when the server accepts this key, else fails with a BroadcasterError. */
export const tryKey = (key) => send("GET", "/v1/caller", undefined, keyHeaders(key));
/** What the stored key allows. */
export const getCaller = () => send("GET", "/v1/caller");
export const stopGeneration = (id) => send("POST", `${generationPath(id)}/stop`);

/** The whole generation, prompt and answer included. */
export const getGeneration = (id) => send("GET", generationPath(id));

/** Without the answer: cheap enough for polling. */
export const getGenerationState = (id) => send("GET", `${generationPath(id)}?parts=false`);

/** The state of any stream, of a generation or a feed. */
export const getStream = (id) => send("GET", streamPath(id));

/** A viewer token that may only watch this stream. */
export const createToken = (id) => send("POST", `${streamPath(id)}/tokens`, { actions: ["watch"] });
export const revokeToken = (jti) => send("POST", "/v1/tokens/revoke", { jti });

/** The names of the models that can be requested, the default first. */
export const listModels = async () => (await send("GET", "/v1/models")).data.map(({ id }) => id);

/**
 * Delete a generation with its request and answer; one that is running is stopped. A call that a reload cuts off has not
 * failed: the page ends in the pause before the repetition, and the next page goes on.
 */
export const deleteGeneration = (id) => send("DELETE", generationPath(id), undefined, {}, { retries: 2 });

/** What an operator reads: workers, queue, front-end, redis, dead-letters. */
export const getAdmin = (path) => send("GET", `/v1/admin/${path}`);
export const requeueLetter = (id) => send("POST", `/v1/admin/dead-letters/${encodeURIComponent(id)}/requeue`);

/** One page of the course of a generation. */
export function getTimeline(id, after) {
  const url = `/v1/admin/generations/${encodeURIComponent(id)}/timeline`;
  return send("GET", after === null ? url : `${url}?after=${encodeURIComponent(after)}`);
}

/** Whether a call failed because another key was entered, or the key was refused, while it was under way. */
export const isSuperseded = ({ code }) => code === SUPERSEDED;

// Without repetitions: what fails is shown, and the lists are polled.
async function send(method, path, body, given = {}, { retries = 0 } = {}) {
  const own = keyHeaders();
  const headers = { ...own, ...given };
  try {
    const response = await call(method, path, { body, headers, retries, fetch: fetchDated });
    // It may be another tenant's: nothing of it is shown or stored.
    if (own.authorization === keyHeaders().authorization || given.authorization !== undefined) return response;
    throw new BroadcasterError(SUPERSEDED, "the key has changed", { status: null, retry: true });
  } catch (error) {
    if (isSuperseded(error)) throw error;
    if (error.status === 401) noteRefusal(headers);
    const { code, status, retry } = error;
    const sentence = code === "cannot_connect" ? "The server cannot be reached" : error.message;
    throw new BroadcasterError(code, `${sentence}.`, { status, retry, cause: error });
  }
}
