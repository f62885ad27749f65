/**
 * The list of conversations, newest first. Each is a link, so that a middle click opens it in another tab; its menu
 * renames and deletes it.
 */

import { byId, element, icon, place, setText, show } from "../dom.js";
import { isOver } from "../texts.js";

export class ConversationList {
  /** `onRename(conversation, title)`; `onDelete(conversation)` resolves when it is deleted, and may fail. */
  constructor({ onRename, onDelete }) {
    this.root = byId("conversations");
    this.menu = byId("row-menu");
    this.rows = new Map();
    this.chosen = null;
    byId("row-rename").addEventListener("click", () => this.openDialog("rename"));
    byId("row-delete").addEventListener("click", () => this.openDialog("delete"));
    this.menu.addEventListener("keydown", (event) => this.move(event));
    byId("rename-form").addEventListener("submit", () => onRename(this.chosen, byId("rename-title").value));
    byId("rename-cancel").addEventListener("click", () => byId("rename-dialog").close());
    byId("delete-cancel").addEventListener("click", () => byId("delete-dialog").close());
    byId("delete-confirm").addEventListener("click", () => {
      byId("delete-dialog").close();
      onDelete(this.chosen);
    });
  }

  /** `statusOf` gives the status of a conversation's last turn, as far as the page knows. */
  draw(conversations, { selectedId, statusOf, isSearch }) {
    const rows = new Map();
    for (const conversation of conversations) {
      const row = this.rows.get(conversation.id) ?? new ConversationRow((row) => this.openMenu(row));
      row.update(conversation, { isSelected: conversation.id === selectedId, status: statusOf(conversation) });
      rows.set(conversation.id, row);
    }
    this.rows = rows;
    place(this.root, [...rows.values()].map(({ root }) => root));
    show(byId("side-empty"), rows.size === 0);
    setText(byId("side-empty"), isSearch ? "Nothing matches." : "No conversations yet.");
  }

  openMenu({ button, conversation }) {
    this.chosen = conversation;
    this.menu.showPopover();
    const { right, bottom } = button.getBoundingClientRect();
    this.menu.style.left = `${Math.max(8, right - this.menu.offsetWidth)}px`;
    this.menu.style.top = `${Math.min(bottom + 4, innerHeight - this.menu.offsetHeight - 8)}px`;
    byId("row-rename").focus();
  }

  move(event) {
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    event.preventDefault();
    const next = document.activeElement === byId("row-rename") ? "row-delete" : "row-rename";
    byId(next).focus();
  }

  openDialog(name) {
    this.menu.hidePopover();
    if (name === "rename") byId("rename-title").value = this.chosen.title;
    else setText(byId("delete-what"), this.chosen.title);
    byId(`${name}-dialog`).showModal();
    if (name === "rename") byId("rename-title").select();
  }
}

class ConversationRow {
  constructor(openMenu) {
    this.title = element("span", { class: "row-title" });
    this.dot = element("span", { class: "dot", "aria-hidden": "true" });
    this.hint = element("span", { class: "hidden" });
    this.link = element("a", { class: "row" }, this.dot, this.title, this.hint);
    this.button = element("button", { type: "button", class: "tiny row-more", "aria-haspopup": "menu" }, icon("more"));
    this.button.addEventListener("click", () => openMenu(this));
    this.root = element("li", { class: "conversation" }, this.link, this.button);
  }

  update(conversation, { isSelected, status }) {
    this.conversation = conversation;
    setText(this.title, conversation.title || "Untitled");
    this.link.setAttribute("href", `#${conversation.turns.at(-1).id}`);
    this.link.dataset.status = status ?? "";
    const isRunning = status !== undefined && !isOver(status);
    show(this.dot, isRunning || status === "failed");
    setText(this.hint, isRunning ? ", running" : "");
    this.button.setAttribute("aria-label", `Actions for ${conversation.title || "Untitled"}`);
    if (isSelected) this.link.setAttribute("aria-current", "page");
    else this.link.removeAttribute("aria-current");
  }
}
