import type { StreamDurability } from "@tanstack/ai";
import type { CallOptions, FeedConfig } from "../src/index.js";

export interface DurabilityOptions extends Omit<CallOptions, "signal"> {
  /** Stands before the run's id in the id of its feed, for example the user's id and a colon. */
  prefix?: string;
  config?: FeedConfig;
}

/** The durability of the run that a request, or `runId`, names. */
export function broadcasterDurability(
  source: Request | { runId: string; offset?: string | null },
  options?: DurabilityOptions,
): StreamDurability;
