// What a timeline is made of: one element per message, feedback and guardrail event.

import { el, userText } from "../shared/dom.js";
import { compact, duration, oneLine } from "../shared/format.js";
import { icon } from "../shared/icons.js";
import { jsonTree } from "../shared/json_tree.js";
import {
  disclosure, fileChip, imageThumb, messageView, metaLine, redactedBubble, textBubble, toolCall, toolResult, typedBubble,
} from "../shared/messages.js";
import { timeElement } from "../shared/time.js";

const isResult = (block) => block.type === "tool_result";
const known = (value) => value !== null && value !== undefined;

/** What tells an item from all others of its session. */
export function itemKey(item) {
  if (item.type === "message" && known(item.message_id)) return JSON.stringify(["message", item.agent_id, item.message_id]);
  return JSON.stringify([item.type, item.timestamp, item.agent_id, item.message_id, item.rating, item.comment, item.content, item.action]);
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
]);
const AUTHORS = new Map([["user", () => "User"], ["assistant", (item) => item.agent_id]]);

/**
 * The element of an item.
 *
 * @param {object} item as the API describes it
 * @param {object} context
 * @param {Map<string, string>} context.toolNames name of the tool by id of the call
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
  const body = parts(item.content, item, context);
  if (body.length === 0) body.push(el("p.faint", { text: "No content" }));
  if (item.cut) body.push(wholeButton(item, context));
  const view = messageView({
    role,
    author: AUTHORS.get(role)?.(item) ?? `${item.agent_id} (${item.role})`,
    timestamp: item.timestamp,
    marks: marks(item),
    body,
    meta: item.metrics ? costs(item.metrics) : null,
  });
  view.id = messageAnchor(item.agent_id, item.message_id);
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

function policyText(policies) {
  return Object.entries(policies ?? {})
    .map(([policy, hits]) => `${policy}: ${hits.join(", ")}`)
    .join(" · ");
}

function wholeButton(item, context) {
  return el("button.btn.btn-sm", { type: "button", text: "Show the whole message", on: { click: () => context.onWhole(item) } });
}

function costs(metrics) {
  const facts = [];
  const add = (value, name, text, meaning) => known(value) && facts.push([name, text, meaning]);
  add(metrics.input_tokens, "arrowDown", `${compact(metrics.input_tokens)} in`, "Input tokens");
  add(metrics.output_tokens, "send", `${compact(metrics.output_tokens)} out`, "Output tokens");
  add(metrics.latency_ms, "clock", duration(metrics.latency_ms), "Latency");
  add(metrics.time_to_first_byte_ms, "bolt", `${duration(metrics.time_to_first_byte_ms)} to first byte`, "Time to first byte");
  if (facts.length === 0) return null;
  const line = metaLine(facts);
  if (metrics.accumulated) line.append(el("span", { text: "whole run", title: "Added up over all model calls of this run" }));
  return line;
}

function parts(content, item, context) {
  const list = [];
  let images = null;
  for (const block of content) {
    const view = part(block, item, context);
    if (!view) continue;
    if (block.type !== "image") images = null;
    else if (images === null) list.push((images = el("div.media")));
    if (block.type === "image") images.append(view);
    else list.push(view);
  }
  return list;
}

const PARTS = {
  text: (block, item) => {
    if (item.redacted) return redactedBubble(block.text);
    return item.role === "user" ? typedBubble(block.text) : textBubble(block.text);
  },
  guard_content: (block) => textBubble(block.text),
  reasoning: (block) =>
    disclosure({
      art: "chat",
      title: "Reasoning",
      summary: block.hidden ? "encrypted by the provider" : oneLine(block.text, 100),
      kind: "reasoning",
      body: () => [block.hidden ? el("p.faint", { text: "The provider gave this in encrypted form only." }) : textBubble(block.text)],
    }),
  image: (block) =>
    (block.url && imageThumb(block.url.replace(/^\//, ""), `Image, ${block.format}`)) ||
    fileChip({ name: block.source ?? "Image", format: block.format, size: block.size ?? undefined }),
  document: (block) => fileChip({ name: block.name ?? block.source ?? "Document", format: block.format, size: block.size ?? undefined }),
  video: (block) => fileChip({ name: block.name ?? block.source ?? "Video", format: block.format, size: block.size ?? undefined }),
  audio: (block) => fileChip({ name: block.name ?? block.source ?? "Audio", format: block.format, size: block.size ?? undefined }),
  tool_use: (block) => toolCall({ name: block.name, input: block.input, id: block.tool_use_id }),
  tool_result: (block, item, context) =>
    toolResult({
      name: context.toolNames.get(block.tool_use_id),
      status: block.status,
      content: block.content.map(plainResult),
      parts: () => block.content.map((inner) => resultPart(inner, item, context)),
    }),
  json: (block) => jsonTree(block.value, { open: 2 }),
  citations: (block) =>
    el(
      "div.stack",
      {},
      textBubble(block.text),
      disclosure({ art: "link", title: "Sources", summary: oneLine(block.citations, 80), body: () => [jsonTree(block.citations, { open: 3 })] }),
    ),
};

function part(block, item, context) {
  return Object.hasOwn(PARTS, block.type) ? PARTS[block.type](block, item, context) : unknownBlock(block);
}

function unknownBlock(block) {
  return disclosure({ art: "code", title: "Unknown content", summary: oneLine(block.value, 80), body: () => [jsonTree(block.value ?? block, { open: 2 })] });
}

function plainResult(block) {
  return block.type === "json" ? { json: block.value } : block.type === "text" ? { text: block.text } : { text: `[${block.type}]` };
}

function resultPart(block, item, context) {
  return block.type === "text" ? el("pre.pre", { dir: "auto", tabindex: 0, text: block.text }) : part(block, item, context);
}

const RATINGS = new Map([
  ["up", ["thumbUp", "Positive feedback", "event-ok"]],
  ["down", ["thumbDown", "Negative feedback", "event-danger"]],
]);

function feedback(item) {
  const [art, title, kind] = RATINGS.get(item.rating) ?? ["chat", known(item.rating) ? `Feedback: ${oneLine(item.rating, 60)}` : "Feedback", ""];
  const extra = Object.keys(item.extra ?? {}).length > 0;
  return event(kind, art, title, item.timestamp, [
    item.comment ? userText(item.comment, "p.event-text.plain-text.user-text") : null,
    extra ? disclosure({ art: "tag", title: "Details", summary: oneLine(item.extra, 80), body: () => [jsonTree(item.extra)] }) : null,
  ]);
}

function guardrail(item) {
  const where = known(item.message_id)
    ? el("a", { href: `#${messageAnchor(item.agent_id, item.message_id)}`, text: `message ${item.message_id}`, data: { goto: messageAnchor(item.agent_id, item.message_id) } })
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

function unknownItem(item) {
  return event("event-warn", "info", `Unknown entry: ${oneLine(item.type ?? "", 40)}`, item.timestamp, [jsonTree(item)]);
}
