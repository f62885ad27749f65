/** What this page says: pure functions from states to words. */

const STATUS = { queued: "queued", running: "running", finished: "finished", failed: "failed", aborted: "stopped" };

const STALLS = {
  log_unavailable: "stalled: the log does not answer",
  worker_lost: "stalled: the worker is lost",
  stream_lost: "stalled: the stream is kept no longer",
};

export const isOver = (status) => status === "finished" || status === "failed" || status === "aborted";

export const statusWord = (status) => STATUS[status] ?? status;

/** The connection's state as words; `now` is performance.now(). */
export function connectionWord(state, status, now) {
  switch (state.name) {
    case "connecting":
      return "connecting…";
    case "catching-up":
      return "catching up…";
    case "stalled":
      return STALLS[state.reason] ?? `stalled: ${state.reason}`;
    case "reconnecting":
      return `reconnecting… ${Math.round((now - state.since) / 1000)} s`;
    case "waiting":
      return `reconnecting in ${Math.max(0, Math.ceil((state.until - now) / 1000))} s…`;
    case "gone":
      return "unknown here";
    case "locked":
      return "needs a key";
    case "closed":
      return "closed by the server";
    case "ended":
      return statusWord(status);
    default:
      return state.name;
  }
}

/** A gap notice as a sentence. */
export function noticeSentence({ kind, from, to }) {
  const range = from > 0 && to >= from ? ` (${from === to ? `event ${from}` : `events ${from}–${to}`})` : "";
  switch (kind) {
    case "trimmed":
      return `An earlier part${range} is no longer kept.`;
    case "expired":
      return "What was said is no longer kept; only how it ended is known.";
    case "rewound":
      return `A part was lost on the server${range} and is written again.`;
    case "reset":
      return "The stream was begun anew on the server.";
    case "missing":
      return `Something${range} did not arrive.`;
    default:
      return `A gap: ${kind}${range}.`;
  }
}

/** What is going on before there is anything to read, or null. */
export function progressSentence({ status, parts, attempt, stopRequested }) {
  if (isOver(status)) return null;
  if (stopRequested) return "Stopping…";
  if (status === "queued") return "Waiting for a worker…";
  const said = parts.filter(({ type }) => type !== "step-start");
  if (said.length === 0) return attempt > 1 ? "Beginning again…" : "Starting…";
  // A provider may hide its reasoning: then there is a part, and nothing in it.
  return said.every(({ type, text }) => type === "reasoning" && text === "") ? "Thinking…" : null;
}

export const LOST = {
  tone: "bad",
  text: "Nothing is known under this link: it was kept no longer, or the link is not whole.",
  code: "unknown_stream",
};

/** How far a job is, from the data of its `data-progress`: {done, total, percent, message}, or null when it says none. */
export function stepOf(data) {
  const isAmount = (value) => typeof value === "number" && Number.isFinite(value) && value >= 0;
  const { done, total, message } = data ?? {};
  if (!isAmount(done) || !isAmount(total) || total === 0) return null;
  const percent = Math.min(100, Math.floor((100 * done) / total));
  return { done, total, percent, message: typeof message === "string" ? message : "" };
}

/** How it ended: {tone, text, code?}. */
export function endingSentence({ status, error, finishReason, abortReason, usage }) {
  if (status === "failed") {
    return { tone: "bad", text: error?.message ?? "The answer failed.", code: error?.code ?? "error" };
  }
  const tokens = usageWords(usage);
  const tail = tokens === null ? "" : ` · ${tokens}`;
  if (status === "aborted") {
    const text = abortReason === "abandoned" ? "Stopped: nobody watched any more" : "Stopped";
    return { tone: "quiet", text: text + tail };
  }
  const reasons = { length: "Finished at its length limit", "content-filter": "Ended by the provider’s content filter" };
  return { tone: "quiet", text: (reasons[finishReason] ?? "Finished") + tail };
}

function usageWords(usage) {
  if (usage === null || (usage.inputTokens == null && usage.outputTokens == null)) return null;
  const about = usage.estimated === true ? "about " : "";
  return `${usage.inputTokens ?? "?"} tokens in, ${about}${usage.outputTokens ?? "?"} out`;
}

/** How long ago, short; both in seconds. */
export function ago(then, now) {
  const seconds = Math.max(0, Math.round(now - then));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

export const viewersWord = (count) => (count === 1 ? "1 viewer" : `${count} viewers`);
