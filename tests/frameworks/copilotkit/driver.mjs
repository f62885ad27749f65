// CopilotKit's runtime is a client of /agui, and agents of its pages are clients of the runtime. Each thread has a
// runtime of its own.
//
//   begin  {url, thread_id, run_id, messages, cut, resumes}  → null, once the page holds a part of the answer
//   join   {thread_id}                                       → null, once another page holds it too
//   finish {thread_id}                                       → once the run is over:
//          {lost, error, failed, live, joined, after}
//
// `cut` names the connection that breaks off, "page" or "runtime". `live`, `joined` and `after` are the messages of
// three pages: one began the run, one joined it, one opened the thread after its end; `failed` is what each raised.
// `lost` is what the page raised that was cut. `error` is the code of a RUN_ERROR that the first page received.

import "./offline.mjs";
import { createServer } from "node:http";
import { HttpAgent } from "@ag-ui/client";
import { ProxiedCopilotRuntimeAgent } from "@copilotkit/core";
import { CopilotRuntime, InMemoryAgentRunner } from "@copilotkit/runtime/v2";
import { createCopilotNodeListener } from "@copilotkit/runtime/v2/node";
import { cuttingFetch } from "../../compat/node/cutting.mjs";
import { serve, failureOf } from "../../compat/node/jobs.mjs";
import { resumingFetch } from "../../compat/node/resuming_fetch.mjs";

const BASE_PATH = "/api/copilotkit";
const CUT_BEHIND = 8;

const threads = new Map();

/** CopilotKit's server before the agent at `url`, which it reaches by that `fetch`. */
async function openRuntime(url, fetch) {
  const agents = { default: new HttpAgent({ url, ...(fetch && { fetch }) }) };
  const runtime = new CopilotRuntime({ agents, runner: new InMemoryAgentRunner() });
  const server = createServer(createCopilotNodeListener({ runtime, basePath: BASE_PATH }));
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { server, runtimeUrl: `http://127.0.0.1:${server.address().port}${BASE_PATH}` };
}

function openPage(runtimeUrl, threadId, fetch) {
  const options = { runtimeUrl, agentId: "default", threadId, transport: "rest" };
  return new ProxiedCopilotRuntimeAgent({ ...options, ...(fetch && { fetch }) });
}

const ended = (promise) => promise.then(() => null, failureOf);

/** Resolves once the page shows more than the question, or its run is over. */
async function untilAnswered(page, run) {
  let isOver = false;
  run.then(() => (isOver = true));
  while (page.messages.length < 2 && !isOver) await new Promise((resolve) => setTimeout(resolve, 2));
}

async function begin({ url, thread_id, run_id, messages, cut, resumes }) {
  const cutting = cuttingFetch(CUT_BEHIND).fetch;
  const toAgent = cut === "runtime" ? (resumes ? resumingFetch({ fetch: cutting, delayMs: 1 }) : cutting) : null;
  const { server, runtimeUrl } = await openRuntime(url, toAgent);
  const page = openPage(runtimeUrl, thread_id, cut === "page" ? cutting : null);
  const thread = { server, page, error: null, lost: null, open: () => openPage(runtimeUrl, thread_id) };
  threads.set(thread_id, thread);
  page.setMessages(messages);
  page.subscribe({ onRunErrorEvent: ({ event }) => void (thread.error = event.code) });
  thread.run = ended(page.runAgent({ runId: run_id }));
  if (cut === "page") {
    thread.lost = await thread.run;
    // The runtime replays the whole thread, and CopilotKit's pages clear their messages before they open one.
    page.setMessages([]);
    thread.run = ended(page.connectAgent());
  }
  await untilAnswered(page, thread.run);
}

async function join({ thread_id }) {
  const thread = threads.get(thread_id);
  thread.other = thread.open();
  thread.joined = ended(thread.other.connectAgent());
  await untilAnswered(thread.other, thread.joined);
}

async function finish({ thread_id }) {
  const thread = threads.get(thread_id);
  const after = thread.open();
  try {
    const failed = [await thread.run, await thread.joined, await ended(after.connectAgent())];
    const messages = { live: thread.page.messages, joined: thread.other?.messages, after: after.messages };
    return { ...messages, lost: thread.lost, error: thread.error, failed };
  } finally {
    threads.delete(thread_id);
    thread.server.close();
    thread.server.closeAllConnections();
  }
}

serve({ begin, join, finish });
