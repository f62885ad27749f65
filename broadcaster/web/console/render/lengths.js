/** How much of one field of a job's or a model's data is written on the page. Pure. */

// A name, a label, a link.
export const MAX_LABEL_CHARS = 300;
// A line of a log, a status, an error.
export const MAX_LINE_CHARS = 2000;
// A tool's input and output, data as JSON; the button of a tool's field copies all of it.
export const MAX_FIELD_CHARS = 100_000;

/** The text, or its beginning with a mark that says how much is missing. */
export function cut(text, most) {
  if (text.length <= most) return text;
  return `${text.slice(0, most)}… (${(text.length - most).toLocaleString("en")} more characters)`;
}
