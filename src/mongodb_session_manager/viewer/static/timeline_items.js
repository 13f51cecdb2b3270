// What a timeline is made of: one element per message, feedback and guardrail event.

import { el, userText } from "../shared/dom.js";
import { compact, duration, oneLine } from "../shared/format.js";
import { icon } from "../shared/icons.js";
import { messageView, metaLine } from "../shared/messages.js";
import { parts } from "./message_parts.js";
import { failure, feedback, guardrail, unknownItem } from "./timeline_events.js";
import { traceLink } from "./trace_link.js";

const isResult = (block) => block.type === "tool_result";
const known = (value) => value !== null && value !== undefined;

/** What tells an item from all others of its session. */
export function itemKey(item) {
  if (item.type === "message" && known(item.message_id)) return JSON.stringify(["message", item.agent_id, item.message_id]);
  return JSON.stringify([item.type, item.timestamp, item.agent_id, item.message_id, item.rating, item.comment, item.content, item.action, item.error]);
}

/** Whether a message of role "user" holds nothing but what tools answered. */
const isToolAnswer = ({ role, content }) => role === "user" && content.length > 0 && content.every(isResult);

/** Whether a message belongs to the agent's side of the conversation. */
export function isAgentSide(item) {
  return item?.type === "message" && (item.role !== "user" || isToolAnswer(item));
}

// Maps, not objects: stored text may say "constructor".
const ITEMS = new Map([
  ["message", message],
  ["feedback", feedback],
  ["guardrail", guardrail],
  ["error", failure],
]);
const AUTHORS = new Map([["user", () => "User"], ["assistant", (item) => item.agent_id]]);

/**
 * The element of an item.
 *
 * @param {object} item as the API describes it
 * @param {object} context
 * @param {import("./tool_pairs.js").ToolPairs} context.pairs
 * @param {(item: object) => void} context.onLink asks for a link to a message
 * @param {boolean} context.continued the same agent spoke just before
 * @param {(item: object) => void} context.onWhole asks for a message that was shortened
 */
export function itemView(item, context) {
  const view = (ITEMS.get(item.type) ?? unknownItem)(item, context);
  view.classList.add("item");
  if (item.problem) view.append(problem(item.problem));
  return view;
}

function problem(text) {
  return el("p.item-problem", {}, icon("alert"), userText(`Odd item: ${text}`));
}

function message(item, context) {
  const agentSide = isAgentSide(item);
  const role = agentSide && item.role === "user" ? "assistant" : item.role;
  const body = parts(item.content, item, { ...context, wholeButton: (cut) => wholeButton(cut, context) });
  // A message of results alone whose calls are shown has nothing of its own to say.
  const isMerged = isToolAnswer(item) && body.length === 0 && !item.problem;
  if (body.length === 0) body.push(el("p.faint", { text: "No content" }));
  if (item.cut) body.push(wholeButton(item, context));
  const view = messageView({
    role,
    author: AUTHORS.get(role)?.(item) ?? `${item.agent_id} (${item.role})`,
    timestamp: item.timestamp,
    marks: [...marks(item), linkButton(item, context)],
    body,
    meta: facts(item),
  });
  view.dataset.anchor = messageAnchor(item.agent_id, item.message_id);
  view.classList.toggle("message-merged", isMerged);
  if (agentSide && context.continued) view.classList.add("message-continued");
  if (isToolAnswer(item)) view.classList.add("message-tools");
  return view;
}

/** Where a message stands in the page. */
export function messageAnchor(agentId, messageId) {
  return `message-${encodeURIComponent(JSON.stringify([agentId, messageId]))}`;
}

function marks(item) {
  const list = [];
  if (item.redacted) list.push(el("span.badge.badge-warn", {}, icon("eye"), "Redacted"));
  if (item.guardrail) {
    const { action, policies_triggered: policies, stop_reason: reason } = item.guardrail;
    const why = [reason, policyText(policies)].filter(Boolean).join(" · ");
    list.push(el("span.badge.badge-danger", { title: why || null }, icon("shield"), userText(`Guardrail ${oneLine(action ?? "", 40)}`)));
  }
  return list;
}

function linkButton(item, context) {
  if (!known(item.message_id)) return null;
  const label = `Copy a link to message ${item.message_id}`;
  return el("button.btn.btn-ghost.btn-icon.btn-sm.message-link", { type: "button", "aria-label": label, data: { tip: "Copy a link" }, on: { click: () => context.onLink(item) } }, icon("link"));
}

function policyText(policies) {
  return Object.entries(policies ?? {})
    .map(([policy, hits]) => `${policy}: ${hits.join(", ")}`)
    .join(" · ");
}

function wholeButton(item, context) {
  return el("button.btn.btn-sm", { type: "button", text: "Show the whole message", on: { click: () => context.onWhole(item) } });
}

/** What is known of an answer beside its text. */
function facts(item) {
  const line = item.metrics ? costs(item.metrics) : null;
  const trace = traceLink(item);
  if (!trace) return line;
  const whole = line ?? metaLine([]);
  whole.append(trace);
  return whole;
}

function costs(metrics) {
  const facts = [];
  const add = (value, name, text, meaning) => known(value) && facts.push([name, text, meaning]);
  add(metrics.input_tokens, "arrowDown", `${compact(metrics.input_tokens)} in`, "Input tokens");
  add(metrics.output_tokens, "send", `${compact(metrics.output_tokens)} out`, "Output tokens");
  add(metrics.latency_ms, "clock", duration(metrics.latency_ms), "Latency");
  add(metrics.time_to_first_byte_ms, "play", `${duration(metrics.time_to_first_byte_ms)} to first byte`, "Time to first byte");
  if (facts.length === 0) return null;
  const line = metaLine(facts);
  if (metrics.accumulated) line.append(el("span", { text: "whole run", title: "Added up over all model calls of this run" }));
  return line;
}
