/**
 * The error of every call and every stream. `code` is what programs branch on: the code of the server's problem document,
 * or one of
 *
 *   cannot_connect   no server responds at the address
 *   bad_answer       the server is not a front-end: correct the URL, or check the proxy in between
 *   bad_token        the token cannot be sent: a `token` function gave a page in its place
 *   token_expired, revoked, …   the reason of a `hub.bye` that forbids reconnecting
 */
export class BroadcasterError extends Error {
  status = null;
  /** Whether the same call may succeed later, unchanged. */
  retry = false;
  retryAfterMs = null;
  cursor = null;

  constructor(code, message, facts) {
    super(message);
    Object.assign(this, facts, { code });
  }
}

BroadcasterError.prototype.name = "BroadcasterError";

export const badAnswer = (message, more) => new BroadcasterError("bad_answer", message, more);

export const cannotConnect = (cause) =>
  new BroadcasterError("cannot_connect", cause.message, { retry: true, cause });

// A longer delay would mean that the server is down.
const MAX_RETRY_AFTER_S = 300;

/** Whether this status means "come back later" to a reader that resumes: all of 5xx, and the proxies' own. */
export const isBusy = (status) => status >= 500 || status === 408 || status === 425 || status === 429;

/** The error of a response with this body: from its problem document, or `bad_answer` without one. */
export function errorOf({ status, headers }, body) {
  const retryAfter = headers.get("retry-after");
  const retryAfterMs = /^\d+$/.test(retryAfter) ? Math.min(+retryAfter, MAX_RETRY_AFTER_S) * 1000 : null;
  let problem = null;
  try {
    problem = JSON.parse(body);
  } catch {
    // Not a front-end's: a proxy's page.
  }
  if (typeof problem?.code !== "string") {
    if (!isBusy(status)) return badAnswer(`HTTP ${status} without a problem document: is this a front-end?`, { status });
    return new BroadcasterError(`http_${status}`, `HTTP ${status}`, { status, retry: true, retryAfterMs });
  }
  const { code, title, detail, retry = false } = problem;
  const message = title && detail && detail !== title ? `${title}: ${detail}` : detail || title || code;
  return new BroadcasterError(code, message, { status, retry, retryAfterMs });
}
