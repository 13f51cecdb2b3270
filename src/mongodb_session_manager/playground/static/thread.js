// The conversation in the middle: what is stored, the reply in the making, and the states around them.

import { el, fill } from "../shared/dom.js";
import { stateView } from "../shared/feedback.js";
import { duration, number, plural } from "../shared/format.js";
import { icon } from "../shared/icons.js";
import { messageView, metaLine } from "../shared/messages.js";
import { feedbackBar } from "./feedback_bar.js";
import { LiveReply } from "./live_reply.js";
import { blockView, promptBubble, toolView } from "./reply_parts.js";
import { costOf, groupMessages, resultsOf, textOf } from "./turns.js";

const NEAR_END_PX = 96;

const SUGGESTIONS = [
  ["My name is Ada and I am planning a trip to Lisbon.", "Tell it about you", "user"],
  ["What is (17.5 + 3) * 12?", "Calculate", "tool"],
  ["Please remember that my favourite colour is green.", "Store metadata", "tag"],
  ["Set language to Portuguese.", "Change the agent’s state", "edit"],
];

export class Thread {
  /**
   * @param {{scroller: HTMLElement, root: HTMLElement, jump: HTMLElement}} parts
   * @param {object} actions
   * @param {(text: string) => void} actions.onSay
   * @param {() => void} actions.onOlder
   * @param {(messageId: number, feedback: object) => Promise<void>} actions.onFeedback
   */
  constructor({ scroller, root, jump }, actions) {
    this.scroller = scroller;
    this.root = root;
    this.jump = jump;
    this.actions = actions;
    this.shown = new Map();
    this.live = null;
    this.following = true;
    jump.prepend(icon("arrowDown"));
    jump.addEventListener("click", () => this.toEnd());
    scroller.addEventListener("scroll", () => this.#noticeScroll(), { passive: true });
    new ResizeObserver(() => this.#keepEnd()).observe(root);
  }

  /** A conversation that has not begun. */
  showWelcome() {
    this.#clear();
    this.scroller.scrollTop = 0;
    fill(
      this.root,
      el(
        "section.welcome",
        {},
        el("div.state-art", {}, icon("chat")),
        el("h2.welcome-title", { text: "What would you like to try?" }),
        el("p.muted", {
          text: "Every message, tool call and token count is stored in MongoDB as it happens. Reload or close the tab: the conversation goes on.",
        }),
        el(
          "div.suggestions",
          {},
          SUGGESTIONS.map(([text, label, art]) =>
            el(
              "button.suggestion",
              { type: "button", on: { click: () => this.actions.onSay(text) } },
              el("span.suggestion-label", {}, icon(art), label),
              el("span", { text }),
            ),
          ),
        ),
      ),
    );
  }

  showLoading() {
    this.#clear();
    fill(
      this.root,
      el(
        "div.stack",
        { role: "status", "aria-label": "Loading the conversation" },
        ["w-40", "w-90", "w-75", "w-60"].map((width) => el("span.skeleton", { class: width })),
      ),
    );
  }

  showError(error, missing, onRetry) {
    this.#clear();
    fill(
      this.root,
      stateView({
        art: missing ? "search" : "alert",
        title: missing ? "This conversation is not here" : "The conversation could not be loaded",
        text: missing ? "It was deleted, or its address is not right. Start a new one, or choose one from the list." : error.message,
        actions: missing ? [] : [el("button.btn", { type: "button", text: "Try again", on: { click: onRetry } })],
        danger: !missing,
      }),
    );
  }

  /**
   * Show what is stored; views of what did not change stay as they are.
   *
   * @param {object} conversation as the server gives it, with all messages that were loaded
   * @param {{answering?: boolean}} [options] a reply is being made, so an unanswered message is nothing odd
   */
  show(conversation, { answering = false } = {}) {
    const groups = groupMessages(conversation.messages);
    const feedbacks = new Map(conversation.feedbacks.map((feedback) => [feedback.message_id, feedback]));
    const next = new Map();
    for (const [index, group] of groups.entries()) {
      const unanswered = group.kind === "user" && index === groups.length - 1 && !answering;
      const signature = JSON.stringify([group.messages, group.messages.map((m) => feedbacks.get(m.message_id)), unanswered]);
      const known = this.shown.get(group.key);
      const node = known?.signature === signature ? known.node : this.#view(group, feedbacks, unanswered);
      next.set(group.key, { signature, node });
    }
    this.shown = next;
    fill(
      this.root,
      conversation.first > 0 ? this.#older(conversation.first) : null,
      [...next.values()].map(({ node }) => node),
      this.live?.nodes,
    );
  }

  /** Begin to show a reply in the making, below what was asked; the prompt is null when it is stored already. */
  begin(prompt) {
    this.root.querySelector(".welcome")?.remove();
    const reply = new LiveReply(() => this.#keepEnd());
    const asked = prompt === null ? [] : [messageView({ role: "user", author: "You", body: [promptBubble(prompt)] })];
    this.live = { reply, nodes: [...asked, reply.node] };
    this.root.append(...this.live.nodes);
    this.toEnd();
    return reply;
  }

  /** The reply in the making has ended; what is stored takes its place. */
  end() {
    this.live?.reply.end();
    for (const node of this.live?.nodes ?? []) node.remove();
    this.live = null;
  }

  toEnd() {
    this.following = true;
    this.#keepEnd();
  }

  /** Run something that adds messages at the top, and stay where the reader is. */
  keepingPlace(work) {
    const { scrollHeight, scrollTop } = this.scroller;
    this.following = false;
    work();
    this.scroller.scrollTop = scrollTop + this.scroller.scrollHeight - scrollHeight;
  }

  #clear() {
    this.shown = new Map();
    this.live = null;
    this.following = true;
  }

  #older(count) {
    return el(
      "button.btn.btn-sm.older",
      { type: "button", on: { click: () => this.actions.onOlder() } },
      `Show ${plural(Math.min(count, 100), "earlier message")}`,
    );
  }

  #view(group, feedbacks, unanswered) {
    const [first] = group.messages;
    if (group.kind === "user") return this.#prompt(first, unanswered);
    if (group.kind === "reply") return this.#reply(group.messages, feedbacks);
    const body = first.blocks.map((block) => blockView(block, first.redacted));
    return messageView({ role: first.role, timestamp: first.created_at, body });
  }

  #prompt(message, unanswered) {
    const body = message.blocks.map((block) =>
      block.type === "text" ? promptBubble(block.text, message.redacted) : blockView(block),
    );
    const view = messageView({ role: "user", author: "You", timestamp: message.created_at, body, marks: marksOf([message]) });
    if (unanswered) {
      view.append(
        el(
          "p.unanswered",
          {},
          icon("alert"),
          "No reply is stored for this message.",
          el("button.btn.btn-sm", { type: "button", text: "Send again", on: { click: () => this.actions.onSay(textOf(message)) } }),
        ),
      );
    }
    return view;
  }

  #reply(messages, feedbacks) {
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
    const view = messageView({
      role: "assistant",
      author: "Assistant",
      timestamp: messages[0].created_at,
      body,
      marks: marksOf(messages),
    });
    if (!last) return view;
    const text = said.map(textOf).filter(Boolean).join("\n\n");
    view.append(
      feedbackBar({
        given: feedbacks.get(last.message_id) ?? null,
        text,
        meta: metaLine(facts(costOf(messages))),
        onGive: (feedback) => this.actions.onFeedback(last.message_id, feedback),
      }),
    );
    return view;
  }

  /** The welcome is read from its beginning, and nothing comes below it. */
  get #welcomes() {
    return this.root.querySelector(".welcome") !== null;
  }

  #noticeScroll() {
    if (this.#welcomes) return;
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    this.following = scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
    this.jump.hidden = this.following;
  }

  #keepEnd() {
    if (this.#welcomes) {
      this.jump.hidden = true;
      return;
    }
    if (this.following) this.scroller.scrollTop = this.scroller.scrollHeight;
    this.jump.hidden = this.following;
  }
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
