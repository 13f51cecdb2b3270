// What a message is made of: texts, images, files, calls of tools with their results.

import { el } from "../shared/dom.js";
import { number, oneLine } from "../shared/format.js";
import { disclosure, fileChip, imageThumb, reasoningView, redactedBubble, textBubble, toolResult, typedBubble } from "../shared/messages.js";
import { toolCard } from "../shared/tool_card.js";
import { textView, valueView } from "../shared/values.js";

/** The elements of a content. @param {object[]} content @param {object} item @param {object} context as for `itemView` */
export function parts(content, item, context) {
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
  reasoning: (block) => reasoningView(block.hidden ? null : block.text),
  image: (block) =>
    (block.url && imageThumb(block.url.replace(/^\//, ""), `Image, ${block.format}`)) ||
    fileChip({ name: block.source ?? "Image", format: block.format, size: block.size ?? undefined }),
  document: (block) => fileChip({ name: block.name ?? block.source ?? "Document", format: block.format, size: block.size ?? undefined }),
  video: (block) => fileChip({ name: block.name ?? block.source ?? "Video", format: block.format, size: block.size ?? undefined }),
  audio: (block) => fileChip({ name: block.name ?? block.source ?? "Audio", format: block.format, size: block.size ?? undefined }),
  tool_use: (block, item, context) => {
    const answer = context.pairs.resultOf(item, block);
    const call = { name: block.name, input: block.input, id: block.tool_use_id, cut: item.cut };
    return toolCard(call, answer && result(answer.block, answer.item, context));
  },
  // One whose call is shown stands in the call's card.
  tool_result: (block, item, context) => (context.pairs.callOf(item, block) ? null : toolResult(result(block, item, context))),
  json: (block, item) => valueView(block.value, { cut: item.cut }),
  citations: (block) =>
    el(
      "div.stack",
      {},
      textBubble(block.text),
      disclosure({ art: "link", title: "Sources", summary: oneLine(block.citations, 80), body: () => [valueView(block.citations, { open: 3 })] }),
    ),
};

function part(block, item, context) {
  return Object.hasOwn(PARTS, block.type) ? PARTS[block.type](block, item, context) : unknownBlock(block);
}

function unknownBlock(block) {
  return disclosure({ art: "code", title: "Unknown content", summary: oneLine(block.value, 80), body: () => [valueView(block.value ?? block)] });
}

function plainResult(block) {
  return block.type === "json" ? { json: block.value } : block.type === "text" ? { text: block.text } : { text: `[${block.type}]` };
}

function result(block, item, context) {
  const whole = item.cut ? [context.wholeButton(item)] : [];
  return {
    status: block.status,
    content: block.content.map(plainResult),
    parts: () => [...block.content.map((inner) => resultPart(inner, item, context)), ...whole],
  };
}

function resultPart(block, item, context) {
  if (block.type !== "text") return part(block, item, context);
  const total = block.text.length + block.cut;
  return textView(block.text, { note: block.cut ? `${number(block.text.length)} of ${number(total)} characters shown` : "" });
}
