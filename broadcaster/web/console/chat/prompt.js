/** The user's text of one turn: shown, unfolded, copied and edited. */

import { copyText } from "../clipboard.js";
import { element, iconButton, setText, show } from "../dom.js";
import { isComposing } from "./composition.js";

const LONG_CHARS = 1200;
const LONG_LINES = 12;

export class Prompt {
  /** `edit` is called with a new text, and resolves to whether it was taken; null: it cannot be edited. */
  constructor(text, edit) {
    this.edit = edit;
    this.text = element("p", { class: "prompt-shown", "data-testid": "prompt-shown" });
    this.unfold = element("button", { type: "button", class: "unfold", "aria-expanded": "false" });
    this.unfold.addEventListener("click", () => this.fold(this.unfold.getAttribute("aria-expanded") === "true"));
    this.bubble = element("div", { class: "bubble" }, this.text, this.unfold);
    this.copy = iconButton("copy", "Copy this message", {}, () => copyText(this.text.textContent));
    this.actions = element("div", { class: "turn-actions" }, this.copy);
    if (edit !== null) {
      const attributes = { "data-testid": "edit" };
      this.editButton = iconButton("edit", "Edit this message", attributes, () => this.openEditor());
      this.actions.prepend(this.editButton);
    }
    this.root = element("div", { class: "asked" }, this.bubble, this.actions);
    this.setText(text);
  }

  setText(text) {
    setText(this.text, text);
    show(this.root, text !== "");
    show(this.unfold, text.length > LONG_CHARS || text.split("\n").length > LONG_LINES);
    this.fold(!this.unfold.hidden);
  }

  fold(isFolded) {
    this.bubble.classList.toggle("is-folded", isFolded);
    this.unfold.setAttribute("aria-expanded", String(!isFolded));
    setText(this.unfold, isFolded ? "Show all" : "Show less");
  }

  openEditor() {
    const field = element("textarea", { "aria-label": "Edit this message", "data-testid": "edit-text", dir: "auto" });
    field.value = this.text.textContent;
    const cancel = element("button", { type: "button", class: "quiet", text: "Cancel" });
    const send = element("button", { type: "submit", class: "start", text: "Send", "data-testid": "edit-send" });
    const hint = element("span", { class: "hint", text: "What follows is replaced." });
    const form = element("form", { class: "editor" }, field, element("div", { class: "editor-row" }, hint, cancel, send));
    const close = () => {
      form.replaceWith(this.bubble);
      show(this.actions, true);
      this.editButton.focus();
    };
    cancel.addEventListener("click", close);
    field.addEventListener("keydown", (event) => {
      if (isComposing(event)) return;
      if (event.key === "Escape") {
        event.stopPropagation();
        close();
      } else if (event.key === "Enter" && !event.shiftKey) {
        event.preventDefault();
        form.requestSubmit();
      }
    });
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const text = field.value.trim();
      if (text === "" || send.disabled) return;
      send.disabled = true;
      // When it is taken, this turn is replaced by another one.
      if (!(await this.edit(text))) send.disabled = false;
    });
    this.bubble.replaceWith(form);
    show(this.actions, false);
    field.focus();
    field.setSelectionRange(field.value.length, field.value.length);
  }
}
