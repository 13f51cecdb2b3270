// The list of conversations.

import { debounce, el, fill, userText } from "../shared/dom.js";
import { excerptView } from "../shared/excerpts.js";
import { notice } from "../shared/feedback.js";
import { oneLine, plural } from "../shared/format.js";
import { icon } from "../shared/icons.js";
import { isAbort } from "../shared/http.js";
import { fullTime, timeElement } from "../shared/time.js";
import { listSessions, searchSessions } from "./api_client.js";

const SEARCH_AFTER_MS = 250;

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
    this.found = null;
    this.searching = null;
    this.items = el("div.conversations", { "aria-live": "polite" });
    this.search = el("input.input", {
      type: "search",
      id: "search",
      "aria-label": "Search conversations",
      placeholder: "Search titles and messages",
      maxlength: 200,
      autocomplete: "off",
      on: {
        input: debounce(() => this.#search(), SEARCH_AFTER_MS),
        keydown: (event) => {
          if (event.key !== "Escape" || !this.search.value) return;
          event.stopPropagation();
          this.search.value = "";
          this.#search();
        },
      },
    });
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
      el("div.input-icon", {}, icon("search"), this.search),
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
      if (this.found !== null) await this.#search();
    } catch (error) {
      if (this.sessions === null) this.#drawError(error);
    }
  }

  /** Leave out one that was deleted. */
  remove(id) {
    const others = (sessions) => sessions?.filter((session) => session.session_id !== id) ?? null;
    this.sessions = others(this.sessions ?? []);
    if (this.found) this.found.sessions = others(this.found.sessions);
    this.#draw();
  }

  async #search() {
    this.searching?.abort();
    const text = this.search.value.trim();
    if (!text) {
      this.found = null;
      this.#draw();
      return;
    }
    const searching = (this.searching = new AbortController());
    try {
      const page = await searchSessions(text, null, searching.signal);
      if (searching.signal.aborted) return;
      this.found = page;
      this.#draw();
    } catch (error) {
      if (!isAbort(error) && !searching.signal.aborted) fill(this.items, notice("danger", error.message));
    }
  }

  async #more(button) {
    button.disabled = true;
    try {
      if (this.found) {
        const page = await searchSessions(this.search.value.trim(), this.found.next_cursor);
        this.found = { ...page, sessions: [...this.found.sessions, ...page.sessions] };
      } else {
        const page = await listSessions(this.cursor);
        this.sessions = [...this.sessions, ...page.sessions];
        this.cursor = page.next_cursor;
      }
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
    const sessions = this.found?.sessions ?? this.sessions;
    const focused = this.items.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    fill(
      this.items,
      this.found === null ? null : el("p.faint.conversations-found", { text: foundText(this.found) }),
      sessions.length ? el("ul.conversation-items", {}, sessions.map((session) => this.#item(session))) : null,
      sessions.length || this.found ? null : nothing(),
      (this.found ? this.found.next_cursor : this.cursor)
        ? el("button.btn.btn-sm.btn-ghost.btn-block", {
            type: "button",
            text: this.found ? "Look further back" : "Show more",
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
        session.excerpt ? excerptView(oneLine(session.excerpt, 120), this.search.value.trim(), "span.conversation-excerpt.user-text") : null,
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

function foundText({ sessions, searched_until: until }) {
  const count = `${plural(sessions.length, "conversation")} found`;
  return until ? `${count}, back to ${fullTime(until)}` : count;
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
