// What a reply is made of: text, tool calls with their results, reasoning.

import { el } from "../shared/dom.js";
import { fileChip, imageThumb, reasoningView, redactedBubble, textBubble, typedBubble } from "../shared/messages.js";
import { toolCard } from "../shared/tool_card.js";
import { textView } from "../shared/values.js";

/**
 * A tool call and, once it is there, its result: folded, readable on one line.
 *
 * @param {{name: string, input: unknown}} call
 * @param {{status: string, content: string}|null} result null: not answered (yet)
 * @param {{running?: boolean, open?: boolean}} [options]
 */
export function toolView(call, result, options) {
  if (!result) return toolCard(call, null, options);
  const { content, status } = result;
  return toolCard(call, { status, content, parts: () => [textView(content)] }, options);
}

/** The view of a block that is no tool call or result. */
export function blockView(block, redacted = false) {
  switch (block.type) {
    case "text":
      return redacted ? redactedBubble(block.text) : textBubble(block.text);
    case "reasoning":
      return reasoningView(block.text ?? null);
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
