// The package `@ag-ui/client` under node: one run of an HttpAgent, or one that joins.

import { HttpAgent } from "@ag-ui/client";
import { HttpAgent as HttpAgent0 } from "ag-ui-0";
import { cuttingFetch } from "./cutting.mjs";
import { JoiningAgent } from "./joining_agent.mjs";
import { serve, failureOf } from "./jobs.mjs";
import { resumingFetch } from "./resuming_fetch.mjs";

const QUESTION = [{ id: "m1", role: "user", content: "What is the weather in Paris?" }];

/** The messages as the client holds them when the run is over, the events' types, how the run ended. */
async function run(job) {
  const Agent = job.version === 0 ? HttpAgent0 : HttpAgent;
  const agent = new Agent({ url: job.url, threadId: job.thread_id ?? "t1", headers: job.headers ?? {} });
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
    failed ??= failureOf(error);
  }
  return { final: agent.messages, outcome: finished?.outcome ?? null, types, error: failed };
}

/** A run whose connection is lost, and what its agent and one that is new hold when both have joined it. */
async function rejoin(job) {
  const { fetch } = cuttingFetch(job.cut_behind);
  const config = { url: job.url, threadId: job.thread_id, headers: job.headers ?? {} };
  const agent = new JoiningAgent({ ...config, fetch });
  const late = new JoiningAgent(config);
  agent.setMessages(job.messages);
  const lost = await agent.runAgent({ runId: job.run_id }).then(() => null, failureOf);
  const torn = structuredClone(agent.messages);
  await Promise.all([agent.connectAgent(), late.connectAgent()]);
  return { lost, torn, final: agent.messages, late: late.messages };
}

/** A run whose connection is lost, and continued by its `fetch` (at `later_url`) without the agent knowing. */
async function resume(job) {
  const { fetch: cutting, requests } = cuttingFetch(job.cut_behind);
  const fetch = (url, init) => cutting((requests.length && job.later_url) || url, init);
  const config = { url: job.url, threadId: job.thread_id, fetch: resumingFetch({ fetch, delayMs: 1 }) };
  const agent = new HttpAgent({ ...config, initialMessages: job.messages });
  const lost = await agent.runAgent({ runId: job.run_id }).then(() => null, failureOf);
  return { lost, final: agent.messages, requests };
}

serve({ run, rejoin, resume });
