// The panel about the session: everything in it comes from the server, which reads it from MongoDB.

import { el, fill, userText } from "../shared/dom.js";
import { copyText } from "../shared/feedback.js";
import { UNKNOWN, compact, duration, number } from "../shared/format.js";
import { icon } from "../shared/icons.js";
import { jsonTree } from "../shared/json_tree.js";
import { timeElement } from "../shared/time.js";
import { costOf, groupMessages } from "./turns.js";

export class DetailsPanel {
  /** @param {HTMLElement} root @param {{onDelete: () => void, onClose: () => void}} actions */
  constructor(root, actions) {
    this.root = root;
    this.actions = actions;
  }

  showEmpty() {
    fill(
      this.root,
      this.#head(),
      el("p.muted.details-empty", {
        text: "Tokens, latency, metadata and state of the session show here, as MongoDB holds them, once you have said something.",
      }),
    );
  }

  /** @param {object} conversation as the server gives it */
  show(conversation) {
    const { metrics, metadata, state } = conversation;
    fill(
      this.root,
      this.#head(),
      el(
        "div.details-id",
        {},
        userText(conversation.session_id, "code.truncate.user-text"),
        el(
          "button.btn.btn-ghost.btn-sm.btn-icon",
          {
            type: "button",
            "aria-label": "Copy session id",
            data: { tip: "Copy session id" },
            on: { click: () => copyText(conversation.session_id, "Session id") },
          },
          icon("copy"),
        ),
      ),
      conversation.viewer_url
        ? el(
            "a.btn.btn-block",
            { href: conversation.viewer_url, target: "_blank", rel: "noopener noreferrer", id: "viewer-link" },
            icon("eye"),
            "Open in the session viewer",
          )
        : null,
      section("Tokens of the session", [
        el(
          "div.stats",
          {},
          stat("Input", metrics.tokens.input, "stat-input"),
          stat("Output", metrics.tokens.output, "stat-output"),
          stat("Total", metrics.tokens.total, "stat-total"),
        ),
        cacheLine(metrics.tokens),
      ]),
      section("Last reply", [lastReply(conversation.messages)]),
      section("Model", [
        keyvalues([
          ["Model", userText(conversation.model ?? "–")],
          ["Calls", el("span.num", { id: "model-calls", text: number(metrics.model_calls) })],
          ["Time in all", el("span.num", { text: duration(metrics.latency_ms) })],
        ]),
      ]),
      section("Tools", [tools(metrics.tool_calls)]),
      section("Metadata", [tree(metadata, "None yet. Ask the agent to remember something.")], "metadata"),
      section("Agent state", [tree(state, "None yet. Try “Set language to Portuguese.”")], "state"),
      section("Stored", [
        keyvalues([
          ["Messages", el("span.num", { id: "message-count", text: number(conversation.messages_count) })],
          ["Feedback", el("span.num", { id: "feedback-count", text: number(conversation.feedbacks.length) })],
          ["Created", timeElement(conversation.created_at)],
          ["Updated", timeElement(conversation.updated_at)],
        ]),
      ]),
      el(
        "button.btn.btn-danger.btn-block",
        { type: "button", id: "delete", on: { click: () => this.actions.onDelete() } },
        icon("trash"),
        "Delete conversation",
      ),
    );
  }

  #head() {
    return el(
      "div.drawer-head",
      {},
      el("h2", { text: "Session" }),
      el("span.spacer"),
      el(
        "button.btn.btn-ghost.btn-sm.btn-icon.drawer-close",
        { type: "button", "aria-label": "Close the session panel", on: { click: () => this.actions.onClose() } },
        icon("close"),
      ),
    );
  }
}

function section(title, children, id = null) {
  return el("section.details-section", { id: id && `details-${id}` }, el("h3", { text: title }), children);
}

function stat(label, value, id) {
  return el(
    "div.stat",
    {},
    el("span.stat-label", { text: label }),
    el("span.stat-value", { id, title: number(value), data: { value: value ?? "" }, text: compact(value) }),
  );
}

function cacheLine({ cache_read: read, cache_write: write }) {
  if (!read && !write) return null;
  return el("p.faint.num", { text: `Cache: ${compact(read)} read, ${compact(write)} written` });
}

function lastReply(messages) {
  const reply = groupMessages(messages).findLast((group) => group.kind === "reply");
  if (!reply) return el("p.faint", { text: "None yet." });
  const cost = costOf(reply.messages);
  return keyvalues([
    ["Latency", el("span.num", { id: "last-latency", text: duration(cost.latencyMs) })],
    ["First byte", el("span.num", { text: duration(cost.firstByteMs) })],
    ["Tokens", el("span.num", { id: "last-tokens", text: tokens(cost) })],
  ]);
}

function tokens({ input, output, total }) {
  return total === null ? UNKNOWN : `${number(input)} in · ${number(output)} out`;
}

function tools(calls) {
  const entries = Object.entries(calls);
  if (!entries.length) return el("p.faint", { text: "None was called." });
  return el(
    "ul.tool-counts",
    {},
    entries.map(([name, { call_count: count, error_count: errors }]) =>
      el(
        "li.row",
        {},
        userText(name, "code.truncate.user-text"),
        el("span.spacer"),
        errors ? el("span.badge.badge-danger", { text: `${number(errors)} failed` }) : null,
        el("span.badge.num", { text: `${number(count)} ×` }),
      ),
    ),
  );
}

function tree(value, nothing) {
  return Object.keys(value).length ? jsonTree(value, { open: 2 }) : el("p.faint", { text: nothing });
}

function keyvalues(pairs) {
  return el("dl.keyvalues", {}, pairs.map(([term, value]) => [el("dt", { text: term }), el("dd", {}, value)]));
}
