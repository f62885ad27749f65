/**
 * The one indicator of the page: what is true of the open stream now. Pure.
 *
 *   {name, tone, text}: tone is "busy", "calm", "warn" or "bad"
 *
 * Rules
 * 1. What the reader must act on comes first: a link or a key that is not valid, then the connection, then the answer.
 * 2. The page notices by its own clock that nothing comes: QUIET_MS after the last event of a running answer.
 */

import { CLOSED, STALLS, isOver, statusText } from "../texts.js";

export const QUIET_MS = 5000;

/**
 * `connection` is the state of a Stream (stream.js), `status` the answer's, `quietMs` the time since its last event, and
 * `now` performance.now(). `isLoading`: the answer is over, and its end has not been read; it has no status then.
 */
export function indicatorOf({ connection, status, isLoading, isFeed, stopRequested, quietMs, now }) {
  const made = ofLink(connection) ?? (isOver(status) ? ofEnd(status) : null) ?? ofConnection(connection, now);
  return made ?? (isLoading ? LOADING : ofProgress({ status, isFeed, stopRequested, quietMs }));
}

const indicator = (name, tone, text) => ({ name, tone, text });
const LOADING = indicator("loading", "calm", "Loading…");
const span = (ms) => (ms < 120_000 ? `${Math.floor(ms / 1000)} s` : `${Math.floor(ms / 60_000)} min`);

function ofLink({ name, reason }) {
  if (name === "gone") return indicator("expired", "calm", "Not found");
  if (name === "locked") return indicator("signed-out", "warn", "Signed out: a key is needed");
  if (name === "closed") return indicator("closed", "warn", CLOSED[reason] ?? "Closed by the server");
  if (name === "awaited") return indicator("awaited", "calm", "Not started yet");
  return null;
}

function ofEnd(status) {
  const tones = { finished: "calm", failed: "bad", aborted: "calm" };
  const text = statusText(status);
  return indicator(status === "aborted" ? "stopped" : status, tones[status], text[0].toUpperCase() + text.slice(1));
}

function ofConnection({ name, reason, since }, now) {
  if (name === "connecting" || name === "catching-up") return LOADING;
  if (name === "reconnecting") return indicator("reconnecting", "warn", `Reconnecting… ${span(now - since)}`);
  if (name === "stalled") return indicator("stalled", "warn", STALLS[reason] ?? `Stalled: ${reason}`);
  if (name === "paused") return indicator("paused", "calm", "Paused while the page is hidden");
  return null;
}

function ofProgress({ status, isFeed, stopRequested, quietMs }) {
  if (stopRequested) return indicator("stopping", "warn", "Stopping…");
  if (status === "queued") return indicator("queued", "busy", "Waiting for a worker");
  // A job may have nothing to report for minutes; an answer that is silent so long is worth a look.
  if (quietMs >= QUIET_MS && isFeed) return indicator("quiet", "calm", `Live, the last event ${span(quietMs)} ago`);
  if (quietMs >= QUIET_MS) return indicator("quiet", "warn", `No news for ${span(quietMs)}`);
  return indicator("live", "busy", isFeed ? "Live" : "Answering");
}
