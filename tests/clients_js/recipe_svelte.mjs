// The recipe for Svelte of docs/javascript.md, subscribed to: a line for each new text, status or connection.

import { stream } from "recipe";

const lines = new Set();
let leave = () => {};

leave = stream(process.argv[2]).subscribe(({ text, status, connection }) => {
  const line = JSON.stringify({ text, status, connection: connection.name, code: connection.error?.code ?? null });
  if (!lines.has(line)) console.log(line);
  lines.add(line);
  if (text === process.argv[3]) leave();
});
