// Imported before CopilotKit: its telemetry is off, and its requests reach this machine alone.

import { Console } from "node:console";

process.env.COPILOTKIT_TELEMETRY_DISABLED = "true";
process.env.DO_NOT_TRACK = "1";
// The runtime prints, and stdout is for answers.
globalThis.console = new Console(process.stderr);

const { fetch } = globalThis;
globalThis.fetch = async (url, init) => {
  const address = new URL(url?.url ?? url);
  if (address.hostname !== "127.0.0.1") throw new Error(`a request to ${address} would leave this machine`);
  return fetch(url, init);
};
