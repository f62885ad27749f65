/**
 * The lists of the operator's view: what each is called, a sentence that explains it, its figures in words, and its rows.
 *
 *   {name, title, about, path, columns, empty, facts(view), rows(view)}
 */

import { clock, count, counts, size, span } from "./formats.js";

/** `hint` is shown where the pointer rests on the column's title. */
const text = (title, hint) => ({ title, hint });
const number = (title, hint) => ({ title, hint, isNumber: true });
const timelineLink = (id) => ({ text: id, href: `#/operate/${id}` });
const more = (view) => (view.next_after == null && view.next_before == null ? null : "more exist: see the API");

export const WORKERS = {
  name: "workers",
  title: "Workers",
  about:
    "The processes that call the models. A worker that was killed or cut off gives no more signs: another one takes over " +
    "its answers, and it leaves this list an hour after its last sign. One that is shut down leaves it at once.",
  path: "workers",
  columns: [
    text("Worker", "host, process id and a random part"),
    text("State"),
    number("Slots in use", "how many answers it writes now, of those that it may write at the same time"),
    text("Answer", "the generation that it runs; follow the link for its timeline"),
    text("Model"),
    number("Attempt", "the second attempt begins when the worker of the first one is lost"),
    number("Since", "how long it has been writing this answer"),
  ],
  empty: "No worker is known, so nothing is answered. Start one with: broadcaster worker",
  facts: (view) => [`${view.alive} alive`, view.silent > 0 ? `${view.silent} without a sign of life` : null, more(view)],
  rows: (view) => view.workers.flatMap((worker) => workerRows(worker, view)),
};

function workerRows(worker, { now, alive }) {
  const used = worker.slots === null ? null : `${worker.running} of ${worker.slots}`;
  const whole = (cells) => [worker.id, stateOf(worker, alive), used, ...cells];
  if (worker.generations.length === 0) return [{ key: worker.id, cells: whole([worker.alive ? "idle" : null, null, null, null]) }];
  return worker.generations.map((each, index) => {
    const cells = [timelineLink(each.id), each.model, each.attempt, span(now - each.granted_at)];
    return { key: `${worker.id} ${each.id}`, cells: index === 0 ? whole(cells) : ["", "", "", ...cells] };
  });
}

/** A lost worker is bad news where no other one is left to take over. */
function stateOf(worker, alive) {
  if (!worker.alive) return { text: `last sign ${span(worker.silent_s)} ago`, tone: alive === 0 ? "bad" : "gone" };
  const up = worker.uptime_s === null ? "" : ` for ${span(worker.uptime_s)}`;
  const reached = worker.limits.length > 0 ? `; limits reached (settings): ${counts(worker.limits)}` : "";
  return { text: `alive${up}${worker.draining ? "; ends after its answers" : ""}${reached}` };
}

export const QUEUE = {
  name: "queue",
  title: "Waiting",
  about: "Answers that no worker writes yet. Tenants take turns; each answer begins as soon as a worker has a free slot.",
  path: "queue",
  columns: [text("Tenant"), number("Waiting"), number("Longest wait", "of the tenant's next ten")],
  empty: "No answer waits for a worker.",
  facts: (view) => [
    `${view.waiting} waiting for a worker`,
    `${view.delayed} waiting for their next attempt`,
    `${view.running} being written`,
    view.oldest_wait_s === null ? null : `longest wait ${span(view.oldest_wait_s)}`,
    more(view),
  ],
  rows: (view) =>
    view.tenants.map((each) => ({ key: each.tenant, cells: [each.tenant, each.waiting, span(each.oldest_wait_s)] })),
};

export const STREAMS = {
  name: "front-end",
  title: "This front-end",
  about:
    "The process that serves this page, and the streams that are watched through it. Other front-ends have viewers of " +
    "their own, and are not counted here.",
  path: "front-end",
  columns: [
    text("Stream", "an answer, or a job's feed"),
    text("Tenant"),
    text("State"),
    number("Viewers", "connections that receive it now"),
    number("Viewers behind", "those that have not received everything yet: their connections are slower than the stream"),
    number("Most events behind", "what the slowest of them still has to receive"),
  ],
  empty: "Nothing is being watched through this front-end.",
  facts: (view) => [
    `${view.name}, up ${span(view.uptime_s)}${view.draining ? ", ending: it sends its viewers to others" : ""}`,
    `${count(view.viewers, "viewer")}, ${view.max_viewers.toLocaleString("en")} at most`,
    `${size(view.room_bytes)} of recent events in memory, ${size(view.max_room_bytes)} at most`,
    view.limits.length > 0 ? `limits reached (settings): ${counts(view.limits)}` : "no limit was reached",
    view.refused.length > 0 ? `requests refused: ${counts(view.refused)}` : null,
  ],
  rows: (view) =>
    view.streams.map((each) => ({
      key: each.id,
      cells: [
        each.id.startsWith("gen_") ? timelineLink(each.id) : each.id,
        each.tenant,
        each.stalled === null ? each.status : { text: `stalled: ${each.stalled}`, tone: "bad" },
        each.viewers,
        each.behind,
        each.lag,
      ],
    })),
};

const KINDS = { single: "one server", cluster: "a cluster", sentinel: "watched over by sentinels" };

export const REDIS = {
  name: "redis",
  title: "Redis",
  about:
    "Where every event is stored before anyone sees it. While it does not respond, answers pause, and go on where they were.",
  path: "redis",
  columns: [
    text("Server"),
    text("Version"),
    number("Memory used"),
    number("Memory limit", "“none”: only the machine's memory bounds it"),
    number("Response time", "one request and its response, from this front-end"),
    text("State"),
  ],
  empty: "No server is known.",
  facts: (view) => [
    KINDS[view.kind] ?? view.kind,
    view.steady ? null : "it has only just begun to respond: no worker is believed to be lost yet",
    view.breaks === 0
      ? "has responded ever since this front-end began"
      : `lost ${count(view.breaks, "time")}, responding again for ${span(view.answered_s)}`,
  ],
  rows: (view) =>
    view.servers.map((each) => ({
      key: each.name,
      cells: [
        each.name || "the server",
        each.engine === null ? "unknown" : `${each.engine} ${each.version ?? ""}`,
        size(each.used_bytes),
        each.max_bytes === 0 ? "none" : size(each.max_bytes),
        each.round_trip_ms === null ? null : `${each.round_trip_ms.toFixed(1)} ms`,
        each.fault ?? each.write_fault ? { text: each.fault ?? each.write_fault, tone: "bad" } : "responds",
      ],
    })),
};

/** `confirm(letter)` is called for the button of a row. */
export const deadLetters = (confirm) => ({
  name: "dead-letters",
  title: "Dead letters",
  about:
    "Answers that failed on every attempt. “Requeue” starts a new one with the same request; the model's provider is paid " +
    "once more.",
  path: "dead-letters",
  columns: [text("Answer"), text("Failed at"), text("Reason"), text("Model"), text("Requeue")],
  empty: "No answer has failed on every attempt.",
  facts: (view) => [more(view)],
  rows: (view) =>
    view.dead_letters.map((letter) => ({
      key: letter.id,
      cells: [
        timelineLink(letter.generation_id),
        `${new Date(letter.at * 1000).toLocaleDateString()} ${clock(letter.at)}`,
        letter.reason,
        letter.model,
        letter.can_requeue
          ? { text: "Requeue", label: `Requeue ${letter.generation_id}`, onClick: () => confirm(letter) }
          : "its request has expired",
      ],
    })),
});
