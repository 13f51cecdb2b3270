// What is done with a conversation as a whole: renamed, tuned, branched, edited, deleted. Branches are forks.

import { lineDialog } from "../shared/dialogs.js";
import { confirmDialog, toast } from "../shared/feedback.js";
import * as api from "./api_client.js";
import { attachedFrom } from "./attachments.js";
import { textOf } from "./turns.js";
import { tuningDialog } from "./tuning_dialog.js";

export class ConversationChanges {
  /** @param {import("./playground.js").Playground} playground */
  constructor(playground) {
    this.playground = playground;
  }

  async rename() {
    const { sessionId: id, head } = this.playground;
    const title = await lineDialog({
      title: "Rename this conversation",
      label: "Title",
      value: head.title,
      longest: 120,
      confirm: "Rename",
    });
    if (title === null || !(await done(() => api.changeSession(id, { title }), "Renamed"))) return;
    if (this.playground.conversation?.session_id === id) {
      this.playground.conversation.title = title;
      head.show(title, id);
    }
    this.playground.list.refresh();
  }

  async tune() {
    const { conversation, sessionId: id, tuning, takesTemperature } = this.playground;
    const usual = conversation && tuning.system_prompt === null ? conversation.system_prompt : null;
    const chosen = await tuningDialog(tuning, { usual, takesTemperature });
    if (chosen === null || this.playground.sessionId !== id) return;
    const stored = conversation?.agent_id;
    if (stored && !(await done(() => api.changeSession(id, { tuning: chosen }), "Used from the next message on"))) return;
    this.playground.setTuning(chosen);
  }

  /** A new conversation up to a message, null for all of it; this one stays. */
  async branch(messageId = null) {
    const forked = await this.#fork(messageId);
    if (forked) await this.playground.go(forked);
  }

  /** The reply to a message once more, in a new conversation. */
  async regenerate(promptId) {
    const forked = await this.#fork(promptId);
    if (!forked) return;
    await this.playground.go(forked);
    if (this.playground.sessionId === forked && this.playground.conversation) this.playground.answer();
  }

  /** Put a message, with its files, into the box; sending it makes a new conversation. */
  async edit(message) {
    const { sessionId: id, composer } = this.playground;
    const files = [];
    try {
      for (const [place, block] of message.blocks.entries()) {
        if (block.type !== "image" && block.type !== "document") continue;
        const name = block.type === "image" ? `image-${place + 1}.${block.format}` : `${block.name}.${block.format}`;
        files.push(await attachedFrom(await api.readFile(id, message.message_id, place), name));
      }
    } catch (error) {
      toast(error.message, "error");
      return;
    }
    if (this.playground.sessionId !== id) return;
    this.playground.beginEdit(message.message_id);
    composer.setMessage({ text: textOf(message), files });
    composer.focus();
  }

  /**
   * The conversation in which an edited message is said: a fork that ends before it, or a new one for the first.
   *
   * @returns {Promise<string|null>} its id; `""` for a new one, null when there is none
   */
  async forkBefore(messageId) {
    return messageId === 0 ? "" : this.#fork(messageId - 1);
  }

  async remove(id, title) {
    const sure = await confirmDialog({
      title: "Delete this conversation?",
      text: `“${title.slice(0, 120)}” and everything stored with it will be gone: messages, metadata, state and feedback.`,
      confirm: "Delete",
      danger: true,
    });
    if (!sure) return;
    const gone = async () => {
      try {
        await api.deleteSession(id);
      } catch (error) {
        if (error.status !== 404) throw error;
      }
    };
    if (!(await done(gone, "Conversation deleted"))) return;
    this.playground.list.remove(id);
    if (id === this.playground.sessionId) this.playground.go(null);
    this.playground.list.refresh();
  }

  async #fork(messageId) {
    const { sessionId: id } = this.playground;
    let forked = null;
    const fork = async () => ({ session_id: forked } = await api.forkSession(id, messageId));
    await done(fork, "This is a new conversation; the first one stays as it was");
    this.playground.list.refresh();
    return forked;
  }
}

async function done(work, said) {
  try {
    await work();
    toast(said);
    return true;
  } catch (error) {
    toast(error.message, "error");
    return false;
  }
}
