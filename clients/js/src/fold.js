/**
 * The fold: events in their order → what they amount to. The twin of broadcaster/core/fold.py and core/draft.py:
 * same rules, same shapes (a test compares the two). Pure: no DOM, no clock, no network.
 *
 * Rules
 * 1. `status` is queued before the first event, running after it, then what the terminal event gives; later events
 *    are ignored.
 * 2. `attempt` drops everything built so far; only the number of the attempt is kept.
 * 3. A delta without its start opens its part: a log whose head was trimmed still folds.
 * 4. Events of a newer version change nothing.
 * 5. A part is never changed, only replaced: what `state` gave stays as it was, and an unchanged part is the same object.
 */

const ENDINGS = { finish: "finished", error: "failed", abort: "aborted" };

export const TERMINAL = new Set(Object.keys(ENDINGS));

export class Fold {
  #attempt = 1;
  #isEmpty = true;
  #terminal = null;
  #draft = new Draft();

  /** Take the next event, an object as parsed from the log's JSON. */
  apply(event) {
    if (this.#terminal) return;
    this.#isEmpty = false;
    if (event.type === "attempt") {
      this.#attempt = event.attempt;
      this.#draft = new Draft();
    } else {
      if (TERMINAL.has(event.type)) this.#terminal = event;
      this.#draft.add(event);
    }
  }

  /** What the events so far amount to; later events do not change it. */
  get state() {
    const end = this.#terminal;
    const { parts } = this.#draft;
    return {
      ...this.#draft,
      status: end ? ENDINGS[end.type] : this.#isEmpty ? "queued" : "running",
      attempt: this.#attempt,
      text: joined(parts, "text"),
      reasoning: joined(parts, "reasoning"),
      parts: [...parts],
      error: end?.type === "error" ? { code: end.code ?? "error", message: end.errorText } : null,
      abortReason: end?.type === "abort" ? (end.reason ?? null) : null,
    };
  }
}

function joined(parts, kind) {
  let text = "";
  for (const part of parts) if (part.type === kind) text += part.text;
  return text;
}

/** All contents of one attempt so far. */
class Draft {
  parts = [];
  usage = null;
  finishReason = null;
  messageId = null;
  metadata = {};
  providerMetadata = {};
  /** kind + id → where a part that may change stands in `parts`. */
  #places = new Map();

  add(event) {
    const { type } = event;
    const [, kind, step] = /^(text|reasoning|tool)-(.+)$/.exec(type) ?? [];
    if (kind === "tool") this.#addTool(step, event);
    else if (kind) this.#addText(kind, step, event);
    else if (type.startsWith("data-")) this.#addData(event);
    else if (type === "usage") this.#count(event);
    else if (STORED.test(type)) this.parts.push(present(event));
    else this.#addFacts(event);
  }

  #addFacts(event) {
    const { type } = event;
    if (type === "start") this.messageId = event.messageId || this.messageId;
    if (type === "start-step") this.parts.push({ type: "step-start" });
    if (type === "finish" || type === "finish-step") this.finishReason = event.finishReason || this.finishReason;
    if (type === "start" || type === "finish") this.metadata = { ...this.metadata, ...event.messageMetadata };
    if (FACTS.test(type)) this.providerMetadata = merged(this.providerMetadata, event[METADATA]);
  }

  #addText(kind, step, event) {
    const key = `${kind} ${event.id}`;
    if (step === "end") {
      if (this.#places.has(key)) this.#change(this.#places.get(key), { state: "done" }, event);
      this.#places.delete(key);
    } else if (step === "start" || step === "delta") {
      if (step === "start") this.#places.delete(key);
      const place = this.#place(key, { type: kind, text: "", state: "streaming" });
      this.#change(place, { text: this.parts[place].text + (event.delta ?? "") }, event);
    }
  }

  #addTool(step, event) {
    if (!TOOL_STEPS.test(step)) return;
    const { toolCallId, input, errorText } = event;
    const place = this.#place(`tool ${toolCallId}`, { type: "tool", toolCallId, state: "input-streaming", inputText: "" });
    const { state, inputText } = this.parts[place];
    if (step === "input-delta") {
      const isOpen = state === "input-streaming";
      return void this.#change(place, isOpen ? { inputText: inputText + event.inputTextDelta } : {}, event);
    }
    const { toolName, providerExecuted, dynamic } = event;
    const part = this.#change(place, present({ toolName, providerExecuted, dynamic }), event);
    if (step === "input-start") return;
    const [about, outcome] = step.split("-");
    part.state = outcome === "error" ? "output-error" : step;
    delete part.inputText;
    if (step === "input-available") part.input = input;
    if (step === "input-error") part.rawInput = input;
    if (outcome === "error") part.errorText = errorText;
    if (step === "output-available") part.output = event.output;
    if (about === "output") delete part.preliminary;
    if (step === "output-available" && event.preliminary === true) part.preliminary = true;
  }

  #addData(event) {
    const { type, id, transient, data } = event;
    if (transient === true) return;
    const part = { ...present({ type, id, transient }), data };
    if (id == null) this.parts.push(part);
    else this.parts[this.#place(`${type} ${id}`, part)] = part;
  }

  #count(event) {
    const { estimated: _, ...earlier } = this.usage ?? {};
    const { type: __, estimated, ...counts } = present(event);
    this.usage = { ...earlier, ...counts, ...(estimated && { estimated }) };
  }

  /** Where the part of this key stands; `first` is put there when there is none yet. */
  #place(key, first) {
    if (!this.#places.has(key)) this.#places.set(key, this.parts.push(first) - 1);
    return this.#places.get(key);
  }

  /** Replace the part at `place` by one with these fields, and with the metadata of the event. */
  #change(place, fields, event) {
    const part = { ...this.parts[place], ...fields };
    const metadata = merged(part[METADATA] ?? {}, event[METADATA]);
    if (Object.keys(metadata).length > 0) part[METADATA] = metadata;
    return (this.parts[place] = part);
  }
}

const METADATA = "providerMetadata";
const STORED = /^(source-url|source-document|file)$/;
const FACTS = /^((start|finish)(-step)?|error)$/;
const TOOL_STEPS = /^(input-start|input-delta|(input|output)-(available|error))$/;

/** The fields that have a value; null counts as absent, as in the log. */
const present = (fields) => Object.fromEntries(Object.entries(fields).filter(([, value]) => value != null));

/** Merge per provider, key by key, the later value wins. Spreads, never assignment: `__proto__` is only a key. */
function merged(into, metadata) {
  let result = into;
  for (const [provider, extras] of Object.entries(metadata ?? {})) {
    const known = Object.hasOwn(result, provider) ? result[provider] : {};
    result = { ...result, [provider]: { ...known, ...extras } };
  }
  return result;
}
