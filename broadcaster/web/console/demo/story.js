/**
 * What a fault of the demo led to, as the page saw it: pure, from the updates of a watch and the times of this page's clock
 * (milliseconds). Nothing is claimed that no update has shown.
 */

const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`;
const seqOf = (cursor) => Number(cursor.split("-")[1]);
const isText = (event) => /^(text|reasoning)-delta$/.test(event.type);
const ENDS = { finish: "finished", error: "failed", abort: "was stopped" };

/** The chapters of each fault: the update that opens one, and its sentence, from the time since the fault. */
const CHAPTERS = {
  "kill-worker": [
    {
      isOpenedBy: ({ name }) => name === "stalled",
      text: (after) => `After ${after} the page learned that the worker is lost.`,
      isOptional: true,
    },
    {
      isOpenedBy: ({ event }) => event?.type === "attempt",
      text: (after, { event }) => `After ${after} another worker took over and restarted the answer (attempt ${event.attempt}).`,
    },
    { isOpenedBy: ({ event }) => event !== undefined && isText(event), text: (after) => `After ${after} text arrived again.` },
  ],
  "restart-front-end": [
    { isOpenedBy: ({ name }) => name === "reconnecting", text: (after) => `After ${after} the connection was lost.` },
    {
      isOpenedBy: ({ name, event }) => name === "live" || name === "catching-up" || event !== undefined,
      text: (after, _, { last }) => `After ${after} the page was connected again, and continued after event ${last}.`,
    },
  ],
  "cut-redis": [
    {
      isOpenedBy: ({ name }) => name === "stalled",
      text: (after) => `After ${after} the page learned that Redis does not respond.`,
      isOptional: true,
    },
    {
      isOpenedBy: ({ event }, silentMs) => event !== undefined && silentMs > 1000,
      text: (after, _, { silentMs }) => `After ${after} events arrived again, ${seconds(silentMs)} after the one before.`,
    },
  ],
};

const OPENINGS = {
  "kill-worker": ({ pid }) => `kill -9 of the worker that writes this answer (process ${pid}).`,
  "restart-front-end": () => "kill -9 of the front-end that this page is connected to.",
  "cut-redis": ({ seconds: cutS }) => `Every connection to Redis is cut, and Redis does not answer for ${cutS} s.`,
};

export class Story {
  /** `fault` was caused at `now`; `facts` are the server's response. `last` is the newest event's number until then. */
  constructor(fault, facts, { now, last }) {
    this.lines = [OPENINGS[fault](facts)];
    this.began = now;
    this.last = last;
    this.newsAt = now;
    this.chapters = [...CHAPTERS[fault]];
    this.isOver = false;
    this.gaps = 0;
    this.doubles = 0;
  }

  /** Whether the fault has been survived; the answer may still run. */
  get isSurvived() {
    return this.chapters.length === 0 || this.isOver;
  }

  /** Take the next update of the watch. */
  note(update, now) {
    if (this.isOver) return;
    const silentMs = now - this.newsAt;
    this.open(update, { now, silentMs });
    if (update.kind === "gap") this.gaps += 1;
    if (update.kind !== "entry") return;
    this.newsAt = now;
    const seq = seqOf(update.cursor);
    if (seq <= this.last) this.doubles += 1;
    this.last = Math.max(this.last, seq);
    if (update.event.type in ENDS) this.end(update.event);
  }

  open(update, { now, silentMs }) {
    const at = this.chapters.findIndex((chapter) => chapter.isOpenedBy(update, silentMs));
    if (at < 0 || this.chapters.slice(0, at).some(({ isOptional }) => !isOptional)) return;
    const [chapter] = this.chapters.splice(0, at + 1).slice(-1);
    this.lines.push(chapter.text(seconds(now - this.began), update, { last: this.last, silentMs }));
  }

  end({ type }) {
    this.isOver = true;
    const missing = this.gaps === 0 ? "none missing" : `with ${this.gaps === 1 ? "a gap" : `${this.gaps} gaps`}`;
    const double = this.doubles === 0 ? "none twice" : `${this.doubles} twice`;
    this.lines.push(`The answer ${ENDS[type]} with event ${this.last}: ${missing}, ${double}.`);
  }
}
