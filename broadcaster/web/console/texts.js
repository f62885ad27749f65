/** The texts of this page: pure functions from states to sentences. */

const STATUS = { queued: "queued", running: "running", finished: "finished", failed: "failed", aborted: "stopped" };

const CLOSED = {
  token_expired: "this link has expired",
  token_invalid: "this link is not valid",
  token_revoked: "this link was revoked",
  revoked: "this link was revoked",
  forbidden: "this link is for another answer",
};
const STALLS = {
  log_unavailable: "stalled: Redis does not respond",
  worker_lost: "stalled: lost contact with the worker",
  stream_lost: "stalled: the stream has expired",
};

export const isOver = (status) => status === "finished" || status === "failed" || status === "aborted";

export const statusText = (status) => STATUS[status] ?? status;

/** The connection's state as text; `now` is performance.now(). */
export function connectionText(state, status, now) {
  switch (state.name) {
    case "connecting":
      return "connecting…";
    case "catching-up":
      return "catching up…";
    case "stalled":
      return STALLS[state.reason] ?? `stalled: ${state.reason}`;
    case "reconnecting":
      return `reconnecting… ${Math.round((now - state.since) / 1000)} s`;
    case "gone":
      return "not found";
    case "locked":
      return "needs a key";
    case "closed":
      return CLOSED[state.reason] ?? "closed by the server";
    case "ended":
      return statusText(status);
    default:
      return state.name;
  }
}

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

export const LOST = {
  tone: "bad",
  text: "Nothing was found under this link. It may have expired, or the link is incomplete.",
  code: "unknown_stream",
};

/** A job's progress from the data of its `data-progress`: {done, total, percent, message}, or null without amounts. */
export function stepOf(data) {
  const isAmount = (value) => typeof value === "number" && Number.isFinite(value) && value >= 0;
  const { done, total, message } = data ?? {};
  if (!isAmount(done) || !isAmount(total) || total === 0) return null;
  const percent = Math.min(100, Math.floor((100 * done) / total));
  return { done, total, percent, message: typeof message === "string" ? message : "" };
}

/** The ending of a stream: {tone, text, code?}. */
export function endingSentence({ status, error, finishReason, abortReason, usage }) {
  if (status === "failed") {
    return { tone: "bad", text: error?.message ?? "The answer failed.", code: error?.code ?? "error" };
  }
  const tokens = usageText(usage);
  const tail = tokens === null ? "" : ` · ${tokens}`;
  if (status === "aborted") {
    const text = abortReason === "abandoned" ? "Stopped: no viewers were left" : "Stopped";
    return { tone: "quiet", text: text + tail };
  }
  const reasons = { length: "Finished: the length limit was reached", "content-filter": "Stopped by the provider’s content filter" };
  return { tone: "quiet", text: (reasons[finishReason] ?? "Finished") + tail };
}

function usageText(usage) {
  if (usage === null || (usage.inputTokens == null && usage.outputTokens == null)) return null;
  const about = usage.estimated === true ? "about " : "";
  return `${usage.inputTokens ?? "?"} tokens in, ${about}${usage.outputTokens ?? "?"} out`;
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
