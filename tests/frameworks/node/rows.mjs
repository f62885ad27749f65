// What the drivers share: how a row runs a job, the one tool, the one object.
//
// The jobs and their answers are those of tests/frameworks/drivers.py. An error of the framework is part of the answer,
// beside what the framework had given until then. Retries are off: each refusal is judged as it arrives.

import { Console } from "node:console";
import { z } from "zod";
import { serve } from "../../compat/node/jobs.mjs";

// Some frameworks print, and stdout is for answers.
globalThis.console = new Console(process.stderr);

export const KEY = "test-key";
export const RETRIES = 0;

export const TOOL = {
  name: "get_weather",
  description: "The weather in a city.",
  schema: z.object({ city: z.string() }),
  /** The result, noted in the answer. */
  run: (seen) => ({ city }) => {
    const result = `21 degrees in ${city}`;
    seen.tool_results.push(result);
    return result;
  },
};

export const OBJECT = { name: "place", schema: z.object({ city: z.string(), temperature: z.number() }) };

/** The counts of tokens, if the framework shows them. */
export const counts = (input, output) =>
  Number.isInteger(input) && Number.isInteger(output) ? { input_tokens: input, output_tokens: output } : null;

/** What a user sees of an error: its name, its status where the framework keeps it, its message. */
export function shown(error) {
  const causes = [error, error?.lastError, error?.cause, error?.error];
  const statuses = causes.flatMap((each) => [each?.status, each?.statusCode]);
  return {
    name: error?.constructor?.name ?? "unknown",
    status: statuses.find((each) => Number.isInteger(each)) ?? null,
    message: String(error?.message ?? error),
  };
}

/** Serve `rows`: by label, a function from a job to the actions of a client of that address and model. */
export function serveRows(rows) {
  const action = (name) => async (job) => {
    const seen = { text: "", deltas: [], finish: null, usage: null, object: null, tool_results: [], error: null };
    const abort = new AbortController();
    const delta = (piece) => {
      if (!piece) return;
      seen.deltas.push(piece);
      if (seen.deltas.length === job.abort_after) abort.abort();
    };
    const actions = rows[job.row](job);
    try {
      await actions[name]({ prompt: job.prompt, seen, delta, signal: abort.signal, abort });
    } catch (error) {
      seen.error = shown(error);
    }
    seen.text ||= seen.deltas.join("");
    return seen;
  };
  const names = ["plain", "stream", "tools", "structured"];
  return serve(Object.fromEntries(names.map((name) => [name, action(name)])));
}
