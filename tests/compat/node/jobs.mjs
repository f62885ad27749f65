// What all drivers share: jobs come as lines of JSON on stdin, answers go out as lines of JSON, many at once.
//
//   {"id": 1, "action": "NAME", …}  →  {"id": 1, "answer": …}  or  {"id": 1, "failure": {"name", "message", …}}

import { createInterface } from "node:readline";

const send = (line) => process.stdout.write(JSON.stringify(line) + "\n");

/** What a person, or a test, may want to know of an error that a client raised. */
export const failureOf = (error) => ({
  name: error?.constructor?.name ?? "unknown",
  message: String(error?.message ?? error),
  status: error?.status ?? null,
  code: error?.code ?? error?.error?.code ?? null,
  type: error?.type ?? error?.error?.error?.type ?? error?.error?.type ?? null,
});

async function run({ id, action, ...job }, actions) {
  try {
    send({ id, answer: (await actions[action](job)) ?? null });
  } catch (error) {
    send({ id, failure: failureOf(error) });
  }
}

/** Serve jobs until stdin ends. Each action takes a job and resolves with its answer. */
export async function serve(actions) {
  // A client may leave a promise behind that nobody awaits; the job that made it answers for itself.
  process.on("unhandledRejection", (error) => console.error("unhandled", failureOf(error)));
  for await (const line of createInterface({ input: process.stdin })) run(JSON.parse(line), actions);
}
