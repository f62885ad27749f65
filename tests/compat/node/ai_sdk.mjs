// The package `ai`, versions 6 and 7 (`job.version`), under node: a chat with DefaultChatTransport, as a page has it.

import * as v6 from "ai6";
import * as v7 from "ai7";
import { chatOf } from "./ai_sdk_state.mjs";
import { serve, failureOf } from "./jobs.mjs";

const VERSIONS = { 6: v6, 7: v7 };

/** A fetch that notes the types of the chunks it brings: a chat does not tell that its answer was stopped. */
const noting = (types) => async (...request) => {
  const response = await fetch(...request);
  if (!response.body) return response;
  const decoder = new TextDecoder();
  let text = "";
  const noted = new TransformStream({
    transform(bytes, controller) {
      text += decoder.decode(bytes, { stream: true });
      controller.enqueue(bytes);
    },
    flush() {
      for (const [, type] of text.matchAll(/^data: {"type":"([^"]+)"/gm)) types.push(type);
    },
  });
  return new Response(response.body.pipeThrough(noted), response);
};

function open(job) {
  const { AbstractChat, DefaultChatTransport } = VERSIONS[job.version];
  const errors = [];
  const types = [];
  const chat = chatOf(AbstractChat, {
    id: job.chat_id ?? "chat",
    transport: new DefaultChatTransport({
      api: job.url,
      fetch: noting(types),
      // A fixture stands at an address of its own.
      ...(job.exact && { prepareReconnectToStreamRequest: () => ({ api: job.url }) }),
    }),
    onError: (error) => errors.push(failureOf(error)),
  });
  return { chat, errors, types };
}

const shown = ({ chat, errors, types }) => ({
  final: chat.messages.findLast(({ role }) => role === "assistant") ?? null,
  types,
  error: errors[0] ?? null,
});

/** A message is sent: the answer to the POST. */
async function send(job) {
  const opened = open(job);
  await opened.chat.sendMessage({ text: job.text ?? "What is the weather in Paris?" }, { body: job.body ?? {} });
  return shown(opened);
}

/** A page that was reloaded reads the answer that is being written. */
async function resume(job) {
  const opened = open(job);
  await opened.chat.resumeStream();
  return shown(opened);
}

serve({ send, resume });
