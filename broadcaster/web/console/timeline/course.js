/**
 * The course of a generation, from the rows of its timeline (documents/timeline.py, or rows.js): pure.
 *
 *   {total, spans: [{kind, from, to, text}], marks: [{kind, at, text}], lines: [text]}
 *
 * Times are seconds since the creation. A row without a time has a line and no mark: nothing is drawn where no time is known.
 */

const ENDINGS = { finish: "Finished", error: "Failed", abort: "Stopped" };
const OUTPUT = new Set(["text", "reasoning", "tool-input"]);
// More would hide each other.
const MARKS_AT_MOST = 60;

const seconds = (amount) => `${amount.toFixed(1)} s`;

/** `now` and all times of `rows` are Unix seconds; `endedAt` is null while it runs. */
export function courseOf({ createdAt, endedAt, now, rows }) {
  const end = Math.max(endedAt ?? now, createdAt);
  const since = (at) => Math.min(Math.max(at - createdAt, 0), end - createdAt);
  const total = end - createdAt;
  const [queued, ...attempts] = spansOf(rows, { total, since });
  const course = { total, spans: [queued, ...attempts], marks: [], lines: [queued.text] };
  const names = new Names();
  for (const row of rows) {
    const mark = { ...names.next(row), at: hasTime(row) ? since(row.at) : null };
    if (row.kind === "attempt" && hasTime(row)) course.lines.push(attempts.shift().text);
    if (mark.text === undefined) continue;
    course.lines.push(mark.at === null ? mark.text : `${mark.text} after ${seconds(mark.at)}`);
    if (mark.at !== null && course.marks.length < MARKS_AT_MOST) course.marks.push(mark);
  }
  const ending = rows.at(-1)?.kind === "end" ? ENDINGS[rows.at(-1).outcome] : "Running";
  if (course.spans.length > 1 || ending !== "Running") course.lines.push(`${ending} ${ending === "Running" ? "for" : "after"} ${seconds(total)}`);
  return course;
}

const hasTime = ({ at }) => at !== null && at !== undefined;

/** The wait for a worker, and each attempt until the next one or the end. */
function spansOf(rows, { total, since }) {
  const grants = rows.filter((row) => row.kind === "attempt" && hasTime(row));
  const starts = [...grants.map(({ at }) => since(at)), total];
  const span = (kind, from, to, name, rest = "") => ({ kind, from, to, text: `${name}: ${seconds(to - from)}${rest}` });
  return [
    span("queued", 0, starts[0], grants.length > 0 ? "Queued" : "Waiting for a worker"),
    ...grants.map(({ attempt }, index) => {
      const isLast = index === grants.length - 1;
      const rest = isLast ? "" : ", until another worker took over";
      return span(isLast ? "attempt" : "lost", starts[index], starts[index + 1], `Attempt ${attempt}`, rest);
    }),
  ];
}

/** What the next row is called: {kind, text}, or {} for one without a line. */
class Names {
  constructor() {
    this.hasOutput = false;
    this.steps = 0;
    this.tools = new Map();
  }

  next({ kind, tool, tool_call_id: id }) {
    if (kind === "attempt") {
      this.hasOutput = false;
      this.steps = 0;
    }
    if (OUTPUT.has(kind) && !this.hasOutput) {
      this.hasOutput = true;
      return { kind: "first", text: "First token" };
    }
    if (kind === "step") {
      this.steps += 1;
      return this.steps > 1 ? { kind, text: `Step ${this.steps}` } : {};
    }
    if (kind === "tool-call") {
      this.tools.set(id, tool ?? "call");
      return { kind, text: `Tool ${this.tools.get(id)} called` };
    }
    const answered = { "tool-result": "answered", "tool-failed": "failed" }[kind];
    return answered === undefined ? {} : { kind, text: `Tool ${this.tools.get(id) ?? "call"} ${answered}` };
  }
}
