// The recipe for Vue of docs/javascript.md in a scope of Vue: a line for each new text, status or connection.

import { useStream } from "recipe";
import { effectScope, watchEffect } from "vue";

const lines = new Set();

/** Print what is new, and leave when it ends or shows the text to leave at. */
const note = (scope, { text, status, connection }) => {
  const line = JSON.stringify({ text, status, connection: connection.name, code: connection.error?.code ?? null });
  if (!lines.has(line)) console.log(line);
  lines.add(line);
  if (text === process.argv[3]) scope.stop();
};

const scope = effectScope();
scope.run(() => {
  const answer = useStream(process.argv[2]);
  watchEffect(() => note(scope, answer.value), { flush: "sync" });
});
