// The one line above the message box that stays until it is settled.

import { el, fill } from "../shared/dom.js";
import { notice } from "../shared/feedback.js";

export class Notices {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = root;
  }

  clear() {
    fill(this.root);
  }

  /** @param {"info"|"warn"|"danger"} kind @param {string} text @param {[string, () => void]|null} [action] label, what it does */
  show(kind, text, action = null) {
    const button = action && el("button.btn.btn-sm", { type: "button", text: action[0], on: { click: action[1] } });
    fill(this.root, notice(kind, text, button));
  }
}
