// From what is said to the end of the reply: sent, streamed, taken up again, and replaced by what is stored.

import { byId } from "../shared/dom.js";
import { ApiError } from "../shared/http.js";
import * as api from "./api_client.js";
import { blocksOf } from "./attachments.js";
import { followReply } from "./reply_stream.js";

const SPOKEN = 1000;

export class Listener {
  /** @param {import("./playground.js").Playground} chat */
  constructor(chat) {
    this.chat = chat;
  }

  /** Say something, have the last message answered, or join the reply in the making; and show it to its end. */
  async listen({ message = null, turn = null, tuning = null }) {
    const id = this.chat.sessionId;
    const listening = (this.chat.listening = new AbortController());
    const before = this.chat.conversation?.messages_count ?? 0;
    this.chat.failure = null;
    this.chat.composer.setState("answering");
    this.chat.notices.clear();
    if (turn) this.#showBefore(turn);
    else if (this.chat.conversation) this.chat.thread.show(this.chat.conversation, { answering: true });
    const reply = this.chat.thread.begin(asked(message, turn));
    this.#announce("The assistant is answering.");
    const say = (signal) => (message ? api.say(id, message, tuning, signal) : api.answer(id, signal));
    try {
      const end = await followReply({
        sessionId: id,
        ask: turn ? null : say,
        signal: listening.signal,
        onEvent: (kind, data) => {
          if (kind === "error") this.chat.failure = data;
          reply.take(kind, data);
        },
        onState: (state, retryNow) => {
          this.#connection(state, retryNow);
          // From its first answer on, a new conversation is stored.
          if (state !== "open" || this.chat.conversation !== null) return;
          this.chat.list.refresh().then(() => this.chat.list.select(this.chat.sessionId));
        },
      });
      if (end === "left") return;
      reply.end();
      await this.#settle(id, listening);
      if (listening.signal.aborted) return;
      const stored = message === null || this.chat.conversation.messages_count > before;
      if (!stored && (this.chat.failure || end === "gone")) this.#unsent(message);
      else if (!this.chat.failure) this.#announce(`The assistant said: ${reply.said.slice(0, SPOKEN)}`);
      if (this.chat.failure?.code === "database") this.chat.checkHealth();
    } catch (error) {
      if (listening.signal.aborted) return;
      this.#refused(error, message);
    } finally {
      if (this.chat.listening === listening) {
        this.chat.listening = null;
        this.chat.composer.setState("ready");
      }
    }
    this.chat.list.refresh();
    this.chat.composer.focus();
  }

  /** Take what is stored for what was streamed; tried until the server answers. */
  async #settle(id, listening) {
    for (let failures = 0; !listening.signal.aborted; failures += 1) {
      try {
        const conversation = await api.readSession(id);
        if (listening.signal.aborted) return;
        this.chat.notices.clear();
        this.chat.thread.end();
        this.chat.take(conversation);
        return;
      } catch (error) {
        if (error.status === 404) {
          this.chat.thread.end();
          this.chat.conversation = { session_id: id, messages: [], messages_count: 0, first: 0, feedbacks: [], turn: null, tuning: this.chat.tuning };
          this.chat.notices.show("warn", "This conversation was deleted.");
          return;
        }
        const wait = Math.min(500 * 2 ** failures, 10_000);
        this.chat.checkHealth();
        await new Promise((resolve) => {
          const timer = setTimeout(resolve, wait);
          this.#connection("lost", () => (clearTimeout(timer), resolve()));
        });
      }
    }
  }

  #refused(error, message) {
    this.chat.thread.end();
    const text = error instanceof ApiError ? error.message : "Something went wrong in the page; reload it.";
    if (!(error instanceof ApiError)) console.error(error);
    if (message !== null && this.chat.composer.isEmpty) this.chat.composer.setMessage(message);
    const id = this.chat.sessionId;
    // A new conversation that was refused is not stored: there is nothing to read.
    if (this.chat.conversation) this.chat.thread.show(this.chat.conversation);
    else this.chat.thread.showWelcome();
    if (error.code === "busy") this.chat.notices.show("warn", text, ["Show that reply", () => this.chat.open(id)]);
    else this.chat.notices.show("danger", text);
    if (error.status === 0 || error.status === 503) this.chat.checkHealth();
  }

  #unsent(message) {
    if (this.chat.composer.isEmpty) this.chat.composer.setMessage(message);
    if (!this.chat.failure) this.chat.notices.show("warn", "The connection was lost before the message arrived. It is back in the box.");
    else if (this.chat.failure.code !== "agent" && this.chat.failure.code !== "model") {
      this.chat.notices.show("warn", "Your message was not stored. It is back in the box.");
    }
    if (this.chat.conversation.messages_count === 0 && !this.chat.failure) this.chat.thread.showWelcome();
  }

  /** Show what was stored before a turn began: the rest of it comes with its events. */
  #showBefore(turn) {
    const count = turn.messages_before ?? this.chat.conversation.messages_count;
    const messages = this.chat.conversation.messages.filter((_, index) => this.chat.conversation.first + index < count);
    this.chat.thread.show({ ...this.chat.conversation, messages }, { answering: true });
  }

  #connection(state, retryNow) {
    if (state === "open") this.chat.notices.clear();
    else this.chat.notices.show("warn", "The connection was lost. Reconnecting, to see what became of the reply…", ["Try now", retryNow]);
  }

  #announce(text) {
    byId("announcer").textContent = text;
  }
}

function asked(message, turn) {
  if (message) return blocksOf(message);
  if (!turn || turn.prompt === null) return null;
  return [...(turn.prompt ? [{ type: "text", text: turn.prompt }] : []), ...turn.files];
}
