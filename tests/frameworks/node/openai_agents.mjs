// The package `@openai/agents`, over Responses and over chat completions.

import { Agent, OpenAIProvider, Runner, tool } from "@openai/agents";
import OpenAI from "openai";
import { KEY, OBJECT, RETRIES, TOOL, counts, serveRows } from "./rows.mjs";

const open = (useResponses) => ({ url, model }) => {
  const openAIClient = new OpenAI({ baseURL: `${url}/v1`, apiKey: KEY, maxRetries: RETRIES });
  const modelProvider = new OpenAIProvider({ openAIClient, useResponses });
  const runner = new Runner({ modelProvider, tracingDisabled: true });
  const agent = (options = {}) => new Agent({ name: "Assistant", model, ...options });
  const usage = ({ state }) => counts(state.usage.inputTokens, state.usage.outputTokens);
  return {
    async plain({ prompt, seen, signal }) {
      const result = await runner.run(agent(), prompt, { signal });
      Object.assign(seen, { text: result.finalOutput, usage: usage(result) });
    },

    async stream({ prompt, seen, delta, signal }) {
      const result = await runner.run(agent(), prompt, { stream: true, signal });
      for await (const event of result) {
        if (event.type === "raw_model_stream_event" && event.data.type === "output_text_delta") delta(event.data.delta);
      }
      await result.completed;
      Object.assign(seen, { text: result.finalOutput ?? "", usage: usage(result) });
    },

    async tools({ prompt, seen, signal }) {
      const { name, description, schema } = TOOL;
      const weather = tool({ name, description, parameters: schema, execute: TOOL.run(seen) });
      const result = await runner.run(agent({ tools: [weather] }), prompt, { signal });
      Object.assign(seen, { text: result.finalOutput, usage: usage(result) });
    },

    async structured({ prompt, seen, signal }) {
      const result = await runner.run(agent({ outputType: OBJECT.schema }), prompt, { signal });
      Object.assign(seen, { object: result.finalOutput, usage: usage(result) });
    },
  };
};

serveRows({ "@openai/agents: Responses": open(true), "@openai/agents: chat": open(false) });
