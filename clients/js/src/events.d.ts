// The events of a broadcaster stream. Printed by `broadcaster schema --typescript`.

/** The provider took the request: the answer begins. `messageId` is the provider's, metadata has the model. */
export interface StartEvent {
  type: "start";
  messageId?: string;
  messageMetadata?: Record<string, unknown>;
  providerMetadata?: Record<string, Record<string, unknown>>;
}

/** One provider call begins (an agent loop has several). */
export interface StartStepEvent {
  type: "start-step";
  providerMetadata?: Record<string, Record<string, unknown>>;
}

/** The provider call ended properly: its own terminal was seen. */
export interface FinishStepEvent {
  type: "finish-step";
  finishReason?: "content-filter" | "error" | "length" | "other" | "stop" | "tool-calls";
  providerMetadata?: Record<string, Record<string, unknown>>;
}

/** A text part opens under `id`. */
export interface TextStartEvent {
  type: "text-start";
  id: string;
  providerMetadata?: Record<string, Record<string, unknown>>;
}

/** The next piece of the text part `id`. */
export interface TextDeltaEvent {
  type: "text-delta";
  id: string;
  delta: string;
  providerMetadata?: Record<string, Record<string, unknown>>;
}

/** The text part `id` is whole; its metadata may carry citations. */
export interface TextEndEvent {
  type: "text-end";
  id: string;
  providerMetadata?: Record<string, Record<string, unknown>>;
}

/** A reasoning part opens; a redacted one carries its data in the metadata and no deltas. */
export interface ReasoningStartEvent {
  type: "reasoning-start";
  id: string;
  providerMetadata?: Record<string, Record<string, unknown>>;
}

/** The next piece of the reasoning part `id` (a signature comes as an empty delta with metadata). */
export interface ReasoningDeltaEvent {
  type: "reasoning-delta";
  id: string;
  delta: string;
  providerMetadata?: Record<string, Record<string, unknown>>;
}

/** The reasoning part `id` is whole. */
export interface ReasoningEndEvent {
  type: "reasoning-end";
  id: string;
  providerMetadata?: Record<string, Record<string, unknown>>;
}

/** The model begins to call a tool; `providerExecuted` when the provider runs it itself. */
export interface ToolInputStartEvent {
  type: "tool-input-start";
  toolCallId: string;
  toolName: string;
  providerExecuted?: boolean;
  dynamic?: boolean;
  providerMetadata?: Record<string, Record<string, unknown>>;
}

/** A fragment of the tool call's JSON arguments: text, not yet parseable. */
export interface ToolInputDeltaEvent {
  type: "tool-input-delta";
  toolCallId: string;
  inputTextDelta: string;
  providerMetadata?: Record<string, Record<string, unknown>>;
}

/** The tool call's arguments are whole and parsed. */
export interface ToolInputAvailableEvent {
  type: "tool-input-available";
  toolCallId: string;
  toolName: string;
  input: unknown;
  providerExecuted?: boolean;
  dynamic?: boolean;
  providerMetadata?: Record<string, Record<string, unknown>>;
}

/** The tool call's arguments are not valid JSON, too large or nested too deeply; `input` is their text. */
export interface ToolInputErrorEvent {
  type: "tool-input-error";
  toolCallId: string;
  toolName: string;
  input: unknown;
  errorText: string;
  providerExecuted?: boolean;
  dynamic?: boolean;
  providerMetadata?: Record<string, Record<string, unknown>>;
}

/** A tool returned a result. */
export interface ToolOutputAvailableEvent {
  type: "tool-output-available";
  toolCallId: string;
  output: unknown;
  providerExecuted?: boolean;
  dynamic?: boolean;
  preliminary?: boolean;
  providerMetadata?: Record<string, Record<string, unknown>>;
}

/** A tool failed. */
export interface ToolOutputErrorEvent {
  type: "tool-output-error";
  toolCallId: string;
  errorText: string;
  providerExecuted?: boolean;
  dynamic?: boolean;
  providerMetadata?: Record<string, Record<string, unknown>>;
}

/** The answer cites a web page. */
export interface SourceUrlEvent {
  type: "source-url";
  sourceId: string;
  url: string;
  title?: string;
  providerMetadata?: Record<string, Record<string, unknown>>;
}

/** The answer cites a document. */
export interface SourceDocumentEvent {
  type: "source-document";
  sourceId: string;
  mediaType: string;
  title: string;
  filename?: string;
  providerMetadata?: Record<string, Record<string, unknown>>;
}

/** A file the model made (`url` may be a data URL). */
export interface FileEvent {
  type: "file";
  url: string;
  mediaType: string;
  providerMetadata?: Record<string, Record<string, unknown>>;
}

/** Token counts so far for the generation; `estimated` when the provider never reported the input or output. */
export interface UsageEvent {
  type: "usage";
  inputTokens?: number;
  outputTokens?: number;
  reasoningTokens?: number;
  cachedInputTokens?: number;
  cacheWriteInputTokens?: number;
  estimated?: boolean;
  providerMetadata?: Record<string, Record<string, unknown>>;
}

/** A new attempt begins: drop everything before it. `attempt` counts from 2; 1: Redis may have lost the first. */
export interface AttemptEvent {
  type: "attempt";
  attempt: number;
  reason?: string;
}

/** Terminal: the answer is whole. */
export interface FinishEvent {
  type: "finish";
  finishReason?: "content-filter" | "error" | "length" | "other" | "stop" | "tool-calls";
  messageMetadata?: Record<string, unknown>;
  providerMetadata?: Record<string, Record<string, unknown>>;
}

/** Terminal: the answer is not whole and will not become so. `code` is stable; `errorText` is for people. */
export interface ErrorEvent {
  type: "error";
  errorText: string;
  code?: string;
  providerMetadata?: Record<string, Record<string, unknown>>;
}

/** Terminal: a caller stopped the answer (`stopped`), or it had no viewers left (`abandoned`). */
export interface AbortEvent {
  type: "abort";
  reason?: string;
}

/** `data-<name>`: an event of a job or an application, with any data; `type` is the whole name. */
export interface DataEvent {
  type: `data-${string}`;
  data: unknown;
  id?: string;
  transient?: boolean;
}

export type StreamEvent =
  | StartEvent
  | StartStepEvent
  | FinishStepEvent
  | TextStartEvent
  | TextDeltaEvent
  | TextEndEvent
  | ReasoningStartEvent
  | ReasoningDeltaEvent
  | ReasoningEndEvent
  | ToolInputStartEvent
  | ToolInputDeltaEvent
  | ToolInputAvailableEvent
  | ToolInputErrorEvent
  | ToolOutputAvailableEvent
  | ToolOutputErrorEvent
  | SourceUrlEvent
  | SourceDocumentEvent
  | FileEvent
  | UsageEvent
  | AttemptEvent
  | FinishEvent
  | ErrorEvent
  | AbortEvent
  | DataEvent;
