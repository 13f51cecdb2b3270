// Tabs as the ARIA pattern has them: one stop for the Tab key, arrows between them.

import { el, uniqueId } from "../shared/dom.js";

export class Tabs {
  /** @param {[string, string][]} tabs name and label @param {(name: string) => void} onSelect */
  constructor(tabs, onSelect) {
    this.onSelect = onSelect;
    this.buttons = new Map();
    this.panels = new Map();
    for (const [name, label] of tabs) {
      const [tabId, panelId] = [uniqueId("tab"), uniqueId("panel")];
      const count = el("span.badge.num", { hidden: true });
      const button = el(
        "button.tab",
        { type: "button", role: "tab", id: tabId, "aria-controls": panelId, data: { tab: name }, on: { click: () => this.#choose(name) } },
        el("span", { text: label }),
        count,
      );
      this.buttons.set(name, button);
      this.panels.set(name, el("div.tabpanel", { role: "tabpanel", id: panelId, "aria-labelledby": tabId, hidden: true, data: { panel: name } }));
    }
    this.list = el("div.tabs", { role: "tablist", "aria-label": "Parts of the session" }, [...this.buttons.values()]);
    this.list.addEventListener("keydown", (event) => this.#keys(event));
  }

  /** Show a tab without telling anybody. */
  select(name) {
    for (const [other, button] of this.buttons) {
      button.setAttribute("aria-selected", String(other === name));
      button.tabIndex = other === name ? 0 : -1;
      this.panels.get(other).hidden = other !== name;
    }
    this.selected = name;
  }

  setCount(name, text) {
    const badge = this.buttons.get(name).querySelector(".badge");
    badge.hidden = !text;
    badge.textContent = text;
  }

  #choose(name) {
    if (name === this.selected) return;
    this.select(name);
    this.onSelect(name);
  }

  #keys(event) {
    const names = [...this.buttons.keys()];
    const at = names.indexOf(this.selected);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: names.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const name = names[(to + names.length) % names.length];
    this.buttons.get(name).focus();
    this.#choose(name);
  }
}
