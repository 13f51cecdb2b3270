// The list of conversations.

import { el, fill, userText } from "../shared/dom.js";
import { notice } from "../shared/feedback.js";
import { plural } from "../shared/format.js";
import { icon } from "../shared/icons.js";
import { timeElement } from "../shared/time.js";
import { listSessions } from "./api_client.js";

export class ConversationList {
  /**
   * @param {HTMLElement} root
   * @param {{onOpen: (id: string) => void, onNew: () => void, onDelete: (id: string, title: string) => void,
   *   onClose: () => void, addressOf: (id: string|null) => string}} actions
   */
  constructor(root, actions) {
    this.actions = actions;
    this.sessions = null;
    this.cursor = null;
    this.current = null;
    this.items = el("div.conversations");
    fill(
      root,
      el(
        "div.drawer-head",
        {},
        el("h2", { text: "Conversations" }),
        el("span.spacer"),
        el(
          "button.btn.btn-ghost.btn-sm.btn-icon.drawer-close",
          { type: "button", "aria-label": "Close the list", on: { click: () => actions.onClose() } },
          icon("close"),
        ),
      ),
      el(
        "a.btn.btn-block.new-chat",
        { href: actions.addressOf(null), id: "new-chat", on: { click: inPage(() => actions.onNew()) } },
        icon("plus"),
        "New conversation",
      ),
      this.items,
    );
    this.#draw();
  }

  /** Mark the conversation that is open, null for a new one. */
  select(id) {
    this.current = id;
    this.#draw();
  }

  /** Read the newest conversations again. */
  async refresh() {
    try {
      const page = await listSessions();
      const known = (this.sessions ?? []).slice(page.sessions.length);
      const ids = new Set(page.sessions.map((session) => session.session_id));
      const paged = this.cursor !== null && known.length > 0;
      this.sessions = paged ? [...page.sessions, ...known.filter((s) => !ids.has(s.session_id))] : page.sessions;
      if (!paged) this.cursor = page.next_cursor;
      this.#draw();
    } catch (error) {
      if (this.sessions === null) this.#drawError(error);
    }
  }

  /** Leave out one that was deleted. */
  remove(id) {
    this.sessions = (this.sessions ?? []).filter((session) => session.session_id !== id);
    this.#draw();
  }

  async #more(button) {
    button.disabled = true;
    try {
      const page = await listSessions(this.cursor);
      this.sessions = [...this.sessions, ...page.sessions];
      this.cursor = page.next_cursor;
      this.#draw();
    } catch (error) {
      button.disabled = false;
      button.textContent = `${error.message} Try again`;
    }
  }

  #draw() {
    if (this.sessions === null) {
      fill(this.items, ["w-90", "w-75", "w-60"].map((width) => el("span.skeleton", { class: width })));
      return;
    }
    const focused = this.items.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    fill(
      this.items,
      this.sessions.length ? el("ul.conversation-items", {}, this.sessions.map((session) => this.#item(session))) : nothing(),
      this.cursor
        ? el("button.btn.btn-sm.btn-ghost.btn-block", {
            type: "button",
            text: "Show more",
            on: { click: (event) => this.#more(event.currentTarget) },
          })
        : null,
    );
    if (focused) this.items.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  }

  #item(session) {
    const id = session.session_id;
    const title = session.title || id;
    return el(
      "li.conversation",
      { class: id === this.current ? "is-current" : "" },
      el(
        "a.conversation-link",
        {
          href: this.actions.addressOf(id),
          "aria-current": id === this.current ? "page" : null,
          data: { key: `open-${id}` },
          on: { click: inPage(() => this.actions.onOpen(id)) },
        },
        userText(title, "span.conversation-title.truncate.user-text"),
        el(
          "span.conversation-facts",
          {},
          session.running ? el("span.dot.dot-live", { role: "img", "aria-label": "answering" }) : null,
          timeElement(session.created_at),
          el("span", { text: `· ${plural(session.messages_count, "message")}` }),
        ),
      ),
      el(
        "button.btn.btn-ghost.btn-sm.btn-icon.conversation-delete",
        {
          type: "button",
          "aria-label": `Delete conversation: ${title}`,
          data: { tip: "Delete", key: `delete-${id}` },
          on: { click: () => this.actions.onDelete(id, title) },
        },
        icon("trash"),
      ),
    );
  }

  #drawError(error) {
    const again = el("button.btn.btn-sm", { type: "button", text: "Try again", on: { click: () => this.refresh() } });
    fill(this.items, notice("danger", error.message, again));
  }
}

function nothing() {
  return el("p.faint.conversations-empty", { text: "None yet. What you say first becomes its title." });
}

/** A click that stays in the page; with a modifier key the browser opens the link as it would any. */
function inPage(action) {
  return (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
    event.preventDefault();
    action();
  };
}
