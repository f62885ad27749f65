// The package `ai`, versions 6 and 7, with each of its model providers that speaks an API of ours.

import * as v6 from "ai6";
import { createAnthropic as anthropic6 } from "ai6-anthropic";
import { createOpenAI as openai6 } from "ai6-openai";
import { createOpenAICompatible as compatible6 } from "ai6-openai-compatible";
import * as v7 from "ai7";
import { createAnthropic as anthropic7 } from "ai7-anthropic";
import { createOpenAI as openai7 } from "ai7-openai";
import { createOpenAICompatible as compatible7 } from "ai7-openai-compatible";
import { KEY, OBJECT, RETRIES, TOOL, counts, serveRows } from "./rows.mjs";

globalThis.AI_SDK_LOG_WARNINGS = false;

const PROVIDERS = {
  6: { openai: openai6, compatible: compatible6, anthropic: anthropic6 },
  7: { openai: openai7, compatible: compatible7, anthropic: anthropic7 },
};
const SDKS = { 6: v6, 7: v7 };
const MODELS = {
  "@ai-sdk/openai": ({ openai }, settings, model) => openai(settings)(model),
  "@ai-sdk/openai .chat": ({ openai }, settings, model) => openai(settings).chat(model),
  "@ai-sdk/openai-compatible": ({ compatible }, settings, model) =>
    compatible({ name: "ours", includeUsage: true, ...settings })(model),
  "@ai-sdk/anthropic": ({ anthropic }, settings, model) => anthropic(settings)(model),
};

const usage = (shown) => counts(shown.inputTokens, shown.outputTokens);

function actions(sdk, model) {
  const request = ({ prompt, signal }) => ({ model, prompt, abortSignal: signal, maxRetries: RETRIES });
  return {
    async plain(run) {
      const { text, finishReason, usage: shown } = await sdk.generateText(request(run));
      Object.assign(run.seen, { text, finish: finishReason, usage: usage(shown) });
    },

    /** Read to the end, behind an error too: an application that shows parts as they come would show those. */
    async stream(run) {
      const errors = [];
      const { fullStream } = sdk.streamText({ ...request(run), onError: () => {} });
      for await (const part of fullStream) {
        if (part.type === "text-delta") run.delta(part.text);
        if (part.type === "error") errors.push(part.error);
        if (part.type === "finish") {
          Object.assign(run.seen, { finish: part.finishReason, usage: usage(part.totalUsage) });
        }
      }
      if (errors.length) throw errors[0];
    },

    async tools(run) {
      const { description, schema } = TOOL;
      const { text, finishReason, usage: shown } = await sdk.generateText({
        ...request(run),
        tools: { [TOOL.name]: sdk.tool({ description, inputSchema: schema, execute: TOOL.run(run.seen) }) },
        stopWhen: sdk.stepCountIs(5),
      });
      Object.assign(run.seen, { text, finish: finishReason, usage: usage(shown) });
    },

    async structured(run) {
      const { output, finishReason } = await sdk.generateText({
        ...request(run),
        output: sdk.Output.object({ schema: OBJECT.schema }),
      });
      Object.assign(run.seen, { object: output, finish: finishReason });
    },
  };
}

const rows = {};
for (const [version, providers] of Object.entries(PROVIDERS)) {
  for (const [label, open] of Object.entries(MODELS)) {
    rows[`ai ${version}: ${label}`] = ({ url, model }) =>
      actions(SDKS[version], open(providers, { baseURL: `${url}/v1`, apiKey: KEY }, model));
  }
}

serveRows(rows);
