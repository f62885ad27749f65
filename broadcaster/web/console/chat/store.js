/**
 * The conversations of this browser: one entry of a Storage each, so that tabs that write different ones do not meet.
 *
 * Rules
 * 1. At most MAX_CONVERSATIONS and MAX_CHARS are kept. Beyond that the oldest are forgotten, and so they are when the browser
 *    refuses to store more, if that helps. A conversation that is too long by itself loses the copies of its older answers.
 * 2. A storage that is full or forbidden is no error: what is not stored lives as long as the page.
 * 3. An entry that cannot be read, or is of another version, is left where it is and not shown.
 * 4. What is stored belongs to one tenant: the key of another one clears it.
 * 5. Of what two tabs write into one conversation at the same time, no turn is lost: each merges what it finds stored, and
 *    what it is told of later. Browsers show a tab late what another one has stored, so one of the two is not enough.
 * 6. A conversation that is being deleted stays stored, with a mark and shown nowhere, until its generations are deleted: a
 *    page that is loaded meanwhile goes on with that.
 */

import { checked, lacks, merged } from "./conversations.js";

const PREFIX = "broadcaster.chat.";
const OWNER = "broadcaster.chats-of";
export const MAX_CONVERSATIONS = 200;
// Browsers allow five million characters for a whole origin.
export const MAX_CHARS = 3_000_000;

export class ConversationStore {
  #choose;
  #storage = null;
  #owner = null; // where the storage is forbidden
  #onChange;
  #known = new Map();
  #leaving = new Map(); // rule 6
  #sizes = new Map();

  /** `choose` returns the Storage of each `load`, or throws; `onChange` is called when another tab has written. */
  constructor(choose, onChange = () => {}) {
    this.#choose = choose;
    this.#onChange = onChange;
    this.load();
  }

  /** Read everything from the storage of now. Until the next `load` all is written there, whatever key is entered. */
  load() {
    this.#storage = attempt(this.#choose) ?? null;
    this.#known.clear();
    this.#leaving.clear();
    this.#sizes.clear();
    for (const [key, text] of this.#entries()) this.#take(key, text);
  }

  /** Newest first. */
  list() {
    return [...this.#known.values()].sort((a, b) => b.updatedAt - a.updatedAt);
  }

  get(id) {
    return this.#known.get(id) ?? null;
  }

  /** Those whose deletion has begun, here or in an earlier page. */
  get leaving() {
    return [...this.#leaving.values()];
  }

  /** The conversation that has this generation as a turn. */
  holder(generationId) {
    return this.list().find(({ turns }) => turns.some(({ id }) => id === generationId)) ?? null;
  }

  /** All generations of all conversations, replaced ones included. */
  generations() {
    return new Set(this.list().flatMap(({ turns, dropped }) => [...turns.map(({ id }) => id), ...dropped]));
  }

  /** Returns what was saved: the conversation, with the turns that other tabs have stored (rule 5). */
  save(given) {
    const { id } = given;
    const stored = this.#attempt((storage) => checked(parsed(storage.getItem(PREFIX + id)))) ?? null;
    const conversation = stored === null ? given : merged(given, stored);
    this.#put(conversation);
    return conversation;
  }

  #put(conversation) {
    const { id } = conversation;
    this.#known.set(id, conversation);
    this.#leaving.delete(id);
    this.#sizes.delete(id);
    const text = fitting(conversation);
    if (text === null) return;
    while (this.#isOverfull(text.length) && this.#forgetOldest() !== null);
    const forgotten = [];
    while (!this.#write(id, text)) {
      const oldest = this.#forgetOldest();
      // Something else fills the storage: to forget conversations was of no use.
      if (oldest === null) return forgotten.forEach((each) => this.#restore(each));
      forgotten.push(oldest);
    }
  }

  #restore(conversation) {
    this.#known.set(conversation.id, conversation);
    this.#write(conversation.id, fitting(conversation));
  }

  /** Rule 6. */
  beginDeletion(conversation) {
    const { id } = conversation;
    this.delete(id);
    this.#leaving.set(id, conversation);
    this.#attempt((storage) => storage.setItem(PREFIX + id, JSON.stringify({ ...conversation, isLeaving: true })));
  }

  delete(id) {
    this.#drop(id);
    this.#attempt((storage) => storage.removeItem(PREFIX + id));
  }

  /** Rule 4, whatever the version of an entry. `isOther`: what was stored was another tenant's. */
  belongTo(tenant) {
    this.load();
    const owner = this.#attempt((storage) => storage.getItem(OWNER)) ?? this.#owner;
    const isOther = owner !== null && owner !== tenant;
    if (isOther) for (const [key] of this.#entries()) this.delete(key.slice(PREFIX.length));
    this.#owner = tenant;
    this.#attempt((storage) => storage.setItem(OWNER, tenant));
    return { isOther };
  }

  /** A StorageEvent: another tab has written. */
  note({ key, newValue, storageArea }) {
    if (storageArea !== this.#storage) return;
    if (key === null) this.load();
    else if (!key.startsWith(PREFIX)) return;
    else if (newValue === null) this.#drop(key.slice(PREFIX.length));
    else this.#merge(key, newValue);
    this.#onChange();
  }

  /** Another tab has stored this. Where it lacks what this tab knows, the whole is stored again. */
  #merge(key, text) {
    const known = this.get(key.slice(PREFIX.length));
    const conversation = this.#take(key, text);
    if (known === null || conversation === null) return;
    const whole = merged(conversation, known);
    if (lacks(conversation, whole)) this.#put(whole);
    else this.#known.set(whole.id, whole);
  }

  #drop(id) {
    this.#known.delete(id);
    this.#leaving.delete(id);
    this.#sizes.delete(id);
  }

  #take(key, text) {
    const conversation = checked(parsed(text));
    if (conversation === null || PREFIX + conversation.id !== key) return null;
    const { isLeaving, ...whole } = conversation;
    if (isLeaving === true) {
      this.#drop(whole.id);
      this.#leaving.set(whole.id, whole);
      return null;
    }
    this.#known.set(conversation.id, conversation);
    this.#sizes.set(conversation.id, text.length);
    return conversation;
  }

  #entries() {
    return (
      this.#attempt((storage) => {
        const keys = Array.from({ length: storage.length }, (_, index) => storage.key(index));
        return keys.filter((key) => key.startsWith(PREFIX)).map((key) => [key, storage.getItem(key)]);
      }) ?? []
    );
  }

  /** Whether one more of this length is too much. */
  #isOverfull(length) {
    const chars = [...this.#sizes.values()].reduce((sum, size) => sum + size, length);
    return this.#sizes.size >= MAX_CONVERSATIONS || chars > MAX_CHARS;
  }

  /** Of those that are stored. Returns it, or null when there was none. */
  #forgetOldest() {
    const oldest = this.list().findLast(({ id }) => this.#sizes.has(id)) ?? null;
    if (oldest !== null) this.delete(oldest.id);
    return oldest;
  }

  #write(id, text) {
    return this.#attempt((storage) => {
      storage.setItem(PREFIX + id, text);
      this.#sizes.set(id, text.length);
      return true;
    });
  }

  #attempt(act) {
    return attempt(() => act(this.#storage));
  }
}

/** Rule 2. */
function attempt(act) {
  try {
    return act();
  } catch {
    return undefined;
  }
}

/** The conversation as text, without its oldest copies where it is too long; null when even that is. */
function fitting(conversation) {
  const turns = [...conversation.turns];
  for (let index = 0; index <= turns.length; index += 1) {
    const text = JSON.stringify({ ...conversation, turns });
    if (text.length <= MAX_CHARS / 2) return text;
    if (index < turns.length) turns[index] = { ...turns[index], answer: null };
  }
  return null;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
