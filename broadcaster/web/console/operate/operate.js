/**
 * The operator's view: workers, queue, this front-end, dead letters, Redis, and the timeline of one generation. It is
 * offered where the API says that the key has the right `admin`, and read every two seconds while it is visible.
 */

import { BroadcasterError } from "../client/errors.js";
import { getAdmin, getCaller, requeueLetter } from "../api.js";
import { element, show } from "../dom.js";
import { clock, count, counts, size, span } from "./formats.js";
import { Section, Table } from "./tables.js";
import { Timeline } from "./timeline.js";

const REFRESH_MS = 2000;
const NO_RIGHT = "This view needs a key with the right “admin”.";
const PLACE = /^#\/operate(?:\/([A-Za-z0-9][A-Za-z0-9_.:-]{0,127}))?$/;

const byId = (id) => document.getElementById(id);
const text = (title) => ({ title });
const number = (title) => ({ title, isNumber: true });
const timelineLink = (id) => ({ text: id, href: `#/operate/${id}` });

/** One list of the API, with the table that shows it. */
class Panel {
  constructor({ name, title, path, columns, empty, facts, rows }) {
    this.path = path;
    this.table = new Table(title, columns, empty);
    this.section = new Section(name, title, this.table.root);
    this.facts = facts;
    this.rows = rows;
  }

  async refresh() {
    const view = await getAdmin(this.path);
    this.section.setFacts(this.facts(view));
    this.table.draw(this.rows(view));
  }
}

const more = (view) => (view.next_after == null && view.next_before == null ? null : "more exist: see the API");

const WORKERS = {
  name: "workers",
  title: "Workers",
  path: "workers",
  columns: [text("Worker"), text("State"), number("Slots used"), text("Generation"), text("Model"), number("Attempt"), number("Age")],
  empty: "No worker is known. Start one with: broadcaster worker",
  facts: (view) => [`${view.alive} alive`, view.silent > 0 ? `${view.silent} silent` : null, more(view)],
  rows: (view) => view.workers.flatMap((worker) => workerRows(worker, view.now)),
};

function workerRows(worker, now) {
  const reached = worker.limits.length > 0 ? `; limits reached: ${counts(worker.limits)}` : "";
  const state = worker.alive
    ? { text: (worker.draining ? "draining" : "alive") + (worker.uptime_s === null ? "" : `, up ${span(worker.uptime_s)}`) + reached }
    : { text: `silent for ${span(worker.silent_s)}`, tone: "bad" };
  const used = worker.slots === null ? null : `${worker.running} of ${worker.slots}`;
  const whole = (cells) => [worker.id, state, used, ...cells];
  if (worker.generations.length === 0) return [{ key: worker.id, cells: whole([worker.alive ? "idle" : null, null, null, null]) }];
  return worker.generations.map((each, index) => {
    const cells = [timelineLink(each.id), each.model, each.attempt, span(now - each.granted_at)];
    return { key: `${worker.id} ${each.id}`, cells: index === 0 ? whole(cells) : ["", "", "", ...cells] };
  });
}

const QUEUE = {
  name: "queue",
  title: "Queue",
  path: "queue",
  columns: [text("Tenant"), number("Waiting"), number("Oldest wait")],
  empty: "No generation waits for a worker.",
  facts: (view) => [
    `${view.waiting} waiting`,
    `${view.delayed} delayed`,
    `${view.running} running`,
    view.oldest_wait_s === null ? null : `oldest wait ${span(view.oldest_wait_s)}`,
    more(view),
  ],
  rows: (view) =>
    view.tenants.map((each) => ({ key: each.tenant, cells: [each.tenant, each.waiting, span(each.oldest_wait_s)] })),
};

const STREAMS = {
  name: "front-end",
  title: "This front-end",
  path: "front-end",
  columns: [text("Stream"), text("Tenant"), text("State"), number("Viewers"), number("Behind"), number("Lag (events)")],
  empty: "No stream has a viewer at this front-end.",
  facts: (view) => [
    `${view.name}, up ${span(view.uptime_s)}${view.draining ? ", draining" : ""}`,
    `${view.viewers} of ${count(view.max_viewers, "viewer")}`,
    `rooms ${size(view.room_bytes)} of ${size(view.max_room_bytes)}`,
    view.limits.length > 0 ? `limits reached: ${counts(view.limits)}` : "no limit was reached",
    view.refused.length > 0 ? `refused: ${counts(view.refused)}` : null,
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

const REDIS = {
  name: "redis",
  title: "Redis",
  path: "redis",
  columns: [text("Server"), text("Version"), number("Memory"), number("Limit"), number("Response"), text("State")],
  empty: "No server is known.",
  facts: (view) => [
    view.kind,
    view.steady ? "steady" : "not steady: it has not answered for a whole lease yet",
    view.breaks === 0 ? "no break seen" : `${count(view.breaks, "break")}, answers for ${span(view.answered_s)}`,
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
        each.fault ?? each.write_fault ? { text: each.fault ?? each.write_fault, tone: "bad" } : "answers",
      ],
    })),
};

export class Operate {
  /** `handles` is called with each BroadcasterError, and returns whether another part of the page reports it. */
  constructor(handles) {
    this.handles = handles;
    /** null: the API has not answered yet. */
    this.isAllowed = null;
    this.isOpen = false;
    this.timer = null;
    this.letter = null;
    this.timeline = new Timeline();
    this.letters = new Panel(this.deadLetters());
    this.panels = [new Panel(WORKERS), new Panel(QUEUE), new Panel(STREAMS), this.letters, new Panel(REDIS)];
    this.notice = element("p", { class: "operate-notice", role: "status", "data-testid": "operate-notice" });
    byId("operate").append(this.notice, this.timeline.root, ...this.panels.map(({ section }) => section.root));
    this.dialog = byId("requeue-dialog");
    byId("requeue-cancel").addEventListener("click", () => this.dialog.close());
    byId("requeue-confirm").addEventListener("click", () => this.requeue());
    document.addEventListener("visibilitychange", () => this.refresh());
  }

  deadLetters() {
    return {
      name: "dead-letters",
      title: "Dead letters",
      path: "dead-letters",
      columns: [text("Generation"), text("Failed at"), text("Reason"), text("Model"), text("Requeue")],
      empty: "No generation has failed on every attempt.",
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
              ? { text: "Requeue", label: `Requeue ${letter.generation_id}`, onClick: () => this.confirm(letter) }
              : "its request has expired",
          ],
        })),
    };
  }

  /** Ask the API whether the key may operate. */
  async learnRights() {
    try {
      this.isAllowed = (await getCaller()).rights.includes("admin");
    } catch (problem) {
      if (!(problem instanceof BroadcasterError)) throw problem;
      this.isAllowed = problem.retry ? null : false;
      if (problem.retry) setTimeout(() => this.learnRights(), REFRESH_MS);
    }
    show(byId("operate-link"), this.isAllowed === true);
    if (this.isOpen) this.refresh();
  }

  /** Open, close, or show another timeline, by the page's hash. Returns whether the view is open. */
  select() {
    const place = PLACE.exec(location.hash);
    this.isOpen = place !== null;
    const id = place?.[1] ?? null;
    if (id !== this.timeline.id) {
      this.timeline.select(id);
      if (id !== null) byId("scroll").scrollTop = 0;
    }
    show(byId("operate"), this.isOpen);
    show(this.timeline.root, id !== null);
    byId("main").classList.toggle("is-operating", this.isOpen);
    if (this.isOpen) byId("operate-link").setAttribute("aria-current", "page");
    else byId("operate-link").removeAttribute("aria-current");
    this.refresh();
    return this.isOpen;
  }

  async refresh() {
    clearTimeout(this.timer);
    const round = (this.round = {});
    if (!this.isOpen || document.hidden) return;
    const parts = this.timeline.id === null ? this.panels : [this.timeline, ...this.panels];
    for (const { section } of this.panels) show(section.root, this.isAllowed === true);
    if (this.isAllowed !== true) {
      this.notify(this.isAllowed === false ? NO_RIGHT : "");
      return;
    }
    if (this.notice.textContent === NO_RIGHT) this.notify("");
    await Promise.all(parts.map((part) => this.read(part)));
    if (round !== this.round) return;
    this.timer = setTimeout(() => this.refresh(), REFRESH_MS);
  }

  async read(part) {
    try {
      await part.refresh();
      part.section.report(null);
    } catch (problem) {
      if (!(problem instanceof BroadcasterError)) throw problem;
      if (!this.handles(problem)) part.section.report(problem);
    }
  }

  notify(sentence) {
    if (this.notice.textContent !== sentence) this.notice.textContent = sentence;
    show(this.notice, sentence !== "");
  }

  confirm(letter) {
    this.letter = letter;
    byId("requeue-what").textContent = letter.generation_id;
    this.dialog.showModal();
  }

  async requeue() {
    const { letter } = this;
    this.dialog.close();
    try {
      const { new_id: id, created } = await requeueLetter(letter.id);
      this.notify(`${letter.generation_id} was requeued ${created ? "" : "before, "}as ${id}.`);
    } catch (problem) {
      if (!(problem instanceof BroadcasterError)) throw problem;
      if (!this.handles(problem)) this.notify(`${letter.generation_id} was not requeued. ${problem.message} (${problem.code})`);
    }
    this.refresh();
  }
}
