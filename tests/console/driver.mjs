// What the tests call of the modules that need no page.
import { begun, requestOf, withAnswer, withTurn } from "./chat/conversations.js";
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
