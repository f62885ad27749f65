/**
 * The key that this page sends where the server requires one. It is stored in this tab's sessionStorage alone: in no URL,
 * no cookie and nothing that outlives the tab. It is sent in a header, only to the server that the page came from.
 */

const NAME = "broadcaster.key";
/** A key is printable ASCII without spaces; anything else could not be sent in a header. */
const SHAPE = /^[\x21-\x7e]+$/;

/** The viewer token of a shared link (`#ID&token=…`): sent in place of the key while that link is open, never stored. */
let guestToken = null;
let key = read();
let whenRefused = () => {};

function read() {
  try {
    return sessionStorage.getItem(NAME);
  } catch {
    return null; // Storage is forbidden: the key lasts until the page is left.
  }
}

export const isKey = (text) => SHAPE.test(text);
export const hasKey = () => key !== null || guestToken !== null;
export const isGuest = () => guestToken !== null;

export function enterAsGuest(token) {
  guestToken = token;
}

/** What is sent: the token of a shared link, or the stored key; "" is nothing. */
export const sentKey = () => guestToken ?? key ?? "";

/** The header with a key: the given one, or the one that is sent. */
export const keyHeaders = (given = guestToken ?? key) => (given === null ? {} : { authorization: `Bearer ${given}` });

export function keepKey(given) {
  key = given;
  try {
    if (given === null) sessionStorage.removeItem(NAME);
    else sessionStorage.setItem(NAME, given);
  } catch {
    // As above.
  }
}

/** `listener` is called whenever the server requires a key, or no longer accepts the stored one. */
export function onRefused(listener) {
  whenRefused = listener;
}

/** A call with these headers got a 401. A call that was sent with an earlier key proves nothing about the stored one. */
export function noteRefusal(headers) {
  if (isGuest() || headers.authorization !== keyHeaders().authorization) return;
  keepKey(null);
  whenRefused();
}
