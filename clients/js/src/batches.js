/** Events in batches of the size that one append takes: up to `MOST`, and up to `MAX_CHARS` of JSON. */

export const MOST = 1000;
// At most three bytes each: a server takes bodies of 4 MiB.
export const MAX_CHARS = 2 ** 20;

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
