// LangChain under node: `@langchain/openai` over both of its APIs, `@langchain/anthropic`; tools by `langchain`'s agent.

import { ChatAnthropic } from "@langchain/anthropic";
import { ChatOpenAI } from "@langchain/openai";
import { createAgent, tool } from "langchain";
import { KEY, OBJECT, RETRIES, TOOL, counts, serveRows } from "./rows.mjs";

const openai = ({ url, model }, options) =>
  new ChatOpenAI({ model, apiKey: KEY, maxRetries: RETRIES, configuration: { baseURL: `${url}/v1` }, ...options });
const anthropic = ({ url, model }) => new ChatAnthropic({ model, apiKey: KEY, maxRetries: RETRIES, anthropicApiUrl: url });

const usage = (shown) => counts(shown?.input_tokens, shown?.output_tokens);
/** Each of the three classes keeps it under a name, and `@langchain/anthropic` at a place, of its own. */
const finish = ({ response_metadata: metadata = {}, additional_kwargs: extras = {} }) =>
  metadata.finish_reason ?? metadata.stop_reason ?? metadata.status ?? extras.stop_reason ?? null;
const ending = (message) => ({ text: message.text, finish: finish(message), usage: usage(message.usage_metadata) });

const actions = (model) => ({
  async plain({ prompt, seen, signal }) {
    Object.assign(seen, ending(await model.invoke(prompt, { signal })));
  },

  async stream({ prompt, seen, delta, signal }) {
    let whole;
    for await (const chunk of await model.stream(prompt, { signal })) {
      whole = whole ? whole.concat(chunk) : chunk;
      delta(chunk.text);
    }
    if (whole) Object.assign(seen, ending(whole));
  },

  async tools({ prompt, seen, signal }) {
    const { name, description, schema } = TOOL;
    const agent = createAgent({ model, tools: [tool(TOOL.run(seen), { name, description, schema })] });
    const { messages } = await agent.invoke({ messages: [{ role: "user", content: prompt }] }, { signal });
    // The agent keeps one message for each id, and the scripted provider's answers share theirs.
    Object.assign(seen, ending(messages.findLast(({ type }) => type === "ai")));
  },

  async structured({ prompt, seen, signal }) {
    const bound = model.withStructuredOutput(OBJECT.schema, { name: OBJECT.name });
    seen.object = await bound.invoke(prompt, { signal });
  },
});

serveRows({
  "@langchain/openai: chat": (job) => actions(openai(job, { useResponsesApi: false })),
  "@langchain/openai: Responses": (job) => actions(openai(job, { useResponsesApi: true })),
  "@langchain/anthropic": (job) => actions(anthropic(job)),
});
