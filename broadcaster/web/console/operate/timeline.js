/**
 * The timeline of one generation. Its log is read page by page, each entry once: a refresh continues where the last one
 * ended. Most rows have no time, because the log has none for them.
 */

import { getTimeline } from "../api.js";
import { serverNow } from "../server_clock.js";
import { isOver, statusText } from "../texts.js";
import { courseOf } from "../timeline/course.js";
import { Picture } from "../timeline/picture.js";
import { clock, count } from "./formats.js";
import { Section, Table } from "./tables.js";

const PAGES_AT_ONCE = 20;
const ROWS_KEPT = 1000;
const OUTPUT = { text: "Text", reasoning: "Reasoning", "tool-input": "Tool arguments", other: "Other events" };
const STEPS = {
  accepted: "Provider accepted",
  step: "Step begins",
  "step-end": "Step ends",
  "tool-call": "Tool call",
  "tool-call-failed": "Tool call unreadable",
  "tool-result": "Tool result",
  "tool-failed": "Tool failed",
  usage: "Usage",
};

const ABOUT =
  "What happened to one answer, step by step. The log stores times only where a worker begins and where the answer ends.";
const COLUMNS = [{ title: "Time" }, { title: "Step" }, { title: "Detail" }];

export class Timeline {
  constructor() {
    this.table = new Table("Timeline", COLUMNS, "Nothing is known of this generation yet.");
    this.picture = new Picture({ hasLines: false });
    this.section = new Section({ name: "timeline", title: "Timeline", about: ABOUT }, this.picture.root, this.table.root);
    this.select(null);
  }

  get root() {
    return this.section.root;
  }

  /** Show another generation; null: none. */
  select(id) {
    this.id = id;
    this.rows = [];
    this.after = null;
    this.isComplete = false;
    this.isCut = false;
    this.section.report(null);
    this.section.setFacts(id === null ? [] : [id]);
    this.table.draw([]);
    this.picture.root.hidden = true;
  }

  /** Read what is new. Fails with a BroadcasterError. */
  async refresh() {
    const { id } = this;
    for (let page = 0; page < PAGES_AT_ONCE && !this.isComplete; page += 1) {
      const view = await getTimeline(id, this.after);
      if (this.id !== id) return;
      this.add(view);
      this.draw(view);
      if (view.is_last || this.isCut) break;
    }
  }

  add(view) {
    for (const row of view.rows) {
      const last = this.rows.at(-1);
      if (row.events > 0 && last?.kind === row.kind) last.events += row.events;
      else this.rows.push(row);
    }
    this.after = view.next_after;
    this.isCut = this.rows.length > ROWS_KEPT;
    this.isComplete = (isOver(view.status) && view.is_last) || this.isCut;
    this.rows.length = Math.min(this.rows.length, ROWS_KEPT);
  }

  draw(view) {
    const { section, rows } = this;
    section.setFacts([
      view.id,
      `tenant ${view.tenant}`,
      view.model,
      statusText(view.status),
      view.worker === null ? "no worker yet" : `worker ${view.worker}`,
      view.stop_requested && !isOver(view.status) ? "stop requested" : null,
      this.isCut ? `only the first ${ROWS_KEPT} steps are shown` : null,
    ]);
    const { created_at: createdAt, ended_at: endedAt } = view;
    this.picture.draw(courseOf({ createdAt, endedAt, now: serverNow(), rows }));
    let isFirst = true;
    const shown = [this.row("queued", view.created_at, view.created_at, "Queued", "")];
    for (const row of rows) {
      if (row.kind === "attempt") isFirst = true;
      const isToken = row.events > 0 && row.kind !== "other";
      const at = row.kind === "end" ? view.ended_at : row.at;
      shown.push(this.row(`${row.kind} ${row.id}`, at, view.created_at, stepOf(row, isFirst && isToken), detailOf(row)));
      if (isToken) isFirst = false;
    }
    if (isOver(view.status) && rows.at(-1)?.kind !== "end" && view.is_last) {
      shown.push(this.row("over", view.ended_at, view.created_at, `Over: ${statusText(view.status)}`, "its log has expired"));
    }
    this.table.draw(shown);
  }

  row(key, at, createdAt, step, detail) {
    const after = at === null || at === createdAt ? "" : ` (+${Math.max(0, at - createdAt).toFixed(1)} s)`;
    return { key, cells: [at === null ? "" : clock(at) + after, step, detail] };
  }
}

function stepOf(row, isFirstToken) {
  if (row.kind === "attempt") return `Attempt ${row.attempt} granted`;
  if (row.kind === "end") return { finish: "Finished", error: "Failed", abort: "Stopped" }[row.outcome];
  if (row.events > 0) return isFirstToken ? `First token: ${OUTPUT[row.kind].toLowerCase()}` : OUTPUT[row.kind];
  return STEPS[row.kind] ?? row.kind;
}

function detailOf(row) {
  const parts = [];
  if (row.tool !== null) parts.push(row.tool);
  if (row.tool_call_id !== null) parts.push(row.tool_call_id);
  if (row.reason !== null) parts.push(row.reason);
  if (row.events > 0) parts.push(count(row.events, "event"));
  if (row.input_tokens !== null) parts.push(`${row.input_tokens} tokens in`);
  if (row.output_tokens !== null) parts.push(`${row.output_tokens} out`);
  return parts.join(" · ");
}
