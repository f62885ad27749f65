/**
 * Events in batches of the size that one append takes: up to `MOST`, and up to `MAX_CHARS` of JSON. A batch that a server
 * refuses as too large (it bounds the JSON values too, and may take smaller bodies) is sent in halves.
 */

import { createKey } from "./server.js";

export const MOST = 1000;
// At most three bytes each: a server takes bodies of 4 MiB.
export const MAX_CHARS = 2 ** 20;
const TOO_LARGE = 413;

/** An event that waits to be appended, and the characters of its JSON. */
export const measured = (event) => ({ event, chars: JSON.stringify(event).length });

/** Take what one append carries off the front of `waiting`: at least one event. */
export function takeBatch(waiting) {
  let count = 0;
  let chars = 0;
  do chars += waiting[count++].chars;
  while (count < Math.min(waiting.length, MOST) && chars + waiting[count].chars <= MAX_CHARS);
  return { events: waiting.splice(0, count).map(({ event }) => event), chars };
}

/** Append these events in their order, by calls of `append`. Resolves with their ids. */
export async function appendBatch(events, append) {
  try {
    return (await append({ body: events, headers: { "idempotency-key": createKey() } })).ids;
  } catch (error) {
    if (error.status !== TOO_LARGE || events.length < 2) throw error;
    const half = events.length >> 1;
    const ids = await appendBatch(events.slice(0, half), append);
    return ids.concat(await appendBatch(events.slice(half), append));
  }
}
