/**
 * One turn on the page: the user's text, and the answer of its generation, followed through its stream. A feed, and a
 * generation that was opened by its link, is a turn without a conversation.
 *
 * Rules
 * 1. The copy of an answer that the browser kept is shown until its stream has been read to the end, and instead of a
 *    stream that has expired.
 * 2. Nothing is shown of an answer that is only partly read again while a copy of the whole is there.
 */

import { getGeneration, getGenerationState, getStream } from "../api.js";
import { copyText } from "../clipboard.js";
import { element, iconButton, setText, show } from "../dom.js";
import { AnswerView } from "../render/answer.js";
import { MAX_LABEL_CHARS, MAX_LINE_CHARS, cut } from "../render/lengths.js";
import { Stream, isGeneration } from "../stream.js";
import { endingSentence, isOver, noticeSentence, progressSentence, usageText } from "../texts.js";
import { AnswerTimeline } from "../timeline/answer.js";
import { MAX_COPY_CHARS, isCopyCut } from "./conversations.js";
import { Prompt } from "./prompt.js";

const DONE_MS = 2000;
const MISSING_PARTS = new Set(["expired", "trimmed"]);
const LOST_LINK = "Nothing was found under this link. It may have expired, or the link is incomplete.";
const LOST_ANSWER = "This answer has expired, and this browser has no copy of it.";
const KEPT_COPY = "This answer has expired on the server. This is the copy that this browser kept.";
const CUT_COPY = `Only the first ${MAX_COPY_CHARS.toLocaleString("en")} characters were kept: the end of the answer is lost.`;

/** The folded state that a copy amounts to. */
const foldedCopy = ({ text, status, finishReason }) => ({
  status,
  attempt: 1,
  text,
  reasoning: "",
  parts: [{ type: "text", text, state: "done" }],
  usage: null,
  error: null,
  finishReason,
  abortReason: null,
  metadata: {},
});

export class Turn {
  /**
   * `turn` is one of a conversation, or {id} of a link. `onChange(turn)` is called when something new can be drawn,
   * `onState(turn, state)` when its connection changes. `actions` has `edit(turn, text)` and `regenerate(turn)`; null
   * outside a conversation.
   */
  constructor(turn, { onChange, onState, actions }) {
    this.id = turn.id;
    this.user = turn.user ?? "";
    this.copy = turn.answer ?? null;
    this.isCopyCut = isCopyCut(turn);
    this.copyEnd = { status: turn.status ?? "finished", finishReason: turn.finishReason ?? null };
    /** Whether the browser has a copy of the whole answer. */
    this.isKept = false;
    /** The API's newest document. */
    this.state = null;
    /** It has a stream, and no stop. */
    this.isFeed = !isGeneration(turn.id);
    this.isStopping = false;
    this.isInConversation = actions !== null;
    this.stream = new Stream(turn.id, { onChange: () => onChange(this), onState: (state) => onState(this, state) });
    this.prompt = new Prompt(this.user, actions === null ? null : (text) => actions.edit(this, text));
    this.build(actions);
  }

  build(actions) {
    this.notices = element("ul", { class: "notices", "data-testid": "notices" });
    const content = element("div", { class: "content" });
    this.answerView = new AnswerView(content);
    this.progress = element("p", { class: "progress", "data-testid": "progress" });
    this.ending = element("div", { class: "ending", "data-testid": "ending", hidden: "" });
    this.copyButton = iconButton("copy", "Copy the answer", { "data-testid": "copy-answer" }, () => this.copyAnswer());
    this.meta = element("span", { class: "turn-meta" });
    this.actions = element("div", { class: "turn-actions" }, this.copyButton);
    if (actions !== null) {
      const regenerate = { "data-testid": "regenerate" };
      this.retry = iconButton("repeat", "Answer again", regenerate, () => actions.regenerate(this));
      this.actions.append(this.retry);
    }
    this.actions.append(this.meta);
    this.timeline = new AnswerTimeline(this.stream);
    const answered = [this.notices, content, this.progress, this.ending, this.timeline.root, this.actions];
    this.root = element("article", { class: "turn", "data-testid": "turn" }, this.prompt.root, ...answered);
  }

  open() {
    this.stream.open();
  }

  /** Fetch the state from the API; `whole`: with the prompt. Fails with a BroadcasterError. */
  async refresh({ whole = false } = {}) {
    this.state = await this.fetchState(whole);
    if (!this.isFeed) this.timeline.setState(this.state);
    if (whole && !this.isFeed) this.setUser(this.state.prompt);
    return this.state;
  }

  setUser(text) {
    this.user = text;
    this.prompt.setText(text);
  }

  fetchState(whole) {
    if (this.isFeed) return getStream(this.id);
    return whole ? getGeneration(this.id) : getGenerationState(this.id);
  }

  /** Whether the stream has been read to its end, and nothing of it is missing. */
  get isRead() {
    return this.stream.isAtEnd && !this.stream.notices.some(({ kind }) => MISSING_PARTS.has(kind));
  }

  /** Whether nothing more will come of its text soon: it is over, or cannot be read. */
  get isSettled() {
    return (this.copy !== null && !this.isCopyCut) || this.stream.isAtEnd || ["gone", "closed"].includes(this.stream.state.name);
  }

  /** Rules 1 and 2. */
  get isCopyShown() {
    return this.copy !== null && !this.isRead;
  }

  /** What is shown: what the events amount to, or the copy. */
  get folded() {
    return this.isCopyShown ? foldedCopy({ text: this.copy, ...this.copyEnd }) : this.stream.folded;
  }

  /** The status, from the events first and else from the API. */
  get status() {
    const { status } = this.folded;
    const known = this.state?.status;
    return isOver(status) || (status !== "queued" && !isOver(known)) ? status : known;
  }

  get isRunning() {
    return this.status !== undefined && !isOver(this.status) && !["gone", "awaited", "locked"].includes(this.stream.state.name);
  }

  /** Whether it is over on the server, and its end has not arrived: the connection may stand still. */
  get isLoading() {
    return this.copy === null && !isOver(this.folded.status) && isOver(this.status) && this.stream.isOpen;
  }

  get stopRequested() {
    return this.isStopping || (this.state?.stop_requested ?? false);
  }

  draw({ isLast }) {
    const { folded, status, isCopyShown } = this;
    this.root.dataset.status = status ?? "";
    this.root.classList.toggle("is-last", isLast);
    const { revision, attemptReason, state } = this.stream;
    const isLive = state.name === "live";
    this.answerView.update(folded, { revision: isCopyShown ? "copy" : revision, attemptReason, isLive });
    this.drawNotices(isCopyShown ? [] : this.stream.notices);
    this.drawProgress(folded, status);
    this.drawEnding(folded);
    const isComplete = (isOver(status) && !this.isLoading) || this.stream.state.name === "gone";
    show(this.actions, isComplete);
    show(this.copyButton, folded.text !== "");
    if (this.retry) show(this.retry, isLast);
    const model = this.state?.model ?? folded.metadata.model;
    const facts = [model, usageText(folded.usage)].filter((text) => typeof text === "string");
    setText(this.meta, cut(facts.join(" · "), MAX_LABEL_CHARS));
  }

  drawNotices(notices) {
    const sentences = notices.map(noticeSentence);
    if (this.copy !== null && this.isExpired) sentences.push(KEPT_COPY, ...(this.isCopyCut ? [CUT_COPY] : []));
    const key = sentences.join("\n");
    if (key === this.noticesDrawn) return;
    this.noticesDrawn = key;
    this.notices.replaceChildren(...sentences.map((text) => element("li", { text })));
  }

  /** Whether the server has less of it than there was. */
  get isExpired() {
    return this.stream.state.name === "gone" || (this.stream.isAtEnd && !this.isRead);
  }

  drawProgress({ parts, attempt }, status) {
    const { name } = this.stream.state;
    let sentence = null;
    if (name === "awaited") sentence = "Nothing has been published under this link yet. It appears here as soon as it begins.";
    else if (name !== "gone" && status !== undefined) {
      const { stopRequested } = this;
      sentence = progressSentence({ status, parts, attempt: Math.max(attempt, this.state?.attempt ?? 1), stopRequested });
    }
    setText(this.progress, sentence ?? "");
    show(this.progress, sentence !== null);
  }

  drawEnding(folded) {
    let ending = isOver(folded.status) ? endingSentence(folded, { isFeed: this.isFeed }) : null;
    if (this.stream.state.name === "gone" && this.copy === null) {
      ending = { tone: "bad", text: this.isInConversation ? LOST_ANSWER : LOST_LINK, code: "unknown_stream" };
    }
    const key = JSON.stringify(ending);
    if (key === this.endingDrawn) return;
    this.endingDrawn = key;
    show(this.ending, ending !== null);
    if (ending === null) return;
    const { tone, text, code, detail } = ending;
    this.ending.dataset.tone = tone;
    this.ending.replaceChildren(element("span", { text: cut(text, MAX_LINE_CHARS) }));
    if (code) this.ending.append(element("code", { text: code }));
    if (!detail) return;
    const shown = element("p", { text: cut(detail, MAX_LINE_CHARS) });
    this.ending.append(element("details", {}, element("summary", { text: "Details" }), shown));
  }

  async copyAnswer() {
    const isCopied = await copyText(this.folded.text);
    const label = isCopied ? "Copied" : "The browser refused to copy";
    this.copyButton.setAttribute("aria-label", label);
    this.copyButton.title = label;
    this.copyButton.classList.toggle("is-done", isCopied);
    setTimeout(() => {
      this.copyButton.setAttribute("aria-label", "Copy the answer");
      this.copyButton.title = "Copy the answer";
      this.copyButton.classList.remove("is-done");
    }, DONE_MS);
  }
}
