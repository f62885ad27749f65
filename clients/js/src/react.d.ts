import type { Connection, StreamState, WatchOptions } from "./index.js";

/** What the stream amounts to so far. `stream` is an id or an `events_url`; null watches nothing. */
export function useStream(
  stream: string | null | undefined,
  options?: Omit<WatchOptions, "signal">,
): StreamState & { connection: Connection };
