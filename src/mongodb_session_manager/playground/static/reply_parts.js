// What a reply is made of: text, tool calls with their results, reasoning.

import { el } from "../shared/dom.js";
import { icon } from "../shared/icons.js";
import { jsonTree } from "../shared/json_tree.js";
import { disclosure, fileChip, imageThumb, redactedBubble, summariseInput, summariseResult, textBubble, typedBubble } from "../shared/messages.js";

/**
 * A tool call and, once it is there, its result: folded, readable on one line.
 *
 * @param {{name: string, input: unknown}} call
 * @param {{status: string, content: string}|null} result null: not answered (yet)
 * @param {{running?: boolean, open?: boolean}} [options]
 */
export function toolView(call, result, { running = false, open = false } = {}) {
  const failed = result?.status === "error" || Boolean(result?.content.startsWith("Error"));
  const summary = [summariseInput(call.input), result ? summariseResult(result.content) : ""].filter(Boolean).join("  →  ");
  const marks = [];
  if (running && !result) marks.push(el("span.row.faint", {}, el("span.spinner"), el("span.visually-hidden", { text: "running" })));
  else if (!result) marks.push(el("span.badge.badge-warn", { text: "not answered" }));
  else if (failed) marks.push(el("span.badge.badge-danger", { text: "failed" }));
  else marks.push(el("span.tool-ok", {}, icon("check", "succeeded")));
  return disclosure({
    art: failed ? "alert" : "tool",
    kind: failed ? "tool tool-error" : "tool",
    title: call.name,
    summary,
    marks,
    open,
    body: () => [
      el("div.disclosure-label", { text: "Arguments" }),
      jsonTree(call.input, { open: 2 }),
      ...(result
        ? [el("div.disclosure-label", { text: "Result" }), el("pre.pre", { dir: "auto", tabindex: 0, text: result.content })]
        : []),
    ],
  });
}

/** The view of a block that is no tool call or result. */
export function blockView(block, redacted = false) {
  switch (block.type) {
    case "text":
      return redacted ? redactedBubble(block.text) : textBubble(block.text);
    case "reasoning":
      return disclosure({
        art: "bolt",
        title: "Reasoning",
        body: () => [el("div.plain-text.muted", { dir: "auto", text: block.text })],
      });
    case "image":
    case "document":
      return fileView(block);
    default:
      return fileChip({ name: block.kind ?? "content", format: "shown in the session viewer" });
  }
}

/** A block of what the user said: text as it was typed, files as pictures and links. */
export function promptBlock(block, redacted = false) {
  if (block.type !== "text") return blockView(block, redacted);
  return redacted ? redactedBubble(block.text) : typedBubble(block.text);
}

function fileView(block) {
  const size = block.size ?? undefined;
  if (block.type === "image") {
    const label = `Attached image, ${block.format}`;
    return (block.source && imageThumb(block.source, label)) || fileChip({ name: "Image", format: block.format, size });
  }
  const chip = fileChip({ name: block.name, format: block.format, size });
  return block.source ? el("a.file-link", { href: block.source, download: true }, chip) : chip;
}
