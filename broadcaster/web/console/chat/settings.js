/** The model menu and the settings of one conversation. */

import { listModels } from "../api.js";
import { BroadcasterError } from "../client/errors.js";
import { byId, element, show } from "../dom.js";
import { NO_SETTINGS } from "./conversations.js";

const OTHER = "\u0000other";
const isPattern = (name) => name.includes("*");

export class Settings {
  /** `onChange` is called with the new settings. */
  constructor(onChange) {
    this.onChange = onChange;
    this.names = null;
    this.menu = byId("model-choice");
    this.other = byId("model-name");
    this.system = byId("system");
    this.temperature = byId("temperature");
    this.maxTokens = byId("max-tokens");
    this.panel = byId("settings");
    this.button = byId("settings-open");
    this.button.addEventListener("click", () => this.open(this.panel.hidden));
    byId("settings-close").addEventListener("click", () => this.open(false));
    this.menu.addEventListener("change", () => {
      if (this.menu.value === OTHER) this.open(true);
      this.drawOther();
      if (this.menu.value === OTHER) this.other.focus();
      this.change();
    });
    for (const field of [this.other, this.system, this.temperature, this.maxTokens]) {
      field.addEventListener("input", () => this.change());
    }
    this.value = NO_SETTINGS;
    this.drawMenu();
  }

  get isOpen() {
    return !this.panel.hidden;
  }

  open(isOpen) {
    if (this.isOpen === isOpen) return;
    const hadFocus = this.panel.contains(document.activeElement);
    show(this.panel, isOpen);
    this.button.setAttribute("aria-expanded", String(isOpen));
    if (isOpen) this.system.focus();
    else if (hadFocus) this.button.focus();
  }

  /** Fill the menu; fails with a BroadcasterError. */
  async load() {
    this.names = await listModels();
    // Until a name is written, only the menu knows that "Other…" was chosen while the list was on its way.
    this.drawMenu(this.menu.value === OTHER ? OTHER : "");
  }

  /** Show the settings of another conversation. Where they are shown already, a field that is half written stays. */
  set(settings) {
    if (settings === this.value) return;
    this.value = settings;
    this.system.value = settings.system ?? "";
    this.temperature.value = settings.temperature ?? "";
    this.maxTokens.value = settings.maxTokens ?? "";
    this.drawMenu();
    this.mark();
  }

  /** `unnamed` is what the menu shows when the settings name no model. */
  drawMenu(unnamed = "") {
    const { model } = this.value;
    // A route such as gpt-* is a pattern, and no model: its names are written under "Other…".
    const names = (this.names ?? []).filter((name) => !isPattern(name));
    const isListed = model === null || names.includes(model);
    const option = (value, text) => element("option", { value, text });
    const [preset = "*"] = this.names ?? [];
    const first = isPattern(preset) ? "Default model" : `Default (${preset})`;
    this.menu.replaceChildren(option("", first), ...names.map((name) => option(name, name)), option(OTHER, "Other…"));
    this.menu.value = model === null ? unnamed : isListed ? model : OTHER;
    this.other.value = isListed ? "" : model;
    this.other.placeholder = (this.names ?? []).filter(isPattern).join(", ");
    this.drawOther();
  }

  drawOther() {
    show(byId("model-other"), this.menu.value === OTHER);
  }

  /** What is wrong with a number, whose field is shown then; null: nothing. */
  check() {
    const field = [this.temperature, this.maxTokens].find(({ validity }) => !validity.valid);
    if (field === undefined) return null;
    this.open(true);
    field.focus();
    const name = field.labels[0].textContent.trim();
    const kind = field.step === "any" ? "number" : "whole number";
    const [least, most] = [field.min, field.max].map((bound) => Number(bound).toLocaleString("en"));
    return new BroadcasterError("invalid_settings", `${name} must be a ${kind} from ${least} to ${most}.`);
  }

  change() {
    const number = (field) => (Number.isFinite(field.valueAsNumber) && field.validity.valid ? field.valueAsNumber : null);
    const text = (value) => (value.trim() === "" ? null : value);
    this.value = {
      model: text(this.menu.value === OTHER ? this.other.value.trim() : this.menu.value),
      system: text(this.system.value),
      temperature: number(this.temperature),
      maxTokens: number(this.maxTokens),
    };
    this.mark();
    this.onChange(this.value);
  }

  /** Show on the button that something differs from the server's defaults. */
  mark() {
    const { system, temperature, maxTokens } = this.value;
    const isChanged = system !== null || temperature !== null || maxTokens !== null;
    this.button.classList.toggle("is-changed", isChanged);
    this.button.setAttribute("aria-label", isChanged ? "Settings (changed)" : "Settings");
  }
}
