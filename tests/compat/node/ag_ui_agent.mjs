// The package `@ag-ui/client` under node: one run of an HttpAgent.

import { HttpAgent } from "@ag-ui/client";
import { serve, told } from "./jobs.mjs";

const QUESTION = [{ id: "m1", role: "user", content: "What is the weather in Paris?" }];

/** The messages as the client holds them when the run is over, the events' types, how the run ended. */
async function run(job) {
  const agent = new HttpAgent({ url: job.url, threadId: job.thread_id ?? "t1", headers: job.headers ?? {} });
  agent.setMessages(job.messages ?? QUESTION);
  const types = [];
  let finished = null;
  let failed = null;
  const subscriber = {
    onEvent: ({ event }) => void types.push(event.type),
    // A new attempt is an error and a run that begins again: only the last one counts.
    onRunStartedEvent: () => void (failed = null),
    onRunFinishedEvent: ({ event }) => void (finished = event),
    onRunErrorEvent: ({ event }) => void (failed = { name: "RUN_ERROR", message: event.message, code: event.code ?? null }),
  };
  try {
    await agent.runAgent({ runId: job.run_id ?? "r1", forwardedProps: job.forwarded ?? {} }, subscriber);
  } catch (error) {
    failed ??= told(error);
  }
  return { final: agent.messages, outcome: finished?.outcome ?? null, types, error: failed };
}

serve({ run });
