// A reply that failed: the error in its own words, and what usually helps.

import { el, userText } from "../shared/dom.js";
import { copyButton } from "../shared/copy_button.js";
import { icon } from "../shared/icons.js";

const TITLES = {
  agent: "Your agent’s code failed",
  model: "The model answered with an error",
  database: "MongoDB did not take the message",
};

/**
 * @param {{code: string, message: string, kind?: string, hint?: string}} failure as the server gives it
 * @param {HTMLElement|null} action a way on
 */
export function failureView({ code, message, kind = "", hint = "" }, action = null) {
  return el(
    "section.failure",
    { role: "alert" },
    el(
      "div.failure-head",
      {},
      icon("alert"),
      el("strong", { text: TITLES[code] ?? "There is no reply" }),
      kind ? userText(kind, "span.badge.badge-danger.user-text") : null,
      el("span.spacer"),
      copyButton(() => [kind, message].filter(Boolean).join(": "), "Copy error"),
    ),
    el("pre.pre.failure-text", { dir: "auto", tabindex: 0, text: message }),
    hint ? el("p.failure-hint", {}, icon("info"), el("span", { text: hint })) : null,
    action ? el("div.failure-actions", {}, action) : null,
  );
}
