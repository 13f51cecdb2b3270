// One session: its head, and tabs for the conversation, usage, metadata and agents; kept current by a live stream.

import { el, fill, userText } from "../shared/dom.js";
import { copyText, notice, stateView } from "../shared/feedback.js";
import { compact, plural } from "../shared/format.js";
import { isAbort } from "../shared/http.js";
import { icon } from "../shared/icons.js";
import { follow } from "../shared/sse.js";
import { timeElement } from "../shared/time.js";
import { exportMenu, skeleton } from "./detail_parts.js";
import { showAgents, showMetadata } from "./facts_tabs.js";
import { Tabs } from "./tabs.js";
import { Timeline } from "./timeline.js";
import { sessionLink } from "./urls.js";
import { UsageTab } from "./usage_tab.js";

export class SessionDetail {
  /**
   * @param {HTMLElement} root
   * @param {import("./api_client.js").APIClient} api
   * @param {object} on
   * @param {() => void} on.close
   * @param {(tab: string) => void} on.tab
   */
  constructor(root, api, on) {
    this.root = root;
    this.api = api;
    this.on = on;
    this.sessionId = null;
    this.live = true;
  }

  /** Say what to do while no session is open. */
  showNothing() {
    this.#end();
    this.sessionId = null;
    fill(
      this.root,
      stateView({ art: "stack", title: "Choose a session", text: "Its conversation, usage, metadata and agents are shown here." }),
    );
  }

  /** Open a session. */
  async open(sessionId, tab) {
    this.#end();
    this.sessionId = sessionId;
    this.tab = tab;
    this.loading = new AbortController();
    this.root.setAttribute("aria-busy", "true");
    fill(this.root, skeleton());
    try {
      const page = await this.api.session(sessionId, {}, this.loading.signal);
      this.#show(page);
    } catch (error) {
      if (isAbort(error)) return;
      this.#fail(error);
    } finally {
      if (this.sessionId === sessionId) this.root.removeAttribute("aria-busy");
    }
  }

  selectTab(name) {
    if (!this.tabs || this.tabs.selected === name) return;
    this.tab = name;
    this.tabs.select(name);
    this.#fillTab(name);
  }

  /** Begin again: after the database came back, or on request. */
  reload() {
    if (this.sessionId !== null) this.open(this.sessionId, this.tab);
  }

  #end() {
    this.loading?.abort();
    this.stopLive?.();
    this.timeline?.destroy();
    this.usage?.destroy();
    this.stopLive = this.timeline = this.usage = this.tabs = null;
  }

  #show(page) {
    this.head = page;
    this.liveCursor = page.live_cursor;
    this.tabs = new Tabs(
      [
        ["conversation", "Conversation"],
        ["usage", "Usage"],
        ["metadata", "Metadata"],
        ["agents", "Agents"],
      ],
      (name) => {
        this.tab = name;
        this.#fillTab(name);
        this.on.tab(name);
      },
    );
    this.summary = el("div.detail-summary");
    this.notices = el("div.detail-notices");
    const bar = this.#conversationBar();
    this.timeline = new Timeline(
      this.root,
      (options) => this.api.session(this.sessionId, options, this.loading.signal),
      (agentId, messageId) => this.api.message(this.sessionId, agentId, messageId),
      () => this.#latest(),
    );
    this.tabs.panels.get("conversation").append(bar, this.timeline.root);
    fill(
      this.root,
      el("header.detail-head", {}, this.#title(), this.summary),
      el("div.detail-tabs", {}, this.tabs.list),
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
    const button = (name, label, press, spec = "button.btn.btn-ghost.btn-icon") =>
      el(spec, { type: "button", "aria-label": label, data: { tip: label }, on: { click: press } }, icon(name));
    this.liveButton = el("button.btn.btn-sm.live", {
      type: "button",
      data: { tip: "Show new messages as they arrive" },
      on: { click: () => this.#setLive(!this.live) },
    });
    return el(
      "div.detail-title",
      {},
      button("arrowLeft", "Back to the list", this.on.close, "button.btn.btn-ghost.btn-icon.back"),
      userText(this.sessionId, "h1.mono.user-text"),
      el(
        "div.detail-actions",
        {},
        this.liveButton,
        button("copy", "Copy the id", () => copyText(this.sessionId, "Id")),
        button("link", "Copy the link", () => copyText(sessionLink(this.sessionId), "Link")),
        exportMenu((format) => this.api.exportUrl(this.sessionId, format)),
        button("refresh", "Reload", () => this.reload()),
      ),
    );
  }

  #conversationBar() {
    const only = el("input", { type: "checkbox", on: { change: () => this.timeline.conversationOnly(only.checked) } });
    const expand = el(
      "button.btn.btn-ghost.btn-sm",
      { type: "button", "aria-pressed": "false" },
      icon("expand"),
      el("span", { text: "Expand all" }),
    );
    expand.addEventListener("click", () => {
      const open = expand.getAttribute("aria-pressed") !== "true";
      expand.setAttribute("aria-pressed", String(open));
      this.timeline.expandAll(open);
    });
    const jump = (label, name, press) => el("button.btn.btn-ghost.btn-sm", { type: "button", on: { click: press } }, icon(name), label);
    return el(
      "div.conversation-bar",
      {},
      el("label.switch", {}, only, "Conversation only"),
      expand,
      el("span.spacer"),
      jump("Start", "play", () => this.#restart("asc")),
      jump("Latest", "arrowDown", () => this.#latest()),
    );
  }

  #showHead() {
    const { head } = this;
    const { messages, feedbacks, guardrails } = head.counts;
    const fact = (name, text) => el("span.fact", {}, icon(name), text);
    fill(
      this.summary,
      head.application_name === null ? null : userText(head.application_name, "span.badge.badge-accent.user-text"),
      fact("chat", plural(messages, "message")),
      fact("agent", plural(head.agents_summary.length, "agent")),
      head.usage.total_tokens === null ? null : fact("bolt", `${compact(head.usage.total_tokens)} tokens`),
      feedbacks ? fact("thumbUp", plural(feedbacks, "feedback", "feedbacks")) : null,
      guardrails ? fact("shield", plural(guardrails, "guardrail event")) : null,
      el("span.fact", {}, icon("clock"), "active ", timeElement(head.updated_at)),
    );
    this.tabs.setCount("conversation", compact(messages));
    this.tabs.setCount("metadata", String(Object.keys(head.metadata).length || ""));
    this.tabs.setCount("agents", String(head.agents_summary.length || ""));
  }

  #fillTab(name) {
    const panel = this.tabs.panels.get(name);
    if (name === "metadata") showMetadata(panel, this.head);
    if (name === "agents") showAgents(panel, this.head.agents_summary);
    if (name !== "usage") return;
    this.usage?.destroy();
    this.usage = new UsageTab(panel, (signal) => this.api.usage(this.sessionId, signal));
    this.usage.show(this.head);
  }

  async #restart(order) {
    const sessionId = this.sessionId;
    try {
      const page = await this.api.session(sessionId, { order }, this.loading.signal);
      if (sessionId !== this.sessionId) return;
      this.timeline.start(page, order);
    } catch (error) {
      if (!isAbort(error)) this.#say("danger", error.message);
    }
  }

  #latest() {
    return this.#restart("desc");
  }

  #setLive(live) {
    this.live = live;
    this.stopLive?.();
    this.stopLive = null;
    if (live) {
      this.stopLive = follow(this.api.eventsUrl(this.sessionId, this.liveCursor), {
        onEvent: (event) => this.#event(event),
        onState: (state) => this.#showLive(state),
      });
    } else {
      this.#showLive("paused");
    }
  }

  #showLive(state) {
    const looks = {
      connecting: ["dot-warn", "Connecting"],
      open: ["dot-live", "Live"],
      waiting: ["dot-warn", "Reconnecting"],
      refused: ["dot-danger", "Not live"],
      paused: ["", "Paused"],
    };
    const [dot, text] = looks[state];
    this.liveButton.setAttribute("aria-pressed", String(this.live));
    this.liveButton.dataset.state = state;
    fill(this.liveButton, el("span.dot", { class: dot }), text);
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
