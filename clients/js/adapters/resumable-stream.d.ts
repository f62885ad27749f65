import type { CallOptions, FeedConfig } from "../src/index.js";

export interface ResumableStreamOptions extends Omit<CallOptions, "signal"> {
  /** Keeps a serverless function alive until the promise resolves; null where nothing suspends it. */
  waitUntil?: ((promise: Promise<unknown>) => void) | null;
  /** Stands before the ids of the streams, with a colon. */
  keyPrefix?: string;
  /** Gets what ends the publishing of a stream; by default it is written to the console. */
  onError?: (error: unknown) => void;
  config?: FeedConfig;
}

/** The context of the package `resumable-stream`: the same four calls. */
export interface ResumableStreamContext {
  resumableStream(
    streamId: string,
    makeStream: () => ReadableStream<string>,
    skipCharacters?: number,
  ): Promise<ReadableStream<string> | null>;
  resumeExistingStream(streamId: string, skipCharacters?: number): Promise<ReadableStream<string> | null | undefined>;
  createNewResumableStream(
    streamId: string,
    makeStream: () => ReadableStream<string>,
    skipCharacters?: number,
  ): Promise<ReadableStream<string> | null>;
  hasExistingStream(streamId: string): Promise<null | true | "DONE">;
}

export function createResumableStreamContext(options?: ResumableStreamOptions): ResumableStreamContext;
