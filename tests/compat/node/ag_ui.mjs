// Reads AG-UI with the real @ag-ui/client and prints what its user is left with, as JSON.
//
//   node ag_ui.mjs --url http://127.0.0.1:8000/agui [--input '{"messages": […], "forwardedProps": {…}}'] [--header 'name: value']
//   node ag_ui.mjs --cases < cases.jsonl      one {"body": "<the response's bytes>", "messages": […]} a line, answered in order
//
// Printed: {messages, newMessages, outcome, pending, usage, error, errors, events, resets}
//   outcome   "success" | "cancelled" | "error" (a RUN_ERROR stands last) | "failed" (the client gave up) | "none"
//   error     the message of the RUN_ERROR, or of what the client threw

import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { HttpAgent } from "@ag-ui/client";

const warned = [];
console.warn = (...texts) => warned.push(texts.map(String).join(" "));
console.error = console.warn;

async function read(agent, parameters) {
  const seen = { outcome: "none", pending: [], usage: null, error: null, errors: [], events: [], resets: 0, metadata: null };
  const before = new Set(agent.messages.map((message) => message.id));
  warned.length = 0;
  try {
    await agent.runAgent(parameters, {
      onEvent: ({ event }) => void seen.events.push(event.type),
      onRunStartedEvent: () => void Object.assign(seen, { outcome: "none", error: null }),
      onMessagesSnapshotEvent: () => void (seen.resets += 1),
      onRunErrorEvent: ({ event }) => {
        seen.outcome = "error";
        seen.error = event.message;
        seen.errors.push(event.code ?? null);
        seen.usage = event.usage ?? null;
      },
      onRunFinishedEvent: ({ event, outcome, pendingToolCallIds }) => {
        seen.outcome = outcome;
        seen.pending = pendingToolCallIds ?? [];
        seen.usage = event.usage ?? null;
        seen.metadata = event.metadata ?? null;
      },
    });
  } catch (error) {
    seen.outcome = "failed";
    seen.error = String(error?.message ?? error);
    seen.status = error?.status ?? null;
    seen.payload = error?.payload ?? null;
  }
  const messages = structuredClone(agent.messages);
  return { messages, newMessages: messages.filter((message) => !before.has(message.id)), ...seen, warned: [...warned] };
}

function replaying(body, messages) {
  const headers = { "content-type": "text/event-stream" };
  return new HttpAgent({
    url: "http://127.0.0.1/agui",
    threadId: "thread",
    initialMessages: messages,
    fetch: async () => new Response(body, { headers }),
  });
}

const { values } = parseArgs({
  options: {
    url: { type: "string" },
    input: { type: "string", default: "{}" },
    header: { type: "string", multiple: true, default: [] },
    cases: { type: "boolean", default: false },
  },
});

if (values.cases) {
  for await (const line of createInterface({ input: process.stdin })) {
    const { body, messages = [] } = JSON.parse(line);
    process.stdout.write(JSON.stringify(await read(replaying(body, messages))) + "\n");
  }
} else {
  const { messages = [{ id: "u1", role: "user", content: "Hello" }], threadId, ...parameters } = JSON.parse(values.input);
  const headers = Object.fromEntries(values.header.map((header) => header.split(/:\s*/, 2)));
  const agent = new HttpAgent({ url: values.url, threadId, initialMessages: messages, headers });
  process.stdout.write(JSON.stringify(await read(agent, parameters)) + "\n");
}
