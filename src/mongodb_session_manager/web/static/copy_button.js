// A small button that copies something and says so by its looks.

import { el } from "./dom.js";
import { copyText } from "./feedback.js";
import { icon } from "./icons.js";

const SHOWN_MS = 1500;

/**
 * @param {() => string} text what to copy, asked when the button is pressed
 * @param {string} label such as "Copy code"
 * @param {string} [look] further classes
 */
export function copyButton(text, label, look = "btn-ghost") {
  const button = el(
    "button.btn.btn-sm.btn-icon",
    { class: look, type: "button", "aria-label": label, data: { tip: label } },
    icon("copy"),
  );
  button.addEventListener("click", async () => {
    await copyText(text(), label.replace(/^Copy /, "").replace(/^./, (letter) => letter.toUpperCase()));
    button.replaceChildren(icon("check"));
    setTimeout(() => button.replaceChildren(icon("copy")), SHOWN_MS);
  });
  return button;
}
