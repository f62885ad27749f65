/**
 * The open conversation: what its user may do. Each answer is a generation of the server, so it survives this page; the
 * conversation is what this browser keeps of it (conversations.js, store.js).
 *
 * Without a conversation the thread shows one generation or feed by its link, and the next text begins a conversation.
 */

import { BroadcasterError } from "../client/errors.js";
import { deleteGeneration, isSuperseded, startGeneration, stopGeneration } from "../api.js";
import { hasKey, isGuest } from "../key.js";
import { forget, remember } from "../recents.js";
import { Composer } from "./composer.js";
import { NO_SETTINGS, begun, cutAt, renamed, requestOf, withAnswer, withTurn } from "./conversations.js";
import { Settings } from "./settings.js";
import { ConversationStore } from "./store.js";
import { Thread } from "./thread.js";

const LOADING = new BroadcasterError("loading", "An earlier answer is still loading: try again in a moment.");

/** A key for one request. Not randomUUID: over plain HTTP beyond loopback browsers do not have it. */
function createKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export class Chat {
  /**
   * `onChange()`: something new can be drawn. `onState(turn, state)`: the connection of a turn has changed.
   * `onStarted(id)`: the open conversation has a new last turn. `onDeleted()`: it is gone, by another tab or tenant.
   * `report(problem)`: show it, null: nothing.
   */
  constructor({ onChange, onState, onStarted, onDeleted, report }) {
    this.onChange = onChange;
    this.onStarted = onStarted;
    this.onDeleted = onDeleted;
    this.report = report;
    /** The pending request: repeating it must not start a second generation. */
    this.pending = null;
    this.conversation = null;
    this.actions = {
      edit: (turn, text) => this.startTurn(text, this.thread.turns.indexOf(turn)),
      regenerate: (turn) => this.startTurn(turn.user, this.thread.turns.indexOf(turn)),
    };
    this.thread = new Thread({ onChange, onState });
    this.store = new ConversationStore(() => (hasKey() ? sessionStorage : localStorage), () => this.reload());
    this.settings = new Settings((settings) => this.setSettings(settings));
    const onSend = (text) => this.startTurn(text, this.conversation?.turns.length ?? 0);
    this.composer = new Composer({ onSend, onStop: () => this.stop() });
    addEventListener("storage", (event) => this.store.note(event));
  }

  get last() {
    return this.thread.last;
  }

  /** Whether there is an answer that a stop would end. */
  get canStop() {
    return this.last !== null && this.last.isRunning && this.last.state !== null && !this.last.isFeed;
  }

  // -------------------------------------------------------------- what is open

  openNew() {
    this.thread.show([], null);
    this.conversation = begun(createKey(), Date.now());
    this.settings.set(this.conversation.settings);
  }

  openConversation(conversation) {
    if (this.conversation?.id !== conversation.id) this.thread.show([], null);
    this.conversation = conversation;
    this.settings.set(conversation.settings);
    this.thread.show(conversation.turns, this.actions);
  }

  /** One generation or feed, by its link. */
  openLink(id) {
    this.thread.show([], null);
    this.conversation = null;
    this.settings.set(NO_SETTINGS);
    this.thread.show([{ id }], null);
  }

  /** Another tab has written. */
  reload() {
    const { conversation } = this;
    const stored = conversation === null ? null : this.store.get(conversation.id);
    if (stored === null && conversation?.turns.length > 0) this.onDeleted();
    else if (stored !== null && stored !== conversation) this.follow(stored);
    this.onChange();
  }

  /** Show what another tab has made of the open conversation. */
  follow(conversation) {
    const { id } = conversation.turns.at(-1);
    const isNew = id !== this.last?.id;
    this.openConversation(conversation);
    if (isNew) this.onStarted(id);
  }

  /** The conversations of the tenant whose key was entered: what an earlier tenant's key had opened is closed. */
  belongTo(tenant) {
    const { isOther } = this.store.belongTo(tenant);
    if (!isOther) return;
    this.pending = null;
    if (this.conversation === null) this.openLink(this.last.id);
    else this.onDeleted();
  }

  // ------------------------------------------------------------ requests

  /** Start the answer to `text` as the turn at `index`, in place of what follows. Resolves to whether it was started. */
  async startTurn(text, index) {
    const fault = this.settings.check();
    if (fault !== null) {
      this.report(fault);
      return false;
    }
    const { conversation: opened, last: link } = this;
    const current = opened ?? begun(createKey(), Date.now(), this.settings.value);
    const kept = cutAt(current, index);
    const replaced = opened === null ? [] : this.thread.turns.slice(index);
    const isStored = this.store.get(current.id) !== null;
    const turns = new Map(this.thread.turns.map((turn) => [turn.id, turn]));
    if (kept.turns.some(({ id }) => !turns.get(id)?.isSettled)) {
      this.report(LOADING);
      return false;
    }
    const body = requestOf(kept, text, ({ id }) => turns.get(id).folded.text);
    const state = await this.start(body);
    if (state === null) return false;
    if (isStored && this.store.get(current.id) === null) return this.discard(state.id);
    for (const turn of replaced) if (turn.isRunning && !turn.isFeed) this.stop(turn);
    const isLinkOpen = opened === null && this.conversation === null && this.last === link;
    // The user may have renamed it, and changed its settings, while the request was under way.
    const now = this.conversation?.id === current.id ? this.conversation : (this.store.get(current.id) ?? current);
    const settings = isLinkOpen ? this.settings.value : now.settings;
    const renewed = { ...kept, settings, title: now.title, isNamed: now.isNamed };
    const next = this.store.save(withTurn(renewed, { user: text, id: state.id }, Date.now()));
    if (isLinkOpen || this.conversation?.id === next.id) {
      this.openConversation(next);
      this.thread.turns.find(({ id }) => id === state.id).state = state;
      this.onStarted(this.last.id);
    }
    this.onChange();
    return true;
  }

  /** Delete a generation whose conversation was deleted while it was being started. */
  async discard(id) {
    await this.deleteGenerations([id]).catch((problem) => this.report(problem));
    this.onChange();
    return true;
  }

  /** The new generation's state, or null after a failure that was reported. */
  async start(body) {
    const request = JSON.stringify(body);
    if (this.pending?.request !== request) this.pending = { request, key: createKey() };
    try {
      const state = await startGeneration(body, this.pending.key);
      this.pending = null;
      this.report(null);
      remember(state);
      return state;
    } catch (problem) {
      this.report(problem);
      return null;
    }
  }

  async stop(turn = this.last) {
    turn.isStopping = true;
    this.thread.redraw(turn);
    this.onChange();
    try {
      await stopGeneration(turn.id);
    } catch (problem) {
      turn.isStopping = false;
      this.report(problem);
    }
    this.thread.redraw(turn);
    this.onChange();
  }

  // -------------------------------------------------------------- keeping

  /** Keep copies of the answers that have been read to their end. */
  keepAnswers() {
    if (this.conversation === null) return;
    let next = this.conversation;
    for (const turn of this.thread.turns) {
      if (turn.isKept || !turn.isRead) continue;
      turn.isKept = true;
      const { text: answer, status, finishReason } = turn.stream.folded;
      if (answer !== "") next = withAnswer(next, turn.id, { answer, status, finishReason });
    }
    if (next !== this.conversation) this.keep(next);
  }

  setSettings(settings) {
    if (this.conversation === null) return;
    this.keep({ ...this.conversation, settings });
  }

  rename(conversation, title) {
    this.save(renamed(this.store.get(conversation.id) ?? conversation, title));
    this.onChange();
  }

  /** One without turns is not stored. */
  keep(conversation) {
    if (conversation.turns.length > 0) this.save(conversation);
    else this.conversation = conversation;
  }

  /** With what other tabs have added meanwhile. */
  save(conversation) {
    const saved = this.store.save(conversation);
    if (this.conversation?.id !== saved.id) return;
    if (saved === conversation) this.conversation = saved;
    else this.follow(saved);
  }

  /** Delete a conversation, here and on the server. It comes back where the server refuses. */
  async delete(conversation) {
    const deleted = this.store.get(conversation.id) ?? conversation;
    this.store.beginDeletion(deleted);
    this.onChange();
    await this.endDeletion(deleted);
  }

  /** Go on with the deletions that an earlier page has begun. */
  async resumeDeletions() {
    if (!isGuest()) await Promise.all(this.store.leaving.map((conversation) => this.endDeletion(conversation)));
  }

  async endDeletion(deleted) {
    try {
      await this.deleteGenerations([...deleted.turns.map(({ id }) => id), ...deleted.dropped]);
      this.store.delete(deleted.id);
    } catch (problem) {
      if (isSuperseded(problem)) return; // the storage may be another tenant's by now
      this.store.save(deleted);
      this.report(problem);
    }
    this.onChange();
  }

  async deleteGenerations(ids) {
    for (const id of ids) {
      await deleteGeneration(id).catch((problem) => {
        if (problem.status !== 404) throw problem;
      });
      forget(id);
    }
  }
}
