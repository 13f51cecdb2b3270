// The line above a conversation: its title, and what can be done with all of it.

import { el, fill } from "../shared/dom.js";
import { icon } from "../shared/icons.js";
import { menuButton } from "../shared/menu.js";
import { exportAddress } from "./api_client.js";
import { isTuned } from "./tuning_dialog.js";

export class ChatHead {
  /**
   * @param {HTMLElement} root
   * @param {{onTune: () => void, onRename: () => void, onBranch: () => void, onDelete: () => void}} actions
   */
  constructor(root, actions) {
    this.actions = actions;
    this.sessionId = null;
    this.heading = el("h1.chat-title.truncate.user-text", { id: "chat-title", dir: "auto", text: "New conversation" });
    this.mark = el("span.badge.badge-accent", { id: "tuned", hidden: true, text: "tuned" });
    this.tune = el(
      "button.btn.btn-ghost.btn-sm.btn-icon",
      {
        type: "button",
        "aria-label": "System prompt and temperature",
        data: { tip: "System prompt and temperature" },
        on: { click: () => actions.onTune() },
      },
      icon("sliders"),
    );
    this.menu = menuButton({ label: "Conversation menu", items: () => this.#items() });
    fill(root, this.heading, this.mark, el("span.spacer"), this.tune, this.menu);
  }

  get title() {
    return this.heading.textContent;
  }

  /** @param {string} title @param {string|null} storedId the conversation, null as long as it is not stored */
  show(title, storedId) {
    const line = title.replace(/\s+/g, " ").trim().slice(0, 120);
    this.heading.textContent = line;
    document.title = `${line} · Playground`;
    this.sessionId = storedId;
    this.menu.disabled = storedId === null;
  }

  showTuning(tuning) {
    this.mark.hidden = !isTuned(tuning);
    const parts = [
      tuning.system_prompt === null ? null : "own system prompt",
      tuning.temperature === null ? null : `temperature ${tuning.temperature}`,
    ];
    this.mark.textContent = parts.filter(Boolean).join(", ");
  }

  #items() {
    const { onRename, onBranch, onDelete } = this.actions;
    return [
      { label: "Rename…", art: "edit", act: onRename },
      { label: "Branch from here", art: "branch", act: onBranch },
      { label: "Export as Markdown", art: "download", href: exportAddress(this.sessionId, "markdown") },
      { label: "Export as JSON", art: "download", href: exportAddress(this.sessionId, "json") },
      { label: "Delete…", art: "trash", act: onDelete, danger: true },
    ];
  }
}
