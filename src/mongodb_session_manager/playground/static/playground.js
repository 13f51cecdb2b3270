// One conversation at a time: opened, spoken to, listened to, and shown as it is stored.

import { byId } from "../shared/dom.js";
import { toast } from "../shared/feedback.js";
import { closeMenus } from "../shared/menu.js";
import * as api from "./api_client.js";
import { ChatHead } from "./chat_head.js";
import { Composer } from "./composer.js";
import { ConversationChanges } from "./conversation_changes.js";
import { ConversationList } from "./conversation_list.js";
import { DetailsPanel } from "./details_panel.js";
import { draftOf, keepDraft } from "./drafts.js";
import { Drawers } from "./drawers.js";
import { Listener } from "./listener.js";
import { Notices } from "./notices.js";
import { Thread } from "./thread.js";
import { UNTUNED, isTuned } from "./tuning_dialog.js";
import { saidBefore, withEarlier } from "./turns.js";

const addressOf = (id) => (id === null ? "./" : `./?${new URLSearchParams({ session_id: id })}`);
export const addressed = () => new URLSearchParams(location.search).get("session_id");
const newId = () => `chat-${Array.from(crypto.getRandomValues(new Uint8Array(8)), (b) => b.toString(16).padStart(2, "0")).join("")}`;
/** Statuses of an id that no conversation has, or can have. */
const MISSING = new Set([404, 422]);

export class Playground {
  constructor() {
    this.sessionId = null;
    this.conversation = null;
    this.listening = null;
    this.away = false;
    this.editing = null;
    this.failure = null;
    this.tuning = UNTUNED;
    this.takesTemperature = true;
    this.checkHealth = () => {};
    this.changes = new ConversationChanges(this);
    this.listener = new Listener(this);
    this.notices = new Notices(byId("notices"));
    this.drawers = new Drawers({
      list: byId("list"),
      details: byId("details"),
      scrim: byId("scrim"),
      chat: byId("chat"),
      openList: byId("open-list"),
      openDetails: byId("open-details"),
    });
    const remove = () => this.changes.remove(this.sessionId, this.head.title);
    this.head = new ChatHead(byId("chat-head"), {
      onTune: () => this.changes.tune(),
      onRename: () => this.changes.rename(),
      onBranch: () => this.changes.branch(),
      onDelete: remove,
    });
    this.thread = new Thread(
      { scroller: byId("thread-scroll"), root: byId("thread"), jump: byId("jump") },
      {
        onSay: (text) => this.say({ text, files: [] }),
        onOlder: () => this.loadOlder(),
        onAnswer: () => this.answer(),
        onEdit: (message) => this.changes.edit(message),
        onBranch: (messageId) => this.changes.branch(messageId),
        onRegenerate: (promptId) => this.changes.regenerate(promptId),
        onFeedback: (messageId, feedback) => this.giveFeedback(messageId, feedback),
      },
    );
    this.composer = new Composer(byId("composer"), byId("chat"), {
      onSay: (message) => this.say(message),
      onStop: () => this.stop(),
      onCancelEdit: () => this.cancelEdit(),
      onTyped: (text) => this.editing ?? keepDraft(this.sessionId, text),
      recalled: () => saidBefore(this.conversation),
    });
    this.details = new DetailsPanel(byId("details"), { onDelete: remove, onClose: () => this.drawers.close() });
    this.list = new ConversationList(byId("list"), {
      addressOf,
      onOpen: (id) => this.go(id),
      onNew: () => this.go(null),
      onDelete: (id, title) => this.changes.remove(id, title),
      onClose: () => this.drawers.close(),
    });
  }

  start() {
    this.list.refresh();
    return this.open(addressed());
  }

  /** Take what is known of server and database; nothing is promised while one of them is away. */
  takeHealth(found, before) {
    this.takesTemperature = found.takes_temperature ?? this.takesTemperature;
    const away = found.status !== "ok";
    const who = found.status === "unavailable" ? "MongoDB" : "The server";
    this.away = away;
    this.composer.setAway(away ? who : null);
    this.thread.setAway(away);
    if (away && !this.listening) {
      this.notices.show("warn", `${who} does not answer. Nothing is sent or stored until it does; what you type is kept here.`);
    }
    if (away || before === null) return;
    this.list.refresh();
    if (this.sessionId !== null && this.conversation === null && !this.listening) this.open(this.sessionId);
    else if (!this.listening) this.#offerKept();
  }

  /** What was kept is sent when that is asked for. */
  #offerKept() {
    if (this.composer.isEmpty) this.notices.clear();
    else this.notices.show("info", "MongoDB answers again. Your message was kept.", ["Send it now", () => this.say(this.composer.message)]);
  }

  go(id) {
    if (id !== addressed()) history.pushState(null, "", addressOf(id));
    this.drawers.close();
    return this.open(id);
  }

  /** Show a conversation, null for a new one. */
  async open(id) {
    this.#leave();
    closeMenus();
    this.sessionId = id;
    this.conversation = null;
    this.list.select(id);
    this.composer.setState(id === null ? "ready" : "waiting");
    this.composer.setMessage({ text: draftOf(id) });
    if (!this.away) this.notices.clear();
    this.details.showEmpty();
    this.setTuning(UNTUNED);
    if (id === null) {
      this.head.show("New conversation", null);
      this.thread.showWelcome();
      this.composer.focus();
      return;
    }
    this.thread.showLoading();
    try {
      const conversation = await api.readSession(id);
      if (this.sessionId !== id || this.listening) return;
      this.take(conversation);
      this.thread.toEnd();
      this.composer.setState("ready");
      if (conversation.turn) this.listener.listen({ turn: conversation.turn });
      else this.composer.focus();
    } catch (error) {
      if (this.sessionId !== id) return;
      const missing = MISSING.has(error.status);
      this.head.show("Conversation", null);
      this.thread.showError(error, missing, () => this.open(id));
      // What is said to a conversation that is not here begins a new one.
      if (missing) this.composer.setState("ready");
      else this.checkHealth();
    }
  }

  beginEdit(messageId) {
    this.editing = messageId;
    this.composer.setEditing(true);
    this.notices.show("info", "You are editing an earlier message. Sent, it begins a new conversation; this one stays.", [
      "Cancel",
      () => this.cancelEdit(),
    ]);
  }

  cancelEdit() {
    this.#endEdit();
    this.composer.focus();
  }

  #endEdit() {
    if (this.editing === null) return;
    // What was typed before the edit is there again.
    this.composer.setMessage({ text: draftOf(this.sessionId) });
    this.editing = null;
    this.composer.setEditing(false);
    this.notices.clear();
  }

  /** @param {{text: string, files: object[]}} message */
  async say(message) {
    if (this.listening) return;
    if (this.away) {
      this.composer.setMessage(message);
      return;
    }
    let { tuning } = this;
    if (this.editing !== null) {
      const forked = await this.changes.forkBefore(this.editing);
      if (forked === null) return;
      this.#endEdit();
      await this.go(forked || null);
      if (forked ? !this.conversation : this.sessionId !== null) return;
    }
    this.composer.setMessage({ text: "" });
    const isNew = this.conversation === null;
    if (isNew) {
      this.sessionId = newId();
      this.thread.showWelcome();
      history.pushState(null, "", addressOf(this.sessionId));
      this.head.show(message.text || "New conversation", null);
      this.setTuning(tuning);
    } else {
      tuning = UNTUNED;
    }
    await this.listener.listen({ message, tuning: isTuned(tuning) ? tuning : null });
  }

  /** Have the last message answered, which has no reply. */
  answer() {
    if (!this.listening && this.conversation) return this.listener.listen({});
  }

  /** Show a conversation as it was read. */
  take(conversation) {
    conversation = withEarlier(conversation, this.conversation);
    this.conversation = conversation;
    this.head.show(conversation.title || "Conversation", conversation.session_id);
    this.setTuning(conversation.tuning);
    this.thread.show(conversation, { answering: conversation.turn !== null, failure: this.failure });
    this.details.show(conversation);
    this.list.select(conversation.session_id);
  }

  setTuning(tuning) {
    this.tuning = tuning;
    if (this.conversation) this.conversation.tuning = tuning;
    this.head.showTuning(tuning);
  }

  async loadOlder() {
    const { session_id: id, first } = this.conversation;
    try {
      const page = await api.readSession(id, first);
      if (this.conversation?.session_id !== id || this.conversation.first !== first) return;
      const messages = [...page.messages, ...this.conversation.messages];
      this.conversation = { ...this.conversation, first: page.first, messages };
      const answering = this.listening !== null;
      this.thread.keepingPlace(() => this.thread.show(this.conversation, { answering, failure: this.failure }));
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

  #leave() {
    this.listening?.abort();
    this.listening = null;
    this.failure = null;
    this.#endEdit();
  }
}
