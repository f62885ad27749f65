/** Character references: `&lt;` → `<`. marked gives texts with them; numeric ones it has replaced. Pure. */

const NAMED = {
  amp: "&",
  lt: "<",
  gt: ">",
  quot: '"',
  apos: "'",
  nbsp: "\u00a0",
  ensp: "\u2002",
  emsp: "\u2003",
  thinsp: "\u2009",
  ndash: "–",
  mdash: "—",
  hellip: "…",
  lsquo: "‘",
  rsquo: "’",
  ldquo: "“",
  rdquo: "”",
  laquo: "«",
  raquo: "»",
  middot: "·",
  bull: "•",
  deg: "°",
  plusmn: "±",
  times: "×",
  divide: "÷",
  minus: "−",
  ne: "≠",
  le: "≤",
  ge: "≥",
  asymp: "≈",
  infin: "∞",
  larr: "←",
  rarr: "→",
  harr: "↔",
  uarr: "↑",
  darr: "↓",
  check: "✓",
  euro: "€",
  pound: "£",
  cent: "¢",
  sect: "§",
  para: "¶",
  copy: "©",
  reg: "®",
  trade: "™",
};

/** The text with its references replaced; unknown ones stay as they are. */
export function decoded(text) {
  if (!text.includes("&")) return text;
  return text.replace(/&([a-z]+);/g, (reference, name) => (Object.hasOwn(NAMED, name) ? NAMED[name] : reference));
}
