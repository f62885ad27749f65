/**
 * The operator's view: workers, queue, this front-end, dead letters, Redis, and the timeline of one generation. It is
 * offered where the API says that the key has the right `admin`, and read every two seconds while it is visible.
 */

import { BroadcasterError } from "../client/errors.js";
import { getAdmin, getCaller, requeueLetter } from "../api.js";
import { element, show } from "../dom.js";
import { QUEUE, REDIS, STREAMS, WORKERS, deadLetters } from "./panels.js";
import { Section, Table } from "./tables.js";
import { Timeline } from "./timeline.js";

const REFRESH_MS = 2000;
const NO_RIGHT = "This view needs a key with the right “admin”.";
const PLACE = /^#\/operate(?:\/([A-Za-z0-9][A-Za-z0-9_.:-]{0,127}))?$/;

const byId = (id) => document.getElementById(id);
/** One list of the API, with the table that shows it. */
class Panel {
  constructor({ name, title, about, path, columns, empty, facts, rows }) {
    this.path = path;
    this.table = new Table(title, columns, empty);
    this.section = new Section({ name, title, about }, this.table.root);
    this.facts = facts;
    this.rows = rows;
  }

  async refresh() {
    const view = await getAdmin(this.path);
    this.section.setFacts(this.facts(view));
    this.table.draw(this.rows(view));
  }
}

export class Operate {
  /** `handles` is called with each BroadcasterError, and returns whether another part of the page reports it. */
  constructor(handles) {
    this.handles = handles;
    /** null: the API has not answered yet, or has refused the key. */
    this.isAllowed = null;
    this.isOpen = false;
    this.timer = null;
    this.letter = null;
    this.timeline = new Timeline();
    this.letters = new Panel(deadLetters((letter) => this.confirm(letter)));
    this.panels = [new Panel(WORKERS), new Panel(QUEUE), new Panel(STREAMS), this.letters, new Panel(REDIS)];
    this.notice = element("p", { class: "operate-notice", role: "status", "data-testid": "operate-notice" });
    byId("operate").append(this.notice, this.timeline.root, ...this.panels.map(({ section }) => section.root));
    this.dialog = byId("requeue-dialog");
    byId("requeue-cancel").addEventListener("click", () => this.dialog.close());
    byId("requeue-confirm").addEventListener("click", () => this.requeue());
    document.addEventListener("visibilitychange", () => this.refresh());
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
    const isRefused = (await Promise.all(parts.map((part) => this.read(part)))).includes(false);
    if (round !== this.round) return;
    if (isRefused) this.isAllowed = null; // until the page learns the rights of another key
    this.timer = setTimeout(() => this.refresh(), isRefused ? 0 : REFRESH_MS);
  }

  /** Returns false where another part of the page reports the failure. */
  async read(part) {
    try {
      await part.refresh();
      part.section.report(null);
    } catch (problem) {
      if (!(problem instanceof BroadcasterError)) throw problem;
      if (this.handles(problem)) return false;
      part.section.report(problem);
    }
    return true;
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
