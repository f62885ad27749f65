/** Where the user writes: Enter sends, Shift+Enter begins a new line, Escape stops the answer. */

import { byId, setText, show } from "../dom.js";
import { isComposing } from "./composition.js";

export class Composer {
  /** `onSend(text)` resolves to whether the text was taken; `onStop()` is called for the button and for Escape. */
  constructor({ onSend, onStop }) {
    this.field = byId("prompt");
    this.sendButton = byId("start");
    this.stopButton = byId("stop");
    this.onSend = onSend;
    this.isSending = false;
    this.isRunning = false;
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.send(this.field.value);
    });
    this.field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || isComposing(event)) return;
      event.preventDefault();
      this.send(this.field.value);
    });
    this.field.addEventListener("input", () => this.update());
    this.stopButton.addEventListener("click", ({ detail }) => {
      // The button disappears: for keyboard users (no click count) the focus moves to the prompt.
      if (detail === 0) this.focus();
      onStop();
    });
  }

  focus() {
    this.field.focus();
  }

  async send(text) {
    const given = text.trim();
    if (given === "" || this.isSending || this.isRunning) return;
    this.isSending = true;
    this.update();
    const isTaken = await this.onSend(given);
    this.isSending = false;
    // What was written meanwhile stays.
    if (isTaken && this.field.value.trim() === given) this.field.value = "";
    this.update();
  }

  /** An answer runs: there is a stop in place of the sending. */
  draw({ isRunning, isStopping, placeholder }) {
    this.isRunning = isRunning;
    show(this.stopButton, isRunning);
    show(this.sendButton, !isRunning);
    this.stopButton.disabled = isStopping;
    setText(byId("stop-label"), isStopping ? "Stopping…" : "Stop");
    if (this.field.placeholder !== placeholder) this.field.placeholder = placeholder;
    this.update();
  }

  update() {
    this.sendButton.disabled = this.isSending || this.field.value.trim() === "";
  }

  report(problem) {
    const fault = byId("fault");
    show(fault, problem !== null);
    if (problem === null) return;
    const code = document.createElement("code");
    code.textContent = problem.code;
    fault.replaceChildren(`${problem.message} `, code);
  }
}
