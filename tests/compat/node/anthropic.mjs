// The package `@anthropic-ai/sdk` under node.

import Anthropic from "@anthropic-ai/sdk";
import { serve, failureOf } from "./jobs.mjs";

const QUESTION = [{ role: "user", content: "What is the weather in Paris?" }];

/** The final object, and the error if the stream ended in one: what was there by then is answered too. */
async function message(job) {
  const client = new Anthropic({ baseURL: job.url, apiKey: job.key ?? "k", maxRetries: 0 });
  const stream = client.messages.stream(
    { model: job.model ?? "claude-scripted", max_tokens: 1024, messages: job.messages ?? QUESTION },
    { headers: job.headers ?? {} },
  );
  try {
    return { final: await stream.finalMessage(), error: null };
  } catch (error) {
    return { final: stream.currentMessage ?? null, error: failureOf(error) };
  }
}

serve({ message });
