// The package `openai` under node: chat completions and Responses.

import OpenAI from "openai";
import { serve, failureOf } from "./jobs.mjs";

const QUESTION = [{ role: "user", content: "What is the weather in Paris?" }];

const open = ({ url, key = "k" }) => new OpenAI({ baseURL: url, apiKey: key, maxRetries: 0 });

/** The final object, and the error if the stream ended in one: what was there by then is answered too. */
async function chat(job) {
  const stream = open(job).chat.completions.stream(
    {
      model: job.model ?? "claude-scripted",
      messages: job.messages ?? QUESTION,
      stream_options: { include_usage: true },
    },
    { headers: job.headers ?? {} },
  );
  // The package keeps the last piece of a field that it does not know: a program that shows reasoning joins the pieces.
  const reasoning = {};
  stream.on("chunk", (chunk) => {
    for (const name of ["reasoning_content", "reasoning"]) {
      const piece = chunk.choices[0]?.delta?.[name];
      if (piece) reasoning[name] = (reasoning[name] ?? "") + piece;
    }
  });
  const whole = (final) => {
    if (final) Object.assign(final.choices[0].message, reasoning);
    return final ?? null;
  };
  try {
    return { final: whole(await stream.finalChatCompletion()), error: null };
  } catch (error) {
    return { final: whole(stream.currentChatCompletionSnapshot), error: failureOf(error) };
  }
}

/** The events of a Response, and the error if the stream ended in one. */
async function read(stream) {
  const events = [];
  try {
    for await (const event of await stream) events.push(event);
    return { events, error: null };
  } catch (error) {
    return { events, error: failureOf(error) };
  }
}

const responses = (job) =>
  read(
    open(job).responses.create({
      model: job.model ?? "claude-scripted",
      input: job.input ?? QUESTION,
      stream: true,
      background: true,
    }),
  );

const retrieve = (job) =>
  read(
    open(job).responses.retrieve(job.response_id, {
      stream: true,
      ...(job.starting_after == null ? {} : { starting_after: job.starting_after }),
    }),
  );

const cancel = (job) => open(job).responses.cancel(job.response_id);

serve({ chat, responses, retrieve, cancel });
