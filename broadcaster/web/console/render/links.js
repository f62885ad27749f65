/** Which links a page may have that a model wrote. Pure. */

// A longer address is no link: browsers and servers refuse those.
const MAX_URL_CHARS = 8192;
const PROTOCOLS = new Set(["http:", "https:", "mailto:"]);

/** The address of a link that may be followed, or null: a `javascript:` link is a script, a `data:` page not ours. */
export function safeUrl(url) {
  if (typeof url !== "string" || url.length > MAX_URL_CHARS || !URL.canParse(url)) return null;
  const { protocol, href } = new URL(url);
  return PROTOCOLS.has(protocol) ? href : null;
}

/** Where a link leads, to be shown beside its label; "" when the label is an address that begins with exactly this. */
export function targetOf(href, label) {
  const { protocol, host, pathname } = new URL(href);
  const isMail = protocol === "mailto:";
  const target = isMail ? pathname : host.replace(/^www\./, "");
  // As it is written, not as a browser reads it: letters that resemble others are another host.
  const address = label.trim().toLowerCase().replace(isMail ? /^mailto:/ : /^(https?:\/\/)?(www\.)?/, "");
  const isShown = address.startsWith(target.toLowerCase()) && /^([/?#]|$)/.test(address.slice(target.length));
  return isShown ? "" : target;
}
