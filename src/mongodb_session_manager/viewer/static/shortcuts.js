// What the keyboard does anywhere in the page, and the list that says so.

import { el } from "../shared/dom.js";
import { openDialog } from "../shared/feedback.js";

const KEYS = [
  ["/", "Search in what was said"],
  ["j k", "Next and previous session, from anywhere"],
  ["↑ ↓", "Move through the list of sessions"],
  ["Enter", "Open the session"],
  ["x", "Choose the session, to export or compare"],
  ["f", "Find in the open session"],
  ["e", "Expand or collapse everything in it"],
  ["← →", "Move through the tabs"],
  ["Esc", "Close what is open: a menu, the find bar, the session"],
  ["?", "Show this list"],
];

/**
 * @param {Record<string, (event: KeyboardEvent) => void>} actions by key
 * @param {() => boolean} isActive
 */
export function shortcuts(actions, isActive) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || !isActive()) return;
    if (document.querySelector("dialog[open]")) return;
    const typing = event.target.closest?.("input:not([type='checkbox']), textarea, select");
    if (typing && event.key !== "Escape") return;
    if (typing && event.key === "Escape") {
      typing.blur();
      return;
    }
    const action = Object.hasOwn(actions, event.key) ? actions[event.key] : null;
    if (!action) return;
    event.preventDefault();
    action(event);
  });
}

export function showShortcuts() {
  openDialog(
    el(
      "dialog.dialog",
      { "aria-labelledby": "keys-title" },
      el("h2.dialog-title", { id: "keys-title", text: "Keyboard" }),
      el("dl.keys", {}, KEYS.map(([key, text]) => [el("dt", {}, el("kbd", { text: key })), el("dd", { text })])),
      el("form.dialog-actions", { method: "dialog" }, el("button.btn", { text: "Close", autofocus: true })),
    ),
  );
}
