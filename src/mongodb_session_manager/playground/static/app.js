// Puts the page together and carries one conversation at a time.

import { byId, el, fill } from "../shared/dom.js";
import { confirmDialog, notice, toast, tooltips } from "../shared/feedback.js";
import { ApiError } from "../shared/http.js";
import { icon } from "../shared/icons.js";
import { themeButton } from "../shared/theme.js";
import { refreshTimes } from "../shared/time.js";
import * as api from "./api_client.js";
import { Composer } from "./composer.js";
import { ConversationList } from "./conversation_list.js";
import { DetailsPanel } from "./details_panel.js";
import { Drawers } from "./drawers.js";
import { watchHealth } from "./health.js";
import { followReply } from "./reply_stream.js";
import { Thread } from "./thread.js";

const addressOf = (id) => (id === null ? "./" : `./?${new URLSearchParams({ session_id: id })}`);
const addressed = () => new URLSearchParams(location.search).get("session_id");
const newId = () => `chat-${Array.from(crypto.getRandomValues(new Uint8Array(8)), (b) => b.toString(16).padStart(2, "0")).join("")}`;
const SPOKEN = 1000;
/** Statuses of an id that no conversation has, or can have. */
const MISSING = new Set([404, 422]);

class Playground {
  constructor() {
    this.sessionId = null;
    this.conversation = null;
    this.listening = null;
    const say = (text) => this.say(text);
    this.drawers = new Drawers({
      list: byId("list"),
      details: byId("details"),
      scrim: byId("scrim"),
      chat: byId("chat"),
      openList: byId("open-list"),
      openDetails: byId("open-details"),
    });
    this.thread = new Thread(
      { scroller: byId("thread-scroll"), root: byId("thread"), jump: byId("jump") },
      {
        onSay: say,
        onOlder: () => this.loadOlder(),
        onFeedback: (messageId, feedback) => this.giveFeedback(messageId, feedback),
      },
    );
    this.composer = new Composer(byId("composer"), { onSay: say, onStop: () => this.stop() });
    this.details = new DetailsPanel(byId("details"), {
      onDelete: () => this.delete(this.sessionId, byId("chat-title").textContent),
      onClose: () => this.drawers.close(),
    });
    this.list = new ConversationList(byId("list"), {
      addressOf,
      onOpen: (id) => this.go(id),
      onNew: () => this.go(null),
      onDelete: (id, title) => this.delete(id, title),
      onClose: () => this.drawers.close(),
    });
    window.addEventListener("popstate", () => this.open(addressed()));
    document.querySelector(".brand").addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      this.go(null);
    });
  }

  start() {
    this.list.refresh();
    this.open(addressed());
  }

  /** The connection is back: what could not be read may be now. */
  recover() {
    this.list.refresh();
    if (this.sessionId !== null && this.conversation === null) this.open(this.sessionId);
  }

  go(id) {
    if (id !== addressed()) history.pushState(null, "", addressOf(id));
    this.drawers.close();
    this.open(id);
  }

  /** Show a conversation, null for a new one. */
  async open(id) {
    this.#leave();
    this.sessionId = id;
    this.conversation = null;
    this.list.select(id);
    this.composer.setState(id === null ? "ready" : "waiting");
    this.#notify();
    this.details.showEmpty();
    if (id === null) {
      this.#title("New conversation");
      this.thread.showWelcome();
      this.composer.focus();
      return;
    }
    this.thread.showLoading();
    try {
      const conversation = await api.readSession(id);
      if (this.sessionId !== id || this.listening) return;
      this.#take(conversation);
      this.thread.toEnd();
      this.composer.setState("ready");
      if (conversation.turn) this.#listen(null, conversation.turn);
      else this.composer.focus();
    } catch (error) {
      if (this.sessionId !== id) return;
      const missing = MISSING.has(error.status);
      this.#title("Conversation");
      this.thread.showError(error, missing, () => this.open(id));
      // What is said to a conversation that is not here begins a new one.
      if (missing) this.composer.setState("ready");
    }
  }

  say(text) {
    if (this.listening) return;
    const unread = this.sessionId !== null && this.conversation === null;
    if (unread || this.sessionId === null) {
      this.sessionId = newId();
      this.conversation = null;
      this.thread.showWelcome();
      history.pushState(null, "", addressOf(this.sessionId));
      this.#title(text);
    }
    this.#listen(text, null);
  }

  /** Say something, or join the reply that is in the making, and show it to its end. */
  async #listen(message, turn) {
    const id = this.sessionId;
    const listening = (this.listening = new AbortController());
    const before = this.conversation?.messages_count ?? 0;
    let failure = null;
    this.composer.setState("answering");
    this.#notify();
    if (turn) this.#showBefore(turn);
    else if (this.conversation) this.thread.show(this.conversation, { answering: true });
    const reply = this.thread.begin(message ?? turn.prompt);
    this.#announce("The assistant is answering.");
    try {
      const end = await followReply({
        sessionId: id,
        message,
        signal: listening.signal,
        onEvent: (kind, data) => {
          if (kind === "error") failure = data;
          reply.take(kind, data);
        },
        onState: (state, retryNow) => {
          this.#connection(state, retryNow);
          // From its first answer on, a new conversation is stored.
          if (state === "open" && this.conversation === null) this.list.refresh().then(() => this.list.select(this.sessionId));
        },
      });
      if (end === "left") return;
      reply.end();
      await this.#settle(id, listening);
      if (listening.signal.aborted) return;
      if (failure) this.#notify("danger", failure.message);
      else if (end === "gone" && message !== null && this.conversation.messages_count <= before) this.#unsent(message);
      else this.#announce(`The assistant said: ${reply.said.slice(0, SPOKEN)}`);
    } catch (error) {
      if (listening.signal.aborted) return;
      await this.#refused(error, message);
    } finally {
      if (this.listening === listening) {
        this.listening = null;
        this.composer.setState("ready");
      }
    }
    this.list.refresh();
    this.composer.focus();
  }

  /** Take what is stored for what was streamed; tried until the server answers. */
  async #settle(id, listening) {
    for (let failures = 0; !listening.signal.aborted; failures += 1) {
      try {
        const conversation = await api.readSession(id);
        if (listening.signal.aborted) return;
        this.#notify();
        this.thread.end();
        this.#take(conversation);
        return;
      } catch (error) {
        if (error.status === 404) {
          this.thread.end();
          this.conversation = emptyConversation(id);
          this.#notify("warn", "This conversation was deleted.");
          return;
        }
        const wait = Math.min(500 * 2 ** failures, 10_000);
        await new Promise((resolve) => {
          const timer = setTimeout(resolve, wait);
          this.#connection("lost", () => (clearTimeout(timer), resolve()));
        });
      }
    }
  }

  async #refused(error, message) {
    this.thread.end();
    const text = error instanceof ApiError ? error.message : "Something went wrong in the page; reload it.";
    if (!(error instanceof ApiError)) console.error(error);
    if (message !== null && !this.composer.text) this.composer.setText(message);
    const id = this.sessionId;
    // A new conversation that was refused is not stored: there is nothing to read.
    if (this.conversation) this.thread.show(this.conversation);
    else this.thread.showWelcome();
    this.#notify("danger", text);
    if (error.code !== "busy") return;
    const show = el("button.btn.btn-sm", { type: "button", text: "Show that reply", on: { click: () => this.open(id) } });
    this.#notify("warn", text, show);
  }

  #unsent(message) {
    this.composer.setText(message);
    this.#notify("warn", "The connection was lost before the message arrived. It is back in the box.");
    if (this.conversation.messages_count === 0) this.thread.showWelcome();
  }

  /** Show what was stored before a turn began: the rest of it comes with its events. */
  #showBefore(turn) {
    const count = turn.messages_before ?? this.conversation.messages_count;
    const messages = this.conversation.messages.filter((_, index) => this.conversation.first + index < count);
    this.thread.show({ ...this.conversation, messages }, { answering: true });
  }

  #take(conversation) {
    const known = this.conversation;
    // Earlier pages that were loaded stay.
    if (known?.session_id === conversation.session_id && known.first < conversation.first) {
      const earlier = known.messages.slice(0, conversation.first - known.first);
      conversation = { ...conversation, first: known.first, messages: [...earlier, ...conversation.messages] };
    }
    this.conversation = conversation;
    this.#title(conversation.title || "Conversation");
    this.thread.show(conversation, { answering: conversation.turn !== null });
    this.details.show(conversation);
    this.list.select(conversation.session_id);
  }

  async loadOlder() {
    const { session_id: id, first } = this.conversation;
    try {
      const page = await api.readSession(id, first);
      if (this.conversation?.session_id !== id || this.conversation.first !== first) return;
      this.conversation = {
        ...this.conversation,
        first: page.first,
        messages: [...page.messages, ...this.conversation.messages],
      };
      this.thread.keepingPlace(() => this.thread.show(this.conversation, { answering: this.listening !== null }));
    } catch (error) {
      toast(error.message, "error");
    }
  }

  async giveFeedback(messageId, feedback) {
    const id = this.sessionId;
    await api.addFeedback(id, { ...feedback, message_id: messageId });
    try {
      const { feedbacks } = await api.readSession(id);
      if (this.conversation?.session_id !== id) return;
      this.conversation.feedbacks = feedbacks;
      this.details.show(this.conversation);
    } catch {
      // It is stored; the panel is a moment behind.
    }
  }

  async stop() {
    this.composer.setState("stopping");
    try {
      await api.stop(this.sessionId);
    } catch (error) {
      toast(error.message, "error");
      if (this.listening) this.composer.setState("answering");
    }
  }

  async delete(id, title) {
    const sure = await confirmDialog({
      title: "Delete this conversation?",
      text: `“${title.slice(0, 120)}” and everything stored with it will be gone: messages, metadata, state and feedback.`,
      confirm: "Delete",
      danger: true,
    });
    if (!sure) return;
    try {
      await api.deleteSession(id);
    } catch (error) {
      if (error.status !== 404) {
        toast(error.message, "error");
        return;
      }
    }
    this.list.remove(id);
    toast("Conversation deleted");
    if (id === this.sessionId) this.go(null);
    this.list.refresh();
  }

  #leave() {
    this.listening?.abort();
    this.listening = null;
  }

  #connection(state, retryNow) {
    if (state === "open") {
      this.#notify();
      return;
    }
    const now = el("button.btn.btn-sm", { type: "button", text: "Try now", on: { click: retryNow } });
    this.#notify("warn", "The connection was lost. The reply goes on and is stored; reconnecting…", now);
  }

  #notify(kind = null, text = "", action = null) {
    fill(byId("notices"), kind === null ? null : notice(kind, text, action));
  }

  #title(text) {
    const line = text.replace(/\s+/g, " ").trim().slice(0, 80);
    byId("chat-title").textContent = line;
    document.title = `${line} · Playground`;
  }

  #announce(text) {
    byId("announcer").textContent = text;
  }
}

const emptyConversation = (id) => ({ session_id: id, messages: [], messages_count: 0, first: 0, feedbacks: [], turn: null });

byId("brand-mark").append(icon("chat"));
themeButton(byId("theme"));
tooltips();
refreshTimes();
const playground = new Playground();
playground.start();
watchHealth(byId("health"), () => playground.recover());
