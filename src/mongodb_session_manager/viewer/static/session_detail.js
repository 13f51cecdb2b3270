// One session: its head, and tabs for the conversation, usage, metadata and agents; kept current by a live stream.

import { el, fill } from "../shared/dom.js";
import { notice, stateView } from "../shared/feedback.js";
import { compact } from "../shared/format.js";
import { isAbort } from "../shared/http.js";
import { icon } from "../shared/icons.js";
import { follow } from "../shared/sse.js";
import { detailTitle, showLive, showSummary, skeleton } from "./detail_head.js";
import { showAgents, showMetadata } from "./facts_tabs.js";
import { FindBar } from "./find_bar.js";
import { Tabs } from "./tabs.js";
import { Timeline } from "./timeline.js";
import { UsageTab } from "./usage_tab.js";

const TABS = [
  ["conversation", "Conversation"],
  ["usage", "Usage"],
  ["metadata", "Metadata"],
  ["agents", "Agents"],
];

export class SessionDetail {
  /**
   * @param {HTMLElement} root
   * @param {import("./api_client.js").APIClient} api
   * @param {object} on
   * @param {() => void} on.close
   * @param {(tab: string) => void} on.tab
   * @param {(message: {agentId: string, messageId: number}) => void} on.link asks for a link to a message
   * @param {boolean} [on.compared] stands beside another one
   */
  constructor(root, api, on) {
    this.root = root;
    this.api = api;
    this.on = on;
    this.sessionId = null;
    this.live = true;
  }

  /**
   * Open a session.
   *
   * @param {string} sessionId
   * @param {string} tab
   * @param {{agentId: string, messageId: number}|null} [message] to open at
   * @param {string} [text] to mark
   */
  async open(sessionId, tab, message = null, text = "") {
    this.end();
    this.sessionId = sessionId;
    this.tab = tab;
    this.place = message;
    this.loading = new AbortController();
    this.root.setAttribute("aria-busy", "true");
    fill(this.root, skeleton());
    try {
      const page = await this.#firstPage(message);
      this.#show(page);
      if (text && tab === "conversation") this.findBar.open(text);
      if (message) this.timeline.reveal(message);
    } catch (error) {
      if (isAbort(error)) return;
      this.#fail(error);
    } finally {
      if (this.sessionId === sessionId) this.root.removeAttribute("aria-busy");
    }
  }

  async #firstPage(message) {
    const { signal } = this.loading;
    if (!message) return this.api.session(this.sessionId, {}, signal);
    try {
      return await this.api.session(this.sessionId, { message }, signal);
    } catch (error) {
      if (error.status !== 404) throw error;
      // The message may be gone; the session says for itself whether it is.
      this.place = null;
      return this.api.session(this.sessionId, {}, signal);
    }
  }

  selectTab(name) {
    if (!this.tabs || this.tabs.selected === name) return;
    this.tab = name;
    this.tabs.select(name);
    this.#fillTab(name);
  }

  /** Find in the conversation. */
  find() {
    if (!this.findBar) return;
    if (this.tab !== "conversation") {
      this.selectTab("conversation");
      this.on.tab("conversation");
    }
    this.findBar.open();
  }

  closeFind() {
    return this.findBar?.close() ?? false;
  }

  toggleAll() {
    this.expand?.click();
  }

  /** Begin again: after the database came back, or on request. */
  reload() {
    if (this.sessionId !== null) this.open(this.sessionId, this.tab, this.place);
  }

  reloadFailed() {
    if (this.root.querySelector(".state-danger")) this.reload();
  }

  end() {
    this.loading?.abort();
    this.stopLive?.();
    this.timeline?.destroy();
    this.usage?.destroy();
    this.findBar?.destroy();
    this.stopLive = this.timeline = this.usage = this.tabs = this.findBar = this.expand = null;
  }

  #show(page) {
    this.head = page;
    this.liveCursor = page.live_cursor;
    this.tabs = new Tabs(TABS, (name) => {
      this.tab = name;
      this.#fillTab(name);
      this.on.tab(name);
    });
    this.summary = el("div.detail-summary");
    this.notices = el("div.detail-notices");
    this.timeline = new Timeline(
      this.root,
      (options) => this.api.session(this.sessionId, options, this.loading.signal),
      (agentId, messageId) => this.api.message(this.sessionId, agentId, messageId),
      {
        latest: () => this.#restart({ order: "desc" }),
        around: (message) => this.#restart({ message }),
        link: (item) => this.on.link({ agentId: item.agent_id, messageId: item.message_id }),
      },
    );
    this.findBar = new FindBar(
      (text, signal) => this.api.find(this.sessionId, text, signal),
      (message) => this.timeline.reveal(message),
      this.timeline.list,
    );
    this.tabs.panels.get("conversation").append(this.#conversationBar(), this.timeline.root);
    fill(
      this.root,
      el("header.detail-head", {}, this.#title(), this.summary),
      el("div.detail-tabs", {}, this.tabs.list, this.findBar.root),
      this.notices,
      [...this.tabs.panels.values()],
    );
    this.tabs.select(this.tab);
    this.#showHead();
    this.timeline.start(page, "asc");
    this.#fillTab(this.tab);
    this.#setLive(this.live);
  }

  #title() {
    this.liveButton = el("button.btn.btn-sm.live", { type: "button", data: { tip: "Show new messages as they arrive" }, on: { click: () => this.#setLive(!this.live) } });
    const on = {
      close: this.on.close,
      reload: () => this.reload(),
      find: () => this.find(),
      exportUrl: (format) => this.api.exportUrl(this.sessionId, format),
    };
    return detailTitle(this.head, on, this.liveButton, this.on.compared);
  }

  #conversationBar() {
    const only = el("input", { type: "checkbox", on: { change: () => this.timeline.conversationOnly(only.checked) } });
    const label = el("span", { text: "Expand all" });
    this.expand = el("button.btn.btn-ghost.btn-sm", { type: "button", "aria-keyshortcuts": "e" }, icon("expand"), label);
    this.expand.addEventListener("click", () => {
      const open = label.textContent === "Expand all";
      label.textContent = open ? "Collapse all" : "Expand all";
      this.expand.replaceChildren(icon(open ? "collapse" : "expand"), label);
      this.timeline.expandAll(open);
    });
    const jump = (text, name, press) => el("button.btn.btn-ghost.btn-sm", { type: "button", on: { click: press } }, icon(name), text);
    return el(
      "div.conversation-bar",
      {},
      el("label.switch", {}, only, "Conversation only"),
      this.expand,
      el("span.spacer"),
      jump("Start", "arrowUp", () => this.#restart({ order: "asc" })),
      jump("Latest", "arrowDown", () => this.#restart({ order: "desc" })),
    );
  }

  #showHead() {
    const { head } = this;
    showSummary(this.summary, head);
    this.tabs.setCount("conversation", compact(head.counts.messages));
    this.tabs.setCount("metadata", String(Object.keys(head.metadata).length || ""));
    this.tabs.setCount("agents", String(head.agents_summary.length || ""));
  }

  #fillTab(name) {
    const panel = this.tabs.panels.get(name);
    if (name !== "conversation") this.findBar.close();
    if (name === "metadata") showMetadata(panel, this.head);
    if (name === "agents") showAgents(panel, this.head.agents_summary);
    if (name !== "usage") return;
    this.usage?.destroy();
    this.usage = new UsageTab(panel, (signal) => this.api.usage(this.sessionId, signal));
    this.usage.show(this.head);
  }

  async #restart(options) {
    const { sessionId } = this;
    try {
      const page = await this.api.session(sessionId, options, this.loading.signal);
      if (sessionId === this.sessionId) this.timeline.start(page, options.order ?? "asc");
    } catch (error) {
      if (!isAbort(error)) this.#say("danger", error.message);
    }
  }

  #setLive(live) {
    this.live = live;
    this.stopLive?.();
    this.stopLive = null;
    if (live) {
      this.stopLive = follow(this.api.eventsUrl(this.sessionId, this.liveCursor), {
        onEvent: (event) => this.#event(event),
        onState: (state) => showLive(this.liveButton, state, this.live),
      });
    } else {
      showLive(this.liveButton, "paused", this.live);
    }
  }

  #event({ event, data }) {
    const value = JSON.parse(data);
    if (value.cursor) this.liveCursor = value.cursor;
    if (event === "items") this.timeline.arrive(value.items);
    else if (event === "session") this.#update(value);
    else if (event === "unavailable") this.#say("warn", "MongoDB does not answer. New messages will appear when it is back.");
    else if (event === "available") fill(this.notices);
    else if (event === "deleted") this.#deleted();
  }

  #update(head) {
    this.head = head;
    this.#showHead();
    if (this.tab === "metadata" || this.tab === "agents") this.#fillTab(this.tab);
  }

  #deleted() {
    this.#setLive(false);
    this.liveButton.disabled = true;
    this.#say("warn", "This session was deleted. What is shown here is no longer stored.");
  }

  #say(kind, text) {
    fill(this.notices, notice(kind, text));
  }

  #fail(error) {
    const back = el("button.btn", { type: "button", text: "Back to the list", on: { click: this.on.close } });
    const again = el("button.btn.btn-primary", { type: "button", on: { click: () => this.reload() } }, icon("refresh"), "Try again");
    const missing = error.status === 404;
    fill(
      this.root,
      stateView({
        art: missing ? "search" : "alert",
        danger: !missing,
        title: missing ? "No such session" : "The session could not be opened",
        text: missing ? `There is no session ${this.sessionId}. It may have expired or been deleted.` : error.message,
        actions: missing ? [back] : [again, back],
      }),
    );
  }
}
