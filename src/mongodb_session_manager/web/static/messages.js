// A conversation's parts: who said what, tool calls and their results, files, reasoning.

import { el, isSafeUrl, userText } from "./dom.js";
import { imageDialog } from "./feedback.js";
import { bytes, oneLine } from "./format.js";
import { icon } from "./icons.js";
import { jsonTree } from "./json_tree.js";
import { renderMarkdown } from "./markdown.js";
import { timeElement } from "./time.js";
import { hasFailed } from "./tool_results.js";
import { typedText } from "./typed_text.js";

// A map, not an object: a stored role may say "constructor".
const AUTHORS = new Map([
  ["user", ["user", "User"]],
  ["assistant", ["agent", "Agent"]],
]);

/**
 * One message.
 *
 * @param {object} message
 * @param {string} message.role "user", "assistant" or anything else that was stored
 * @param {string} [message.author] shown name; else one for the role
 * @param {string} [message.timestamp] ISO moment
 * @param {Node[]} [message.body] what it says: `textBubble`, `toolCard`, ...
 * @param {Node[]} [message.marks] badges beside the name
 * @param {Node} [message.meta] a line below: `metaLine`
 * @returns {HTMLElement} an <article>; its `.message-body` takes further parts
 */
export function messageView({ role, author, timestamp, body = [], marks = [], meta = null }) {
  const [art, name] = AUTHORS.get(role) ?? ["chat", role];
  const side = role === "user" ? "message-user" : "message-agent";
  return el(
    "article.message",
    { class: side, data: { role } },
    el(
      "header.message-head",
      {},
      el("span.avatar", {}, icon(art)),
      userText(author ?? name, "span.message-author.user-text"),
      marks,
      timestamp === undefined ? null : timeElement(timestamp, "clock"),
    ),
    el("div.message-body", {}, body),
    meta,
  );
}

/** What was said, as Markdown. */
export function textBubble(text) {
  return el("div.bubble", {}, renderMarkdown(text));
}

/** What a person typed, as it was typed, code in it as code. */
export function typedBubble(text) {
  return el("div.bubble", {}, typedText(text));
}

/** Text that replaces a redacted message. */
export function redactedBubble(text) {
  return el("div.bubble.bubble-redacted", {}, renderMarkdown(text));
}

/** A line of facts under a message: pairs of icon name and text, each with what it means. */
export function metaLine(facts) {
  return el(
    "div.message-meta",
    {},
    facts.map(([name, text, meaning]) => el("span", { title: meaning }, icon(name, meaning), text)),
  );
}

/** Something folded away under a summary line. */
export function disclosure({ art, title, summary = "", marks = [], body, kind = "", open = false }) {
  const content = el("div.disclosure-body");
  const details = el(
    "details.disclosure",
    { class: kind },
    el(
      "summary",
      {},
      icon("chevron"),
      icon(art),
      userText(title, "span.tool-name.truncate"),
      userText(summary, "span.tool-summary.truncate"),
      marks,
    ),
    content,
  );
  let filled = false;
  const fill = () => {
    if (filled || !details.open) return;
    filled = true;
    content.append(...body());
  };
  details.addEventListener("toggle", fill);
  if (open) {
    details.open = true;
    fill();
  }
  return details;
}

/** The arguments of a tool call on one line: `expression: 2 + 2, precise: true`. */
export function summariseInput(input) {
  if (input === null || typeof input !== "object" || Array.isArray(input)) return oneLine(input, 100);
  const parts = Object.entries(input)
    .slice(0, 4)
    .map(([key, value]) => `${oneLine(key, 24)}: ${oneLine(value, 40)}`);
  return oneLine(parts.join(", "), 100);
}

/** The content of a tool result on one line. */
export function summariseResult(content) {
  const items = Array.isArray(content) ? content : [content];
  const parts = items.slice(0, 3).map((item) => {
    if (typeof item === "string") return item;
    if (typeof item?.text === "string") return item.text;
    if (item && "json" in item) return oneLine(item.json, 80);
    return item && typeof item === "object" ? `[${Object.keys(item).join(", ")}]` : oneLine(item);
  });
  return oneLine(parts.join(" "), 100);
}

/** What a model thought before it answered, folded; null where the provider gave it encrypted. @param {string|null} text */
export function reasoningView(text) {
  return disclosure({
    art: "thought",
    title: "Reasoning",
    summary: text === null ? "encrypted by the provider" : oneLine(text, 100),
    kind: "reasoning",
    body: () => [text === null ? el("p.faint", { text: "The provider gave this in encrypted form only." }) : textBubble(text)],
  });
}

/**
 * What a tool answered, folded.
 *
 * @param {{name?: string, status?: string, content: unknown, parts?: () => Node[]}} result `parts` renders the content
 *   in a way of the caller's own; else it is text and JSON
 */
export function toolResult({ name, status, content, parts }) {
  const failed = hasFailed({ status });
  return disclosure({
    art: failed ? "alert" : "check",
    kind: failed ? "tool tool-result tool-error" : "tool tool-result",
    title: name ?? "Result",
    summary: summariseResult(content),
    marks: failed ? [el("span.badge.badge-danger", { text: "failed" })] : [],
    body: parts ?? (() => resultParts(content)),
  });
}

function resultParts(content) {
  return (Array.isArray(content) ? content : [content]).map((item) => {
    if (typeof item === "string") return el("pre.pre", { dir: "auto", tabindex: 0, text: item });
    if (typeof item?.text === "string" && Object.keys(item).length === 1) {
      return el("pre.pre", { dir: "auto", tabindex: 0, text: item.text });
    }
    return jsonTree(item && typeof item === "object" && "json" in item ? item.json : item, { open: 2 });
  });
}

/** A picture that opens large; null when its address is not one that may be shown. */
export function imageThumb(source, label = "Image") {
  if (!isSafeUrl(source)) return null;
  const image = el("img", { src: source, alt: label, loading: "lazy", decoding: "async" });
  const button = el("button.thumb", { type: "button", "aria-label": `Enlarge: ${label}` }, image);
  button.addEventListener("click", () => imageDialog(source, label));
  image.addEventListener("error", () => button.replaceWith(fileChip({ name: label, format: "cannot be shown" })));
  return button;
}

/** A document, video or anything else that is named, not shown. */
export function fileChip({ name, format, size }) {
  return el(
    "span.file",
    {},
    icon("file"),
    userText(name, "span.user-text"),
    el("span.faint", { text: [format, size === undefined ? null : bytes(size)].filter(Boolean).join(" · ") }),
  );
}
