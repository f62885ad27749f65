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
export const asked = (conversation, answers) => requestOf(conversation, "next", ({ id }) => answers[id]);

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
  return { here: brief(here), there: brief(there), again: brief(merged(here, there)), isSettled: merged(here, a) === here };
}

/** Two pages of one storage whose tabs hear of each other late: each saves a turn, then each is told what was stored. */
export function raced({ isStale }) {
  const storage = new BoundedStorage(Infinity);
  const told = [];
  const stores = [0, 1].map(() => {
    const seen = new BoundedStorage(Infinity);
    const write = (name, key, text) => {
      storage[name](key, text);
      if (isStale) seen[name](key, text);
      told.push({ key, newValue: text ?? null });
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
  for (let round = 0; told.length > 0 && round < 50; round += 1) {
    const event = told.shift();
    for (const { store, view } of stores) store.note({ ...event, storageArea: view });
  }
  return { left: told.length, tabs: stores.map(({ store }) => brief(store)), stored: brief(new ConversationStore(() => storage)) };
}
