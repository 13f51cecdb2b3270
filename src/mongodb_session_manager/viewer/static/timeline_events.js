// What happens beside the messages: feedback, guardrail events, failed turns.

import { el, userText } from "../shared/dom.js";
import { oneLine } from "../shared/format.js";
import { icon } from "../shared/icons.js";
import { jsonTree } from "../shared/json_tree.js";
import { disclosure } from "../shared/messages.js";
import { timeElement } from "../shared/time.js";
import { traceLink } from "./trace_link.js";

const known = (value) => value !== null && value !== undefined;

const RATINGS = new Map([
  ["up", ["thumbUp", "Positive feedback", "event-ok"]],
  ["down", ["thumbDown", "Negative feedback", "event-danger"]],
]);

export function feedback(item) {
  const [art, title, kind] = RATINGS.get(item.rating) ?? ["star", known(item.rating) ? `Feedback: ${oneLine(item.rating, 60)}` : "Feedback", ""];
  const extra = Object.keys(item.extra ?? {}).length > 0;
  return event(kind, art, title, item.timestamp, [
    item.comment ? userText(item.comment, "p.event-text.plain-text.user-text") : null,
    extra ? disclosure({ art: "tag", title: "Details", summary: oneLine(item.extra, 80), body: () => [jsonTree(item.extra)] }) : null,
  ]);
}

export function guardrail(item) {
  const where = known(item.message_id)
    ? el("button.link-button", { type: "button", text: `message ${item.message_id}`, data: { goto: "", agent: item.agent_id, message: item.message_id } })
    : null;
  return event("event-warn", "shield", `Guardrail: ${oneLine(item.action ?? "intervened", 60)}`, item.timestamp, [
    el(
      "p.event-text",
      {},
      userText([item.agent_id, item.stop_reason].filter(Boolean).join(" · ")),
      where ? [" · ", where] : null,
    ),
    Object.entries(item.policies_triggered ?? {}).map(([policy, hits]) =>
      el("div.row.row-wrap", {}, userText(policy, "span.faint.user-text"), hits.map((hit) => userText(hit, "span.badge.badge-warn.user-text"))),
    ),
  ]);
}

/** A turn that failed: the class of its error. */
export function failure(item) {
  return event("event-danger", "alert", `Turn failed: ${oneLine(item.error, 100)}`, item.timestamp, [
    item.agent_id ? userText(item.agent_id, "p.event-text.user-text") : null,
    traceLink(item),
  ]);
}

function event(kind, art, title, timestamp, body) {
  return el(
    "article.event",
    { class: kind },
    el("span.event-art", {}, icon(art)),
    el(
      "div.event-body.stack",
      {},
      el("div.row.row-wrap", {}, userText(title, "strong.user-text"), el("span.faint", {}, timeElement(timestamp, "clock"))),
      body,
    ),
  );
}

export function unknownItem(item) {
  return event("event-warn", "info", `Unknown entry: ${oneLine(item.type ?? "", 40)}`, item.timestamp, [jsonTree(item)]);
}
