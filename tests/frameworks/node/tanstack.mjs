// TanStack AI, with the text adapters of `@tanstack/ai-openai` (Responses, chat completions) and `@tanstack/ai-anthropic`.

import { chat, toolDefinition } from "@tanstack/ai";
import { createAnthropicChat } from "@tanstack/ai-anthropic";
import { createOpenaiChat, createOpenaiChatCompletions } from "@tanstack/ai-openai";
import { KEY, OBJECT, RETRIES, TOOL, counts, serveRows } from "./rows.mjs";

/** A run's error, made of its RUN_ERROR by the package or here: the status is kept in front of the message alone. */
class RunError extends Error {
  constructor({ message }) {
    super(message);
    this.status = Number(/^\d{3}(?= )/.exec(message)?.[0]);
  }
}

const raised = async (answer) => {
  try {
    return await answer;
  } catch (error) {
    throw new RunError(error);
  }
};

/** Read the run to its end, behind an error too. */
async function read(stream, { seen, delta }) {
  const errors = [];
  for await (const chunk of stream) {
    if (chunk.type === "TEXT_MESSAGE_CONTENT") delta(chunk.delta);
    if (chunk.type === "RUN_ERROR") errors.push(new RunError(chunk));
    if (chunk.type === "RUN_FINISHED") {
      seen.finish = chunk.metadata?.tanstack?.finishReason ?? null;
      seen.usage = counts(chunk.usage?.promptTokens, chunk.usage?.completionTokens);
    }
  }
  if (errors.length) throw errors[0];
}

const actions = (adapter) => {
  const request = ({ prompt, abort }) => ({
    adapter,
    messages: [{ role: "user", content: prompt }],
    abortController: abort,
  });
  return {
    async plain(run) {
      run.seen.text = await raised(chat({ ...request(run), stream: false }));
    },

    stream: (run) => read(chat(request(run)), run),

    async tools(run) {
      const { name, description, schema } = TOOL;
      const weather = toolDefinition({ name, description, inputSchema: schema }).server(TOOL.run(run.seen));
      await read(chat({ ...request(run), tools: [weather] }), run);
    },

    async structured(run) {
      run.seen.object = await raised(chat({ ...request(run), outputSchema: OBJECT.schema }));
    },
  };
};

const settings = { maxRetries: RETRIES };
serveRows({
  "@tanstack/ai-openai: Responses": ({ url, model }) =>
    actions(createOpenaiChat(model, KEY, { baseURL: `${url}/v1`, ...settings })),
  "@tanstack/ai-openai: chat": ({ url, model }) =>
    actions(createOpenaiChatCompletions(model, KEY, { baseURL: `${url}/v1`, ...settings })),
  "@tanstack/ai-anthropic": ({ url, model }) => actions(createAnthropicChat(model, KEY, { baseURL: url, ...settings })),
});
