/**
 * The fold: events in their order → what they amount to. The browser's twin of core/fold.py and core/draft.py:
 * same rules, same shapes (a test compares the two). Pure: no DOM, no clock, no network.
 *
 * Rules
 * 1. `status` is queued before the first event, running after it, then what the terminal event gives; later events
 *    are ignored.
 * 2. `attempt` drops everything built so far; only the number of the attempt is kept.
 * 3. A delta without its start opens its part: a log whose head was trimmed still folds.
 * 4. Events of a newer version change nothing.
 */

const ENDINGS = { finish: "finished", error: "failed", abort: "aborted" };

export const TERMINAL = new Set(Object.keys(ENDINGS));

export class Fold {
  constructor() {
    this.attempt = 1;
    this.isEmpty = true;
    this.terminal = null;
    this.draft = new Draft();
  }

  /** Take the next event, an object as parsed from the log's JSON. */
  apply(event) {
    if (this.terminal !== null) return;
    this.isEmpty = false;
    if (event.type === "attempt") {
      this.attempt = event.attempt;
      this.draft = new Draft();
    } else if (TERMINAL.has(event.type)) {
      this.terminal = event;
      this.draft.end(event);
    } else {
      this.draft.add(event);
    }
  }

  get status() {
    if (this.terminal !== null) return ENDINGS[this.terminal.type];
    return this.isEmpty ? "queued" : "running";
  }

  /** Why the answer failed, as {code, message}, or null. */
  get error() {
    if (this.terminal?.type !== "error") return null;
    return { code: this.terminal.code ?? "error", message: this.terminal.errorText };
  }

  /** What the events so far amount to. `parts` belong to the fold and grow in place: read, do not write. */
  get state() {
    const { draft, terminal } = this;
    return {
      status: this.status,
      attempt: this.attempt,
      text: joined(draft.parts, "text"),
      reasoning: joined(draft.parts, "reasoning"),
      parts: draft.parts,
      usage: draft.usage,
      error: this.error,
      finishReason: draft.finishReason,
      abortReason: terminal?.type === "abort" ? (terminal.reason ?? null) : null,
      messageId: draft.messageId,
      metadata: draft.metadata,
      providerMetadata: draft.providerMetadata,
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
  constructor() {
    this.parts = [];
    this.usage = null;
    this.finishReason = null;
    this.messageId = null;
    this.metadata = {};
    this.providerMetadata = {};
    this.open = new Map(); // kind + id → the text or reasoning part that grows
    this.tools = new Map(); // toolCallId → its part
    this.dataParts = new Map(); // type + id → where the data part stands in `parts`
  }

  add(event) {
    const step = STEPS[event.type];
    if (step !== undefined) step(this, event);
    else if (event.type.startsWith("data-")) this.addData(event);
  }

  end(event) {
    if (event.type === "finish") {
      this.finishReason = event.finishReason || this.finishReason;
      this.metadata = { ...this.metadata, ...event.messageMetadata };
    }
    if (event.type !== "abort") this.merge(event);
  }

  merge(event) {
    this.providerMetadata = merged(this.providerMetadata, event.providerMetadata);
  }

  opened(kind, event) {
    const part = { type: kind, text: "", state: "streaming" };
    this.open.set(`${kind} ${event.id}`, part);
    this.parts.push(part);
    return part;
  }

  start(kind, event) {
    annotate(this.opened(kind, event), event);
  }

  grow(kind, event) {
    const part = this.open.get(`${kind} ${event.id}`) ?? this.opened(kind, event);
    part.text += event.delta;
    annotate(part, event);
  }

  close(kind, event) {
    const part = this.open.get(`${kind} ${event.id}`);
    if (part === undefined) return;
    this.open.delete(`${kind} ${event.id}`);
    part.state = "done";
    annotate(part, event);
  }

  tool(event) {
    let part = this.tools.get(event.toolCallId);
    if (part === undefined) {
      part = { type: "tool", toolCallId: event.toolCallId, state: "input-streaming", inputText: "" };
      this.tools.set(event.toolCallId, part);
      this.parts.push(part);
    }
    return part;
  }

  /** The tool's part, updated with the fields of every tool event but the input delta. */
  describeTool(event) {
    const part = this.tool(event);
    if (event.toolName != null) part.toolName = event.toolName;
    if (event.providerExecuted != null) part.providerExecuted = event.providerExecuted;
    if (event.dynamic != null) part.dynamic = event.dynamic;
    annotate(part, event);
    return part;
  }

  moveTool(event, state) {
    const part = this.describeTool(event);
    part.state = state;
    delete part.inputText;
    return part;
  }

  append(event, names) {
    this.parts.push(present(event, ["type", ...names, "providerMetadata"]));
  }

  addData(event) {
    if (event.transient === true) return;
    const dataPart = { ...present(event, ["type", "id", "transient"]), data: event.data };
    const key = event.id == null ? null : JSON.stringify([event.type, event.id]);
    const place = key === null ? undefined : this.dataParts.get(key);
    if (place !== undefined) {
      this.parts[place] = dataPart;
      return;
    }
    if (key !== null) this.dataParts.set(key, this.parts.length);
    this.parts.push(dataPart);
  }

  count(event) {
    const { estimated: _, ...earlier } = this.usage ?? {};
    this.usage = { ...earlier, ...present(event, COUNTS) };
    if (event.estimated === true) this.usage.estimated = true;
  }
}

const COUNTS = [
  "inputTokens",
  "outputTokens",
  "reasoningTokens",
  "cachedInputTokens",
  "cacheWriteInputTokens",
  "providerMetadata",
];

const STEPS = {
  start(draft, event) {
    draft.messageId = event.messageId || draft.messageId;
    draft.metadata = { ...draft.metadata, ...event.messageMetadata };
    draft.merge(event);
  },
  "start-step"(draft, event) {
    draft.merge(event);
    draft.parts.push({ type: "step-start" });
  },
  "finish-step"(draft, event) {
    draft.finishReason = event.finishReason || draft.finishReason;
    draft.merge(event);
  },
  "text-start": (draft, event) => draft.start("text", event),
  "text-delta": (draft, event) => draft.grow("text", event),
  "text-end": (draft, event) => draft.close("text", event),
  "reasoning-start": (draft, event) => draft.start("reasoning", event),
  "reasoning-delta": (draft, event) => draft.grow("reasoning", event),
  "reasoning-end": (draft, event) => draft.close("reasoning", event),
  "tool-input-start": (draft, event) => void draft.describeTool(event),
  "tool-input-delta"(draft, event) {
    const part = draft.tool(event);
    if (part.state === "input-streaming") part.inputText += event.inputTextDelta;
    annotate(part, event);
  },
  "tool-input-available"(draft, event) {
    draft.moveTool(event, "input-available").input = event.input;
  },
  "tool-input-error"(draft, event) {
    const part = draft.moveTool(event, "output-error");
    part.rawInput = event.input;
    part.errorText = event.errorText;
  },
  "tool-output-available"(draft, event) {
    const part = draft.moveTool(event, "output-available");
    part.output = event.output;
    delete part.preliminary;
    if (event.preliminary === true) part.preliminary = true;
  },
  "tool-output-error"(draft, event) {
    const part = draft.moveTool(event, "output-error");
    part.errorText = event.errorText;
    delete part.preliminary;
  },
  "source-url": (draft, event) => draft.append(event, ["sourceId", "url", "title"]),
  "source-document": (draft, event) => draft.append(event, ["sourceId", "mediaType", "title", "filename"]),
  file: (draft, event) => draft.append(event, ["url", "mediaType"]),
  usage: (draft, event) => draft.count(event),
};

/** The named fields that the event really has; null counts as absent, as in the log. */
function present(event, names) {
  const found = {};
  for (const name of names) if (event[name] != null) found[name] = event[name];
  return found;
}

function annotate(part, event) {
  const metadata = merged(part.providerMetadata ?? {}, event.providerMetadata);
  if (Object.keys(metadata).length > 0) part.providerMetadata = metadata;
}

/** Merge per provider, key by key, the later value wins. Spreads, never assignment: `__proto__` is only a key. */
function merged(into, metadata) {
  let result = into;
  for (const [provider, extras] of Object.entries(metadata ?? {})) {
    const known = Object.hasOwn(result, provider) ? result[provider] : {};
    result = { ...result, [provider]: { ...known, ...extras } };
  }
  return result;
}
