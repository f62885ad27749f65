/** A block of code: its language, a button that copies it, and colours that do not touch its text (highlight.js). */

import { copyText } from "../../clipboard.js";
import { element, setText } from "../../dom.js";
import { growText } from "../nodes.js";
import { Colours, languageName } from "./highlight.js";

const COPIED_MS = 2000;

/** A button that copies what `text` returns. */
export function copyButton(label, text) {
  const button = element("button", { type: "button", class: "code-copy", text: "Copy", "aria-label": label });
  button.addEventListener("click", async () => {
    setText(button, (await copyText(text())) ? "Copied" : "Not copied");
    setTimeout(() => setText(button, "Copy"), COPIED_MS);
  });
  return button;
}

export class CodeBlock {
  constructor() {
    this.label = element("span", { class: "code-language" });
    this.text = document.createTextNode("");
    this.code = element("code", {}, this.text);
    const head = element("div", { class: "code-head" }, this.label, copyButton("Copy code", () => this.text.data));
    this.pre = element("pre", { tabindex: "0", role: "group", "aria-label": "Code" }, this.code);
    this.node = element("div", { class: "code", "data-testid": "code" }, head, this.pre);
    this.colours = new Colours(this.text);
  }

  update({ lang, text, isOpen = false }) {
    const [language = ""] = /[^\s,{]+/.exec(lang ?? "") ?? [];
    setText(this.label, languageName(language));
    this.pre.setAttribute("aria-label", language === "" ? "Code" : `Code: ${languageName(language)}`);
    growText(this.text, text.replace(/\n$/, ""));
    this.colours.update(language, { isOpen });
  }
}
