/**
 * The rows of a timeline from the events of a watch, as documents/timeline.py makes them of a log. A row has a time if the
 * page saw its event arrive live; the grant of an attempt has its own in the cursor.
 */

const OUTPUT = { "text-delta": "text", "reasoning-delta": "reasoning", "tool-input-delta": "tool-input" };
const KINDS = {
  "start-step": "step",
  "tool-input-available": "tool-call",
  "tool-output-available": "tool-result",
  "tool-output-error": "tool-failed",
  attempt: "attempt",
  finish: "end",
  error: "end",
  abort: "end",
};
const ROWS_KEPT = 500;

const epochOf = (cursor) => Number(cursor.split("-")[0]) / 1000;

export class Rows {
  constructor() {
    this.rows = [];
    this.isLive = false;
  }

  /** Take the next update of a watch, at `now` (Unix seconds, the server's clock). Returns whether a row was added. */
  note(update, now) {
    if (update.kind === "connection") this.isLive = update.name === "live" || (this.isLive && update.name === "stalled");
    if (update.kind === "gap" && (update.reason === "rewound" || update.reason === "reset")) this.rows = [];
    if (update.kind !== "entry") return false;
    const { cursor, event } = update;
    const before = this.rows.length;
    if (before === 0 && event.type !== "attempt") this.add({ kind: "attempt", at: epochOf(cursor), attempt: 1 });
    const kind = KINDS[event.type] ?? OUTPUT[event.type];
    if (kind === undefined) return this.rows.length > before;
    const isOutput = event.type in OUTPUT;
    if (isOutput && this.rows.at(-1)?.kind === kind) return false;
    const at = kind === "attempt" ? epochOf(cursor) : this.isLive ? now : null;
    this.add({
      kind,
      at,
      attempt: event.attempt ?? null,
      tool: event.toolName ?? null,
      tool_call_id: event.toolCallId ?? null,
      outcome: kind === "end" ? event.type : null,
    });
    return this.rows.length > before;
  }

  add(row) {
    if (this.rows.length < ROWS_KEPT || row.kind === "end") this.rows.push(row);
  }
}
