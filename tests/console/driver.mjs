// What the tests call of the modules that need no page.
import { begun, cutAt, merged, requestOf, withAnswer, withTurn } from "./chat/conversations.js";
import { ConversationStore } from "./chat/store.js";

class BoundedStorage {
  #entries = new Map();

  constructor(maxChars) {
    this.maxChars = maxChars;
  }

  get length() {
    return this.#entries.size;
  }

  get chars() {
    return [...this.#entries].reduce((sum, [key, text]) => sum + key.length + text.length, 0);
  }

  key(index) {
    return [...this.#entries.keys()][index];
  }

  getItem(key) {
    return this.#entries.get(key) ?? null;
  }

  setItem(key, text) {
    const freed = this.#entries.has(key) ? key.length + this.#entries.get(key).length : 0;
    if (this.chars - freed + key.length + text.length > this.maxChars) throw new Error("QuotaExceededError");
    this.#entries.set(key, text);
  }

  removeItem(key) {
    this.#entries.delete(key);
  }
}

const brief = (store) => store.list().map(({ id, turns }) => [id, turns.map(({ answer }) => answer?.length ?? null)]);

/** What a store keeps of conversations saved in this order, and what another store reads from the same storage. */
export function kept({ maxChars = Infinity, isForbidden = false, tenants = [], entries = {}, saved }) {
  const storage = new BoundedStorage(maxChars);
  for (const [key, text] of Object.entries(entries)) storage.setItem(key, text);
  const choose = () => {
    if (isForbidden) throw new Error("SecurityError");
    return storage;
  };
  const store = new ConversationStore(choose);
  for (const [index, { id, turns, times = 1 }] of saved.entries()) {
    for (let round = 0; round < times; round += 1) {
      let conversation = begun(times > 1 ? `${id}-${round}` : id, 0);
      for (const [number, chars] of turns.entries()) {
        conversation = withTurn(conversation, { user: "?", id: `${conversation.id}.${number}` }, 1000 * index + round);
        if (chars !== null) conversation = withAnswer(conversation, `${conversation.id}.${number}`, { answer: "x".repeat(chars), status: "finished" });
      }
      store.save(conversation);
    }
  }
  for (const tenant of tenants) store.belongTo(tenant);
  return { here: brief(store), later: brief(new ConversationStore(choose)), chars: storage.chars };
}

/** The body of the next request; `answers` has the answers that are known. */
export const requested = (conversation, answers) => requestOf(conversation, "next", ({ id }) => answers[id]);

/** A conversation after these steps: [user, id, at], or [cut] at an index. */
const after = (steps) =>
  steps.reduce(
    (conversation, [user, id, at]) => (id === undefined ? cutAt(conversation, user) : withTurn(conversation, { user, id }, at)),
    begun("c", 0),
  );

/** The turns of two versions of one conversation, merged by either tab; and by a third that merges both. */
export function merges({ one, other }) {
  const [a, b] = [after(one), after(other)];
  const brief = ({ turns }) => turns.map(({ id }) => id);
  const [here, there] = [merged(a, b), merged(b, a)];
  return { here: brief(here), there: brief(there), merged: brief(merged(here, there)), isSettled: merged(here, a) === here };
}

/** Two pages of one storage whose tabs hear of each other late: each saves a turn, and is notified of what was stored, if `isNotified`. */
export function raced({ isStale, isNotified }) {
  const storage = new BoundedStorage(Infinity);
  const events = [];
  const stores = [0, 1].map(() => {
    const seen = new BoundedStorage(Infinity);
    const write = (name, key, text) => {
      storage[name](key, text);
      if (isStale) seen[name](key, text);
      events.push({ key, newValue: text ?? null });
    };
    const view = {
      get length() {
        return storage.length;
      },
      key: (index) => storage.key(index),
      // What this tab sees of another one's writing may be old.
      getItem: (key) => (isStale ? seen : storage).getItem(key),
      setItem: (key, text) => write("setItem", key, text),
      removeItem: (key) => write("removeItem", key),
    };
    return { store: new ConversationStore(() => view), view };
  });
  const first = withTurn(begun("c", 0), { user: "?", id: "1" }, 1);
  for (const { store } of stores) store.save(first);
  stores[0].store.save(withTurn(first, { user: "a", id: "2a" }, 2));
  stores[1].store.save(withTurn(first, { user: "b", id: "2b" }, 3));
  for (let round = 0; isNotified && events.length > 0 && round < 50; round += 1) {
    const event = events.shift();
    for (const { store, view } of stores) store.note({ ...event, storageArea: view });
  }
  return { left: events.length, tabs: stores.map(({ store }) => brief(store)), stored: brief(new ConversationStore(() => storage)) };
}

/**
 * What both storages hold after a list was read while the key changed: `refused` by a later call of the same reading,
 * `left` (another tenant's key was entered) while it was under way, or neither.
 */
export async function listed({ change }) {
  Object.assign(globalThis, { location: {}, sessionStorage: new BoundedStorage(Infinity), localStorage: new BoundedStorage(Infinity) });
  const key = await import("./key.js");
  const recents = await import("./recents.js");
  key.keepKey("of-a");
  recents.remember({ id: "gen_old", status: "running", created_at: 1 });
  const json = (status, body) => new Response(JSON.stringify(body), { status, headers: { "content-type": "application/json" } });
  globalThis.fetch = async (url) => {
    if (!String(url).includes("/v1/streams?")) {
      return change === "refused" ? json(401, { code: "unauthorized", detail: "no" }) : json(200, { id: "gen_old", status: "finished", created_at: 1 });
    }
    if (change === "left") key.keepKey("of-b");
    return json(200, { streams: [{ id: "secret", kind: "feed", status: "running", created_at: 2 }], next_before: "x" });
  };
  if (change === "left") recents.forgetAll();
  const failure = await recents.refresh().then(() => null, ({ code }) => code);
  const ids = (storage) => JSON.parse(storage.getItem("broadcaster.recents") ?? "[]").map(({ id }) => id);
  key.keepKey(null);
  return { failure, session: ids(sessionStorage), local: ids(localStorage), known: recents.known().map(({ id }) => id) };
}
