/**
 * The key that this page calls with, where the server wants one: in this tab's sessionStorage alone, and in no URL, no
 * cookie and nothing that outlives the tab. It leaves in a header, to the server that the page came from.
 */

const NAME = "broadcaster.key";
/** What can be one: printable ASCII without spaces; anything else could not be sent in a header. */
const SHAPE = /^[\x21-\x7e]+$/;

let key = read();
let whenRefused = () => {};

function read() {
  try {
    return sessionStorage.getItem(NAME);
  } catch {
    return null; // Storage is forbidden: the key is held until the page is left.
  }
}

export const isKey = (text) => SHAPE.test(text);
export const hasKey = () => key !== null;

/** The header that brings a key: this one, or the one that is held. */
export const keyHeaders = (given = key) => (given === null ? {} : { authorization: `Bearer ${given}` });

export function keepKey(given) {
  key = given;
  try {
    if (given === null) sessionStorage.removeItem(NAME);
    else sessionStorage.setItem(NAME, given);
  } catch {
    // As above.
  }
}

/** `listener` is called whenever the server has refused what this page holds: no key, or one that it takes no more. */
export function onRefused(listener) {
  whenRefused = listener;
}

/** A call was answered with 401; `headers` are its own. What was sent with a key of before says nothing of today's. */
export function noteRefusal(headers) {
  if (headers.authorization !== keyHeaders().authorization) return;
  keepKey(null);
  whenRefused();
}
