import type { StreamEvent } from "./events.js";

export type * from "./events.js";

/** A token or key, or a function that gives one: it is called again when the server refuses what it gave. */
export type Token = string | (() => string | Promise<string>);

export interface CallOptions {
  /** Where a front-end, or its router, is mounted: `https://api.example/llm`. In a page, its own host by default. */
  server?: string;
  token?: Token;
  signal?: AbortSignal;
  fetch?: (url: string, init?: any) => Promise<any>;
}

export interface WatchOptions extends CallOptions {
  /** Begin after this cursor; by default after the one in the URL (`?after=`). The state then holds what comes after it. */
  after?: string | null;
  /**
   * What carries the events. `auto` (default): server-sent events; when the first bytes of one response are missing after
   * 8 s, all watches of the page open their connections over a WebSocket from then on, where one can be opened. `ws`: a
   * WebSocket, or `fetch` where the module for it cannot be loaded.
   */
  transport?: "auto" | "sse" | "ws";
  /** A connection that brings nothing for so long is replaced; longer than the server's heartbeat. Default 45000. */
  idleTimeoutMs?: number;
}

export type Status = "queued" | "running" | "finished" | "failed" | "aborted";

type Noted = { providerMetadata?: Record<string, Record<string, unknown>> };

export type Part = Noted &
  (
    | { type: "text" | "reasoning"; text: string; state: "streaming" | "done" }
    | ToolPart
    | { type: "step-start" }
    | { type: "source-url"; sourceId: string; url: string; title?: string }
    | { type: "source-document"; sourceId: string; mediaType: string; title: string; filename?: string }
    | { type: "file"; url: string; mediaType: string }
    | { type: `data-${string}`; data: unknown; id?: string }
  );

export interface ToolPart {
  type: "tool";
  toolCallId: string;
  toolName?: string;
  state: "input-streaming" | "input-available" | "output-available" | "output-error";
  inputText?: string;
  input?: unknown;
  rawInput?: unknown;
  output?: unknown;
  errorText?: string;
  preliminary?: boolean;
  providerExecuted?: boolean;
  dynamic?: boolean;
}

/** What the events so far amount to. It is never changed: later events make another one. */
export interface StreamState {
  status: Status;
  attempt: number;
  text: string;
  reasoning: string;
  parts: Part[];
  usage: (Noted & { estimated?: boolean } & { [count: string]: unknown }) | null;
  error: { code: string; message: string } | null;
  finishReason: string | null;
  abortReason: string | null;
  messageId: string | null;
  metadata: Record<string, unknown>;
  providerMetadata: Record<string, Record<string, unknown>>;
}

export type Connection =
  | { name: "connecting" | "catching-up" | "live" | "ended" }
  | { name: "stalled"; reason: string }
  | { name: "reconnecting"; reason: string; delayMs: number }
  | { name: "closed"; error: unknown };

export type Update =
  | { kind: "entry"; cursor: string; event: StreamEvent }
  | { kind: "gap"; cursor: string; reason: string; from: number; to: number }
  | { kind: "notice"; name: string; data: any }
  | ({ kind: "connection" } & Connection);

export interface Watch extends AsyncIterable<Update> {
  readonly url: string;
  readonly state: StreamState;
  readonly connection: Connection;
  /** The last entry or gap that was given: what `after` takes. */
  readonly cursor: string | null;
  readonly isOver: boolean;
  [Symbol.asyncIterator](): AsyncIterableIterator<Update>;
}

/** Watch a stream: the id of one, or the `events_url` that a server gave. One loop at a time. */
export function watch(stream: string, options?: WatchOptions): Watch;

export interface GenerationRequest {
  prompt?: string;
  messages?: { role: "user" | "assistant" | "system"; content: unknown }[];
  model?: string;
  [field: string]: unknown;
}

export interface Generation {
  id: string;
  status: Status;
  events_url: string;
  [field: string]: unknown;
}

/** Start a generation: a prompt, or the body of `POST /v1/generations`. */
export function start(
  request: string | GenerationRequest,
  options?: CallOptions & { idempotencyKey?: string },
): Promise<Generation>;

/** End a generation, even if it has viewers; idempotent. */
export function stop(id: string, options?: CallOptions): Promise<Generation>;

export interface FeedConfig {
  retention_s?: number;
  max_events?: number;
  max_bytes?: number;
  on_full?: "refuse" | "trim";
  /** `producer` names the run that writes the feed: random without one. Another name is another run (`stream_exists`). */
  metadata?: Record<string, unknown>;
  /** null: no lease. */
  lease_s?: number | null;
  /** Called once the feed is over, on a host that the server's operator has listed. Without `events`: however it ends. */
  webhook?: { url: string; events?: ("finished" | "failed" | "aborted")[] | null } | null;
}

export interface FeedState {
  id: string;
  status: Status;
  events_url: string;
  [field: string]: unknown;
}

/** Publish what `source` yields, texts and events, under this id; resolves after its end. */
export function publish(
  id: string,
  source: AsyncIterable<string | StreamEvent> | Iterable<string | StreamEvent>,
  options?: CallOptions & { config?: FeedConfig },
): Promise<FeedState>;

/** The URL of a stream's events. */
export function eventsUrl(stream: string, options?: Pick<CallOptions, "server">): string;

export class BroadcasterError extends Error {
  readonly code: string;
  readonly status: number | null;
  /** Whether the same call may succeed later, unchanged. */
  readonly retry: boolean;
  readonly retryAfterMs: number | null;
  readonly cursor: string | null;
  readonly cause?: unknown;
}
