/** The texts of this page: pure functions from states to sentences. */

const STATUS = { queued: "queued", running: "running", finished: "finished", failed: "failed", aborted: "stopped" };

/** Why the server ended the stream for good. */
export const CLOSED = {
  token_expired: "This link has expired",
  token_invalid: "This link is not valid",
  token_revoked: "This link was revoked",
  revoked: "This link was revoked",
  forbidden: "This link is for another answer",
};
export const STALLS = {
  log_unavailable: "The storage does not respond",
  worker_lost: "Lost contact with the worker",
  stream_lost: "The stream has expired",
};

/** Why an answer failed, for its readers; what the operator needs is in the logs. */
const FAILURES = {
  provider_rate_limited: "the model’s provider has too many requests",
  provider_overloaded: "the model’s provider is overloaded",
  provider_error: "the model’s provider had an internal error",
  provider_timeout: "the model’s provider did not respond in time",
  provider_unreachable: "the model’s provider could not be reached",
  provider_disconnected: "the connection to the model’s provider was lost",
  provider_truncated: "the model’s provider broke off in the middle",
  provider_bad_data: "the model’s provider sent something unreadable",
  provider_auth: "the model’s provider refused the server’s credentials",
  provider_bad_request: "the model’s provider refused the request",
  generation_timeout: "it took too long",
  queue_timeout: "no worker was free in time",
  worker_lost: "the worker was lost",
  worker_out_of_memory: "the worker ran out of memory",
  outdated_worker: "no worker of this version was available",
  attempts_spent: "every attempt failed",
  log_lost: "the server’s storage lost a part of it",
};

export const isOver = (status) => status === "finished" || status === "failed" || status === "aborted";

export const statusText = (status) => STATUS[status] ?? status;

/** A gap notice as a sentence. */
export function noticeSentence({ kind, from, to }) {
  const range = from > 0 && to >= from ? ` (${from === to ? `event ${from}` : `events ${from}–${to}`})` : "";
  switch (kind) {
    case "trimmed":
      return `An earlier part${range} has expired.`;
    case "expired":
      return "The text has expired; only the ending is still stored.";
    case "rewound":
      return `The server lost a part${range}; the worker is sending it again.`;
    case "reset":
      return "The server restarted the stream.";
    default:
      return `A gap: ${kind}${range}.`;
  }
}

/** Why what came before an attempt is void. */
export function attemptSentence(attempt, reason) {
  if (reason === "replaced") return `The stream was started anew by its program (attempt ${attempt}).`;
  const restarted = `the answer was restarted (attempt ${attempt}).`;
  if (reason === "worker_lost") return `The worker was lost; ${restarted}`;
  if (reason === "provider_lost") return `The connection to the model’s provider was lost; ${restarted}`;
  return `The answer was restarted (attempt ${attempt}).`;
}

/** The progress while there is no text to read yet, or null. */
export function progressSentence({ status, parts, attempt, stopRequested }) {
  if (isOver(status)) return null;
  if (stopRequested) return "Stopping…";
  if (status === "queued") return "Waiting for a worker…";
  const contents = parts.filter(({ type }) => type !== "step-start");
  if (contents.length === 0) return attempt > 1 ? "Restarting…" : "Starting…";
  // A provider may hide its reasoning: the part then exists and is empty.
  return contents.every(({ type, text }) => type === "reasoning" && text === "") ? "Thinking…" : null;
}

/**
 * The ending of a stream: {tone, text, code?, detail?}, or null where nothing needs to be said. `detail` is what the event
 * says itself; that of a feed is its own program's, so it is the text.
 */
export function endingSentence({ status, error, finishReason, abortReason }, { isFeed = false } = {}) {
  if (status === "failed") return failure(error ?? { code: "error", message: "" }, isFeed);
  if (status === "aborted") return quiet(abortReason === "abandoned" ? "Stopped: no viewers were left." : "Stopped.");
  if (finishReason === "length") return quiet("The answer ends here: the length limit was reached.");
  if (finishReason === "content-filter") return quiet("The answer ends here: the provider’s content filter stopped it.");
  return null;
}

const quiet = (text) => ({ tone: "quiet", text });

function failure({ code, message }, isFeed) {
  if (isFeed) return { tone: "bad", text: message || "The stream failed.", code };
  const reason = FAILURES[code];
  const text = reason === undefined ? "The answer failed." : `The answer failed: ${reason}.`;
  return { tone: "bad", text, code, detail: message };
}

const count = (tokens) => (tokens === 1 ? "1 token" : `${tokens} tokens`);

/** The tokens of an answer in words; null where they are not known. The events count cached ones apart. */
export function usageText(usage) {
  if (usage == null || (usage.inputTokens == null && usage.outputTokens == null)) return null;
  const about = usage.estimated === true ? "about " : "";
  const input = (usage.inputTokens ?? 0) + (usage.cachedInputTokens ?? 0) + (usage.cacheWriteInputTokens ?? 0);
  const counts = [
    usage.inputTokens == null ? null : `${count(input)} in`,
    usage.outputTokens == null ? null : `${about}${count(usage.outputTokens)} out`,
  ];
  return counts.filter(Boolean).join(", ");
}

/** The time since `then`, short; both in seconds. */
export function ago(then, now) {
  const seconds = Math.max(0, Math.round(now - then));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

export const viewersText = (count) => (count === 1 ? "1 viewer" : `${count} viewers`);
