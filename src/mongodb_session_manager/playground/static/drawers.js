// The panels at the sides: beside the chat where there is room, else drawers that slide over it.

import { icon } from "../shared/icons.js";

export class Drawers {
  /**
   * @param {{list: HTMLElement, details: HTMLElement, scrim: HTMLElement, chat: HTMLElement,
   *   openList: HTMLElement, openDetails: HTMLElement}} parts
   */
  constructor({ list, details, scrim, chat, openList, openDetails }) {
    this.scrim = scrim;
    this.chat = chat;
    this.open = null;
    this.drawers = [
      { node: list, button: openList, narrow: matchMedia("(max-width: 52rem)") },
      { node: details, button: openDetails, narrow: matchMedia("(max-width: 75rem)") },
    ];
    prepare(openList, "list", "Conversations");
    prepare(openDetails, "info", "Session");
    for (const drawer of this.drawers) {
      drawer.button.setAttribute("aria-controls", drawer.node.id);
      drawer.button.addEventListener("click", () => this.#show(this.open === drawer ? null : drawer));
      drawer.narrow.addEventListener("change", () => this.#show(null));
    }
    scrim.addEventListener("click", () => this.close());
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.open && !document.querySelector("dialog[open]")) this.close();
    });
    this.#show(null);
  }

  /** Slide the open drawer away; the focus goes back to what opened it. */
  close() {
    const { open } = this;
    this.#show(null);
    open?.button.focus();
  }

  #show(open) {
    this.open = open?.narrow.matches ? open : null;
    for (const drawer of this.drawers) {
      const shown = drawer === this.open;
      drawer.node.classList.toggle("is-open", shown);
      drawer.node.inert = drawer.narrow.matches && !shown;
      drawer.button.setAttribute("aria-expanded", String(shown));
    }
    this.scrim.hidden = this.open === null;
    this.chat.inert = this.open !== null;
    this.open?.node.querySelector(".drawer-close").focus();
  }
}

function prepare(button, art, label) {
  button.replaceChildren(icon(art));
  button.setAttribute("aria-label", label);
  button.dataset.tip = label;
}
