// The package `openai`, version 7: chat completions and Responses, with its helpers for tools and objects.

import OpenAI from "openai";
import { zodFunction, zodResponseFormat, zodResponsesFunction, zodTextFormat } from "openai/helpers/zod";
import { KEY, OBJECT, RETRIES, TOOL, counts, serveRows } from "./rows.mjs";

const ROUNDS = 5;

const open = (url) => new OpenAI({ baseURL: `${url}/v1`, apiKey: KEY, maxRetries: RETRIES });
const usage = (shown) =>
  counts(shown?.prompt_tokens ?? shown?.input_tokens, shown?.completion_tokens ?? shown?.output_tokens);

function chat({ url, model }) {
  const { completions } = open(url).chat;
  const request = ({ prompt }) => ({ model, messages: [{ role: "user", content: prompt }] });
  const ending = ({ choices: [choice], usage: shown }) => ({
    text: choice.message.content,
    finish: choice.finish_reason,
    usage: usage(shown),
  });
  return {
    async plain(run) {
      Object.assign(run.seen, ending(await completions.create(request(run), { signal: run.signal })));
    },

    async stream(run) {
      const body = { ...request(run), stream: true, stream_options: { include_usage: true } };
      for await (const { choices: [choice], usage: shown } of await completions.create(body, { signal: run.signal })) {
        run.delta(choice?.delta?.content);
        run.seen.finish = choice?.finish_reason ?? run.seen.finish;
        run.seen.usage = usage(shown) ?? run.seen.usage;
      }
    },

    async tools(run) {
      const { name, description, schema } = TOOL;
      const tool = zodFunction({ name, description, parameters: schema, function: TOOL.run(run.seen) });
      const runner = completions.runTools({ ...request(run), tools: [tool] }, { signal: run.signal });
      Object.assign(run.seen, ending(await runner.finalChatCompletion()));
    },

    async structured(run) {
      const format = zodResponseFormat(OBJECT.schema, OBJECT.name);
      const completion = await completions.parse({ ...request(run), response_format: format });
      Object.assign(run.seen, ending(completion), { object: completion.choices[0].message.parsed });
    },
  };
}

/** A Response that failed raises nothing in a stream of events: its last event has the error. */
class ResponseFailed extends Error {}

function responses({ url, model }) {
  const { responses } = open(url);
  const ending = (response) => ({ text: response.output_text, finish: response.status, usage: usage(response.usage) });
  return {
    async plain(run) {
      Object.assign(run.seen, ending(await responses.create({ model, input: run.prompt }, { signal: run.signal })));
    },

    async stream(run) {
      const events = await responses.create({ model, input: run.prompt, stream: true }, { signal: run.signal });
      for await (const { type, delta, response } of events) {
        if (type === "response.output_text.delta") run.delta(delta);
        if (!["response.completed", "response.incomplete", "response.failed"].includes(type)) continue;
        Object.assign(run.seen, { finish: response.status, usage: usage(response.usage) });
        if (response.error) throw new ResponseFailed(response.error.message);
      }
    },

    /** As the API's guide has it: the package runs no tools on Responses. */
    async tools(run) {
      const { name, description, schema } = TOOL;
      const tools = [zodResponsesFunction({ name, description, parameters: schema })];
      const input = [{ role: "user", content: run.prompt }];
      for (let round = 0; round < ROUNDS; round += 1) {
        const response = await responses.parse({ model, input, tools }, { signal: run.signal });
        const calls = response.output.filter(({ type }) => type === "function_call");
        if (!calls.length) return void Object.assign(run.seen, ending(response));
        const results = calls.map(({ call_id, parsed_arguments }) => ({
          type: "function_call_output",
          call_id,
          output: TOOL.run(run.seen)(parsed_arguments),
        }));
        input.push(...response.output, ...results);
      }
    },

    async structured(run) {
      const format = zodTextFormat(OBJECT.schema, OBJECT.name);
      const response = await responses.parse({ model, input: run.prompt, text: { format } });
      Object.assign(run.seen, ending(response), { object: response.output_parsed });
    },
  };
}

serveRows({ "openai 7: chat": chat, "openai 7: Responses": responses });
