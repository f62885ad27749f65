/** The HTTP API as this page uses it. Every failure is a Problem with a sentence that people can read. */

export class Problem extends Error {
  constructor(sentence, { code, status = 0, retry = false }) {
    super(sentence);
    this.code = code;
    this.status = status;
    this.retry = retry;
  }
}

export const startGeneration = (body) => call("POST", "/v1/generations", body);
export const listGenerations = () => call("GET", "/v1/generations");
export const stopGeneration = (id) => call("POST", `${generationUrl(id)}/stop`);

/** The whole generation, prompt and answer included. */
export const getGeneration = (id) => call("GET", generationUrl(id));

/** Without the answer: cheap enough to ask again and again. */
export const getGenerationState = (id) => call("GET", `${generationUrl(id)}?parts=false`);

/** Where the events of a generation are; `after` is the cursor of the last one already here. */
export function eventsUrl(id, after) {
  const url = `/v1/streams/${encodeURIComponent(id)}/events`;
  return after === null ? url : `${url}?after=${encodeURIComponent(after)}`;
}

const generationUrl = (id) => `/v1/generations/${encodeURIComponent(id)}`;

async function call(method, url, body) {
  const headers = body === undefined ? {} : { "content-type": "application/json" };
  let response;
  try {
    response = await fetch(url, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new Problem("The server cannot be reached.", { code: "unreachable", retry: true });
  }
  const answer = await response.json().catch(() => null);
  if (response.ok && answer !== null) return answer;
  throw new Problem(sentence(answer, response), {
    code: answer?.code ?? `http_${response.status}`,
    status: response.status,
    retry: answer?.retry ?? response.status >= 500,
  });
}

function sentence(problem, response) {
  const title = problem?.title ?? `The server answered ${response.status}`;
  const detail = problem?.detail;
  return detail && detail !== title ? `${title}: ${detail}.` : `${title}.`;
}
