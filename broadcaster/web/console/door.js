/** The door: what asks for a key where the server wants one, and tries it before it is kept. */

import { Problem, tryKey } from "./api.js";
import { isKey, keepKey, onRefused } from "./key.js";
import { show } from "./view.js";

const byId = (id) => document.getElementById(id);

export class Door {
  /** `onEnter` is called when a key was given that the server takes. */
  constructor(onEnter) {
    this.onEnter = onEnter;
    this.root = byId("door");
    this.isTrying = false;
    byId("door-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    onRefused(() => this.ask());
  }

  get isOpen() {
    return this.root.open;
  }

  /** Whether a call failed for want of a key: that is told here and nowhere else. */
  asksFor(problem) {
    return problem.status === 401;
  }

  ask() {
    if (!this.isOpen) this.root.showModal();
  }

  async submit() {
    const key = byId("key").value.trim();
    if (this.isTrying) return;
    if (!isKey(key)) {
      this.tell("A key is made of plain letters, digits and signs, without spaces.");
      return;
    }
    this.isTrying = true;
    try {
      await tryKey(key);
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      this.tell(problem.status === 401 ? "This is no key of this server." : problem.message);
      byId("key").select();
      return;
    } finally {
      this.isTrying = false;
    }
    keepKey(key);
    byId("key").value = "";
    this.tell("");
    this.root.close();
    this.onEnter();
  }

  tell(sentence) {
    byId("door-fault").textContent = sentence;
    show(byId("door-fault"), sentence !== "");
  }
}
