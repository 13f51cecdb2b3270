// What can be done with a message: small buttons below it.

import { el } from "../shared/dom.js";
import { icon } from "../shared/icons.js";

/**
 * @param {string} label names the group
 * @param {Array<Node|{label: string, art: string, act: () => void}|null>} actions ready-made buttons, or what makes one
 */
export function messageActions(label, actions) {
  return el("div.message-actions", { role: "group", "aria-label": label }, actions.map(button));
}

function button(action) {
  if (action === null || action instanceof Node) return action;
  const { label, art, act } = action;
  return el(
    "button.btn.btn-ghost.btn-sm.btn-icon",
    { type: "button", "aria-label": label, data: { tip: label }, on: { click: act } },
    icon(art),
  );
}
