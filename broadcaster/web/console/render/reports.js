/** What the data of a job's reports mean. Pure. */

const LEVELS = { debug: "debug", info: "info", warn: "warning", warning: "warning", error: "error", critical: "error" };

/** A job's progress from the data of its `data-progress`: {done, total, percent, message}, or null without amounts. */
export function stepOf(data) {
  const isAmount = (value) => typeof value === "number" && Number.isFinite(value) && value >= 0;
  const { done, total, message } = data ?? {};
  if (!isAmount(done) || !isAmount(total) || total === 0) return null;
  const percent = Math.min(100, Math.floor((100 * done) / total));
  return { done, total, percent, message: typeof message === "string" ? message : "" };
}

/** The text of a log line or a status: a text, or the first of the fields that hold one; any other data as JSON. */
export function lineOf(data) {
  if (typeof data === "string") return data;
  const text = [data?.message, data?.line, data?.text, data?.status].find((field) => typeof field === "string");
  return text ?? JSON.stringify(data) ?? "";
}

/** debug, info, warning or error; "" when the data name no level. */
export function levelOf(data) {
  const level = typeof data?.level === "string" ? data.level.toLowerCase() : "";
  return Object.hasOwn(LEVELS, level) ? LEVELS[level] : "";
}

/** The sentence of a `data-dropped`, which a publisher writes in place of events that it had no room for. */
export function droppedText(data) {
  const count = Number.isInteger(data?.events) ? data.events.toLocaleString("en") : "Some";
  return `${count} events were dropped: the publisher could not send them in time.`;
}
