// The package `eventsource` under node: the native dialect, resumed by the client itself.

import { EventSource } from "eventsource";
import { serve } from "./jobs.mjs";

const TERMINAL = new Set(["finish", "error", "abort"]);

/** Every entry that came, until the terminal one, over as many connections as it took. */
function watch({ url }) {
  return new Promise((resolve) => {
    const source = new EventSource(url);
    const entries = [];
    let connections = 0;
    source.onopen = () => (connections += 1);
    source.onmessage = ({ data, lastEventId }) => {
      const event = JSON.parse(data);
      entries.push({ id: lastEventId, event });
      if (!TERMINAL.has(event.type)) return;
      source.close();
      resolve({ entries, connections });
    };
  });
}

serve({ watch });
