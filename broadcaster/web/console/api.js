/** The HTTP API as this page uses it. Every failure is a Problem with a readable sentence. */

import { keyHeaders, noteRefusal } from "./key.js";

export class Problem extends Error {
  constructor(sentence, { code, status = 0, retry = false }) {
    super(sentence);
    this.code = code;
    this.status = status;
    this.retry = retry;
  }
}

/** A second call with the same `key` and body returns the generation that the first call created. */
export const startGeneration = (body, key) => call("POST", "/v1/generations", body, { "idempotency-key": key });
/** The newest generations and feeds. */
export const listStreams = (limit) => call("GET", `/v1/streams?limit=${limit}`);
/** Resolves when the server accepts this key, else fails with a Problem. */
export const tryKey = (key) => call("GET", "/v1/caller", undefined, keyHeaders(key));
/** What the stored key allows. */
export const getCaller = () => call("GET", "/v1/caller");
export const stopGeneration = (id) => call("POST", `${generationUrl(id)}/stop`);

/** The whole generation, prompt and answer included. */
export const getGeneration = (id) => call("GET", generationUrl(id));

/** Without the answer: cheap enough for polling. */
export const getGenerationState = (id) => call("GET", `${generationUrl(id)}?parts=false`);

/** The state of any stream, of a generation or a feed. */
export const getStream = (id) => call("GET", `/v1/streams/${encodeURIComponent(id)}`);

/** A viewer token that may only watch this stream. */
export const createToken = (id) => call("POST", `/v1/streams/${encodeURIComponent(id)}/tokens`, { actions: ["watch"] });
export const revokeToken = (jti) => call("POST", "/v1/tokens/revoke", { jti });

/** What an operator reads: workers, queue, front-end, redis, dead-letters. */
export const getAdmin = (path) => call("GET", `/v1/admin/${path}`);
export const requeueLetter = (id) => call("POST", `/v1/admin/dead-letters/${encodeURIComponent(id)}/requeue`);

/** One page of the course of a generation. */
export function getTimeline(id, after) {
  const url = `/v1/admin/generations/${encodeURIComponent(id)}/timeline`;
  return call("GET", after === null ? url : `${url}?after=${encodeURIComponent(after)}`);
}

/** The URL of a generation's events; `after` is the cursor of the last one received. */
export function eventsUrl(id, after) {
  const url = `/v1/streams/${encodeURIComponent(id)}/events`;
  return after === null ? url : `${url}?after=${encodeURIComponent(after)}`;
}

const JSON_BODY = { "content-type": "application/json" };

const generationUrl = (id) => `/v1/generations/${encodeURIComponent(id)}`;

async function call(method, url, body, given = {}) {
  const headers = { ...keyHeaders(), ...given };
  const sent = body === undefined ? { headers } : { headers: { ...headers, ...JSON_BODY }, body: JSON.stringify(body) };
  let response;
  try {
    response = await fetch(url, { method, ...sent });
  } catch {
    throw new Problem("The server cannot be reached.", { code: "unreachable", retry: true });
  }
  if (response.status === 401) noteRefusal(headers);
  const document = await response.json().catch(() => null);
  if (response.ok && (document !== null || response.status === 204)) return document;
  throw new Problem(sentence(document, response), {
    code: document?.code ?? `http_${response.status}`,
    status: response.status,
    retry: document?.retry ?? response.status >= 500,
  });
}

function sentence(problem, response) {
  const title = problem?.title ?? `The server responded with ${response.status}`;
  const detail = problem?.detail;
  return detail && detail !== title ? `${title}: ${detail}.` : `${title}.`;
}
