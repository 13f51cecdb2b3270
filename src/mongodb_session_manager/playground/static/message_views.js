// Stored messages, as the thread shows them: what was asked, and all of the reply to it.

import { el } from "../shared/dom.js";
import { copyButton } from "../shared/copy_button.js";
import { duration, number } from "../shared/format.js";
import { icon } from "../shared/icons.js";
import { messageView, metaLine } from "../shared/messages.js";
import { fileAddress } from "./api_client.js";
import { feedbackBar } from "./feedback_bar.js";
import { messageActions } from "./message_actions.js";
import { blockView, promptBlock, toolView } from "./reply_parts.js";
import { costOf, resultsOf, textOf } from "./turns.js";

/**
 * @typedef {object} Actions
 * @property {() => void} onAnswer have the last message answered
 * @property {(message: object) => void} onEdit
 * @property {(messageId: number) => void} onBranch
 * @property {(promptId: number) => void} onRegenerate
 * @property {(messageId: number, feedback: object) => Promise<void>} onFeedback
 */

/** @param {object} message @param {{sessionId: string, unanswered: boolean, actions: Actions}} context */
export function promptView(message, { sessionId, unanswered, actions }) {
  const body = message.blocks.map((block, place) =>
    promptBlock({ ...block, source: fileAddress(sessionId, message.message_id, place) }, message.redacted),
  );
  const view = messageView({ role: "user", author: "You", timestamp: message.created_at, body, marks: marksOf([message]) });
  const text = textOf(message);
  view.append(
    messageActions("Your message", [
      text ? copyButton(() => text, "Copy message") : null,
      message.redacted ? null : { label: "Edit and resend", art: "edit", act: () => actions.onEdit(message) },
      { label: "Branch from here", art: "branch", act: () => actions.onBranch(message.message_id) },
    ]),
  );
  if (unanswered) {
    view.append(
      el(
        "p.unanswered",
        {},
        icon("alert"),
        "No reply is stored for this message.",
        el("button.btn.btn-sm", { type: "button", text: "Send again", on: { click: () => actions.onAnswer() } }),
      ),
    );
  }
  return view;
}

/**
 * @param {object[]} messages all messages of a reply
 * @param {{asked: object|null, feedbacks: Map<number, object>, actions: Actions}} context `asked`: what it answers
 */
export function replyView(messages, { asked, feedbacks, actions }) {
  const results = resultsOf(messages);
  const body = messages.flatMap((message) =>
    message.blocks
      .filter((block) => block.type !== "tool_result")
      .map((block) =>
        block.type === "tool_call" ? toolView(block, results.get(block.id) ?? null) : blockView(block, message.redacted),
      ),
  );
  const said = messages.filter((message) => message.role === "assistant");
  const last = said.at(-1);
  const marks = marksOf(messages);
  const view = messageView({ role: "assistant", author: "Assistant", timestamp: messages[0].created_at, body, marks });
  if (!last) return view;
  view.append(
    feedbackBar({
      given: feedbacks.get(last.message_id) ?? null,
      text: said.map(textOf).filter(Boolean).join("\n\n"),
      meta: metaLine(facts(costOf(messages))),
      onGive: (feedback) => actions.onFeedback(last.message_id, feedback),
      more: messageActions("Go on from this reply", [
        asked ? { label: "Regenerate reply", art: "refresh", act: () => actions.onRegenerate(asked.message_id) } : null,
        { label: "Branch from here", art: "branch", act: () => actions.onBranch(messages.at(-1).message_id) },
      ]),
    }),
  );
  return view;
}

/** Any other message. */
export function otherView(message) {
  const body = message.blocks.map((block) => blockView(block, message.redacted));
  return messageView({ role: message.role, timestamp: message.created_at, body });
}

function marksOf(messages) {
  return messages.some((message) => message.redacted) ? [el("span.badge.badge-warn", { text: "redacted" })] : [];
}

function facts({ input, output, latencyMs, firstByteMs }) {
  return [
    input === null ? null : ["bolt", `${number(input)} in · ${number(output)} out`, "Tokens"],
    latencyMs === null ? null : ["clock", duration(latencyMs), "Latency of the model"],
    firstByteMs === null ? null : ["play", duration(firstByteMs), "Time to first byte"],
  ].filter(Boolean);
}
