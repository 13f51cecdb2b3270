// Stored messages, put together the way people read them: what was asked, and all of the reply to it.

/**
 * @typedef {{key: string, kind: "user"|"reply"|"other", messages: object[]}} Group
 *
 * A reply is several messages when tools were called: the calls, their results, the text at the end.
 *
 * @param {object[]} messages oldest first
 * @returns {Group[]}
 */
export function groupMessages(messages) {
  const groups = [];
  for (const message of messages) {
    const last = groups.at(-1);
    const kind = kindOf(message);
    if (kind === "reply" && last?.kind === "reply") last.messages.push(message);
    else groups.push({ key: `${kind}-${message.message_id}`, kind, messages: [message] });
  }
  return groups;
}

function kindOf(message) {
  if (message.role === "assistant") return "reply";
  if (message.role !== "user") return "other";
  return message.blocks.some((block) => block.type === "tool_result") ? "reply" : "user";
}

/** The results among the messages of a reply, by the id of the call that they answer. */
export function resultsOf(messages) {
  const results = new Map();
  for (const message of messages) {
    for (const block of message.blocks) if (block.type === "tool_result") results.set(block.id, block);
  }
  return results;
}

/** What a reply took, summed over its model calls; null where no model said. */
export function costOf(messages) {
  const sum = (pick) => {
    const known = messages.map(pick).filter((value) => typeof value === "number");
    return known.length ? known.reduce((total, value) => total + value, 0) : null;
  };
  return {
    input: sum((message) => message.usage?.input),
    output: sum((message) => message.usage?.output),
    total: sum((message) => message.usage?.total),
    latencyMs: sum((message) => message.latency_ms),
    firstByteMs: messages.find((message) => message.time_to_first_byte_ms)?.time_to_first_byte_ms ?? null,
  };
}

/** The text of a message, for sending it again or copying it. */
export const textOf = (message) =>
  message.blocks.filter((block) => block.type === "text").map((block) => block.text).join("\n\n");

/** What the user said in a conversation, newest first, nothing twice in a row. */
export function saidBefore(conversation) {
  const texts = (conversation?.messages ?? [])
    .filter((message) => kindOf(message) === "user" && !message.redacted)
    .map(textOf)
    .filter((text, index, all) => text && text !== all[index + 1]);
  return texts.reverse();
}

/** A conversation as it was read, with the earlier pages that were loaded before. */
export function withEarlier(conversation, known) {
  if (known?.session_id !== conversation.session_id || known.first >= conversation.first) return conversation;
  const earlier = known.messages.slice(0, conversation.first - known.first);
  return { ...conversation, first: known.first, messages: [...earlier, ...conversation.messages] };
}
