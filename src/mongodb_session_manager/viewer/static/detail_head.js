// The head of a session's page: what it is, what it holds, and what one does with it.

import { el, fill, userText } from "../shared/dom.js";
import { copyText } from "../shared/feedback.js";
import { compact, plural } from "../shared/format.js";
import { icon } from "../shared/icons.js";
import { menuButton } from "../shared/menu.js";
import { timeElement } from "../shared/time.js";
import { sessionLink } from "./urls.js";

export const FORMATS = [
  ["json", "JSON"],
  ["jsonl", "JSON Lines"],
  ["markdown", "Markdown"],
];

/**
 * @param {object} head the session
 * @param {object} on `close`, `reload`, `find`: pressed; `exportUrl(format)`
 * @param {HTMLElement} liveButton
 * @param {boolean} compared
 */
export function detailTitle(head, on, liveButton, compared) {
  const id = head.session_id;
  const button = (name, label, press, spec = "button.btn.btn-ghost.btn-icon", props = {}) =>
    el(spec, { type: "button", "aria-label": label, data: { tip: label }, on: { click: press }, ...props }, icon(name));
  const exports = () => FORMATS.map(([format, label]) => ({ label, art: "file", href: on.exportUrl(format) }));
  return el(
    "div.detail-title",
    {},
    compared ? null : button("arrowLeft", "Back to the list", on.close, "button.btn.btn-ghost.btn-icon.back"),
    el("div.detail-name", {}, head.title === null ? null : userText(head.title, "p.detail-said.user-text"), userText(id, "h1.mono.user-text")),
    el(
      "div.detail-actions",
      {},
      liveButton,
      button("search", "Find in the session", on.find, "button.btn.btn-ghost.btn-icon", { "aria-keyshortcuts": "f" }),
      button("copy", "Copy the id", () => copyText(id, "Id")),
      button("link", "Copy the link", () => copyText(sessionLink(id), "Link")),
      menuButton({ label: "Export", art: "download", items: exports }),
      button("refresh", "Reload", on.reload),
      compared ? button("close", `Close ${id}`, on.close) : null,
    ),
  );
}

/** What a session holds, on one line. */
export function showSummary(root, head) {
  const { messages, feedbacks, guardrails } = head.counts;
  const fact = (name, text) => el("span.fact", {}, icon(name), text);
  fill(
    root,
    head.application_name === null ? null : userText(head.application_name, "span.badge.badge-accent.user-text"),
    fact("chat", plural(messages, "message")),
    fact("agent", plural(head.agents_summary.length, "agent")),
    head.usage.total_tokens === null ? null : fact("bolt", `${compact(head.usage.total_tokens)} tokens`),
    feedbacks ? fact("star", plural(feedbacks, "feedback", "feedbacks")) : null,
    guardrails ? fact("shield", plural(guardrails, "guardrail event")) : null,
    head.errors_count ? fact("alert", plural(head.errors_count, "failed turn")) : null,
    el("span.fact", {}, icon("clock"), "active ", timeElement(head.updated_at)),
  );
}

const LIVE = {
  connecting: ["dot-warn", "Connecting"],
  open: ["dot-live", "Live"],
  waiting: ["dot-warn", "Reconnecting"],
  refused: ["dot-danger", "Not live"],
  paused: ["", "Paused"],
};

/** Say on the button whether the page is live. */
export function showLive(button, state, isOn) {
  const [dot, text] = LIVE[state];
  button.setAttribute("aria-pressed", String(isOn));
  button.dataset.state = state;
  fill(button, el("span.dot", { class: dot }), text);
}

/** What is shown while a session loads. */
export function skeleton() {
  const bone = (width) => el("div.stack.bone", {}, el("span.skeleton.w-25"), el("span.skeleton", { class: width }), el("span.skeleton.w-60"));
  return el(
    "div.detail-bones.stack",
    {},
    el("p.visually-hidden", { role: "status", text: "Loading the session" }),
    el("span.skeleton.w-40"),
    el("span.skeleton.w-60"),
    ["w-75", "w-90", "w-60", "w-75"].map(bone),
  );
}
