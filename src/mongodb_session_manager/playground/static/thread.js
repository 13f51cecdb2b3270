// The conversation in the middle: what is stored, the reply in the making, and the states around them.

import { el, fill } from "../shared/dom.js";
import { stateView } from "../shared/feedback.js";
import { plural } from "../shared/format.js";
import { icon } from "../shared/icons.js";
import { messageView } from "../shared/messages.js";
import { failureView } from "./failure.js";
import { LiveReply } from "./live_reply.js";
import { otherView, promptView, replyView } from "./message_views.js";
import { promptBlock } from "./reply_parts.js";
import { groupMessages } from "./turns.js";
import { welcomeView } from "./welcome.js";

const NEAR_END_PX = 96;

export class Thread {
  /**
   * @param {{scroller: HTMLElement, root: HTMLElement, jump: HTMLElement}} parts
   * @param {import("./message_views.js").Actions & {onSay: (text: string) => void, onOlder: () => void}} actions
   */
  constructor({ scroller, root, jump }, actions) {
    this.scroller = scroller;
    this.root = root;
    this.jump = jump;
    this.actions = actions;
    this.shown = new Map();
    this.live = null;
    this.following = true;
    this.away = false;
    jump.prepend(icon("arrowDown"));
    jump.addEventListener("click", () => this.toEnd());
    scroller.addEventListener("scroll", () => this.#noticeScroll(), { passive: true });
    // The thread grows with what is said, and what shows it shrinks when the composer grows.
    const sizes = new ResizeObserver(() => this.#keepEnd());
    sizes.observe(root);
    sizes.observe(scroller);
  }

  /** A conversation that has not begun. */
  showWelcome() {
    this.#clear();
    this.scroller.scrollTop = 0;
    fill(this.root, welcomeView({ away: this.away, onSay: this.actions.onSay }));
  }

  /** Whether nothing can be stored: the welcome promises nothing then. */
  setAway(away) {
    this.away = away;
    if (this.#welcomes) this.showWelcome();
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
   * @param {object} [options]
   * @param {boolean} [options.answering] a reply is being made, so an unanswered message is nothing odd
   * @param {object|null} [options.failure] why the last turn failed
   */
  show(conversation, { answering = false, failure = null } = {}) {
    const groups = groupMessages(conversation.messages);
    const feedbacks = new Map(conversation.feedbacks.map((feedback) => [feedback.message_id, feedback]));
    const next = new Map();
    for (const [index, group] of groups.entries()) {
      const unanswered = group.kind === "user" && index === groups.length - 1 && !answering && !failure;
      const signature = JSON.stringify([group.messages, group.messages.map((m) => feedbacks.get(m.message_id)), unanswered]);
      const known = this.shown.get(group.key);
      const before = groups[index - 1];
      const asked = before?.kind === "user" ? before.messages[0] : null;
      const context = { sessionId: conversation.session_id, feedbacks, unanswered, asked, actions: this.actions };
      const node = known?.signature === signature ? known.node : view(group, context);
      next.set(group.key, { signature, node });
    }
    this.shown = next;
    fill(
      this.root,
      conversation.first > 0 ? this.#older(conversation.first) : null,
      [...next.values()].map(({ node }) => node),
      failure ? failureView(failure, this.#wayOn(groups.at(-1))) : null,
      this.live?.nodes,
    );
  }

  /** Begin to show a reply in the making, below what was asked: its blocks, null when they are stored already. */
  begin(prompt) {
    this.root.querySelector(".welcome, .failure")?.remove();
    const reply = new LiveReply(() => this.#keepEnd());
    const asked = prompt === null ? [] : [messageView({ role: "user", author: "You", body: prompt.map((block) => promptBlock(block)) })];
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

  /** What to do after a failed turn: a message that is stored can be answered again. */
  #wayOn(last) {
    if (last?.kind !== "user" && last?.kind !== "reply") return null;
    if (last.kind === "reply" && last.messages.at(-1).role === "assistant") return null;
    return el("button.btn.btn-sm", { type: "button", text: "Send again", on: { click: () => this.actions.onAnswer() } });
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

function view(group, context) {
  const [first] = group.messages;
  if (group.kind === "user") return promptView(first, context);
  return group.kind === "reply" ? replyView(group.messages, context) : otherView(first);
}
