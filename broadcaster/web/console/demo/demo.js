/**
 * "Watch it survive": buttons that break a part of the demo while an answer runs, and what the page sees of it. Only the
 * page of `broadcaster demo` loads this module.
 */

import { isGeneration, observers } from "../stream.js";
import { Story } from "./story.js";

const FAULTS = [
  { name: "kill-worker", label: "Kill the worker" },
  { name: "restart-front-end", label: "Restart the front-end" },
  { name: "cut-redis", label: "Cut Redis off" },
];
// After so long the buttons are free although the fault is not over.
const PATIENCE_MS = 30_000;

function node(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

class Survival {
  constructor() {
    this.stream = null;
    this.story = null;
    this.storyOf = null; // the stream that the story is about
    this.timer = null;
    this.isPatient = false;
    this.buttons = FAULTS.map(({ name, label }) => {
      const button = node("button", { type: "button", class: "quiet", "data-testid": `demo-${name}` }, label);
      button.addEventListener("click", () => this.cause(name));
      return button;
    });
    this.hint = node("p", { class: "demo-hint" }, "Start an answer, then break something while it runs.");
    this.lines = node("ol", { class: "demo-story", "data-testid": "demo-story", "aria-live": "polite" });
    const title = node("h2", { id: "demo-title" }, "Watch it survive");
    const row = node("div", { class: "demo-row" }, title, ...this.buttons);
    this.root = node("section", { class: "demo", "aria-labelledby": "demo-title", "data-testid": "demo" }, row, this.hint, this.lines);
    this.draw();
  }

  get isRunning() {
    return this.stream !== null && ["queued", "running"].includes(this.stream.folded.status) && this.stream.isOpen;
  }

  /** Every update of every stream on the page. */
  note(stream, update) {
    if (stream !== this.stream && !this.isRunning) this.stream = stream;
    if (stream !== this.stream) return;
    // One that was opened anew reads its events once more: that is no fault's doing.
    if (this.story !== null && this.storyOf === stream) this.story.note(update, performance.now());
    this.draw();
  }

  async cause(name) {
    const { stream } = this;
    const given = { now: performance.now(), last: stream.seq };
    this.story = null;
    this.busy = true;
    this.draw();
    try {
      const response = await fetch(`/v1/demo/${name}?generation=${encodeURIComponent(stream.id)}`, { method: "POST" });
      const facts = await response.json();
      if (facts.caused) this.follow(new Story(name, facts, given), stream);
      else this.report(facts.reason ?? facts.detail);
    } catch (error) {
      this.report(`The demo's server did not respond: ${error.message}`);
    }
    this.busy = false;
    this.draw();
  }

  follow(story, stream) {
    this.story = story;
    this.storyOf = stream;
    this.isPatient = true;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.isPatient = false;
      this.draw();
    }, PATIENCE_MS);
  }

  report(sentence) {
    this.lines.replaceChildren(node("li", {}, sentence));
  }

  draw() {
    const isFree = this.isRunning && !this.busy && (this.story === null || this.story.isSurvived || !this.isPatient);
    for (const [index, { name }] of FAULTS.entries()) {
      const isOfWorker = name === "kill-worker";
      this.buttons[index].disabled = !isFree || (isOfWorker && !isGeneration(this.stream.id));
    }
    this.hint.hidden = this.isRunning || this.lines.childElementCount > 0;
    if (this.story === null) return;
    for (const line of this.story.lines.slice(this.drawn === this.story ? this.lines.childElementCount : 0)) {
      if (this.drawn !== this.story) this.lines.replaceChildren();
      this.drawn = this.story;
      this.lines.append(node("li", {}, line));
    }
  }
}

const survival = new Survival();
document.getElementById("composer").prepend(survival.root);
observers.add((stream, update) => survival.note(stream, update));
