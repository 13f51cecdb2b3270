// The sessions that the search found, a page at a time.

import { el, fill, userText } from "../shared/dom.js";
import { notice, stateView } from "../shared/feedback.js";
import { compact, number, oneLine, plural } from "../shared/format.js";
import { icon } from "../shared/icons.js";
import { timeElement } from "../shared/time.js";

const BADGES = 3;

export class ResultsList {
  /**
   * @param {HTMLElement} root
   * @param {object} on
   * @param {(sessionId: string) => void} on.open
   * @param {(step: 1|-1) => void} on.turn to the next or previous page
   * @param {() => void} on.retry
   * @param {() => void} on.clear all filters
   * @param {(sessionId: string) => string} on.href
   */
  constructor(root, on) {
    this.root = root;
    this.on = on;
    this.selected = null;
    this.summary = el("p.results-summary", { role: "status" });
    this.body = el("div.results-body");
    this.pager = el("nav.pager", { "aria-label": "Pages of sessions", hidden: true });
    fill(root, el("div.panel-head", {}, el("h2", { text: "Sessions" }), el("span.spacer"), this.summary), this.body, this.pager);
    root.addEventListener("keydown", (event) => this.#keys(event));
  }

  loading() {
    this.body.setAttribute("aria-busy", "true");
    if (this.body.querySelector(".result")) return;
    this.summary.textContent = "Loading";
    const bone = () =>
      el("div.result.result-bone", {}, el("span.skeleton.w-60"), el("span.skeleton.w-40"), el("span.skeleton.w-75"));
    fill(this.body, el("div.stack.result-list", { "aria-hidden": "true" }, Array.from({ length: 6 }, bone)));
    this.pager.hidden = true;
  }

  /** @param {object} page the API's answer @param {number} pageNumber @param {boolean} filtered */
  show(page, pageNumber, filtered) {
    this.body.removeAttribute("aria-busy");
    const first = (pageNumber - 1) * page.limit;
    const total = `${number(page.total)}${page.total_exact ? "" : "+"}`;
    this.summary.textContent = page.total === 1 ? "1 session" : `${total} sessions`;
    if (page.sessions.length === 0) {
      this.#empty(filtered, pageNumber);
      return;
    }
    fill(this.body, el("ul.stack.result-list", {}, page.sessions.map((session) => this.#card(session))));
    this.root.scrollTop = 0;
    this.#pager(first, page, pageNumber, total);
    this.select(this.selected);
    this.body.querySelector("a.result[aria-current]")?.scrollIntoView({ block: "nearest" });
  }

  fail(error) {
    this.body.removeAttribute("aria-busy");
    this.pager.hidden = true;
    this.summary.textContent = "";
    const retry = el("button.btn.btn-primary", { type: "button", on: { click: this.on.retry } }, icon("refresh"), "Try again");
    const clear = el("button.btn", { type: "button", text: "Clear filters", on: { click: this.on.clear } });
    const badInput = error.status === 422;
    const title = { 503: "The database does not answer", 0: "The server does not answer", 422: "This search does not work" };
    fill(
      this.body,
      stateView({
        art: "alert",
        danger: true,
        title: title[error.status] ?? "The search failed",
        text: error.status === 0 ? "Is it still running? The search goes on when it answers again." : error.message,
        actions: badInput ? [clear] : [retry],
      }),
    );
  }

  /** Say that the list is old, without taking it away. */
  stale(text) {
    if (!this.body.querySelector(".notice")) this.body.prepend(notice("warn", text));
  }

  /** Mark the open session. */
  select(sessionId) {
    this.selected = sessionId;
    for (const link of this.body.querySelectorAll("a.result")) {
      if (link.dataset.sessionId === sessionId) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }

  focusSelected() {
    (this.body.querySelector("a.result[aria-current]") ?? this.body.querySelector("a.result"))?.focus();
  }

  #empty(filtered, pageNumber) {
    this.pager.hidden = true;
    const clear = el("button.btn", { type: "button", text: "Clear filters", on: { click: this.on.clear } });
    const back = el("button.btn", { type: "button", text: "Previous page", on: { click: () => this.on.turn(-1) } });
    let state = {
      art: "inbox",
      title: "No sessions yet",
      text: "Sessions appear here as soon as an agent with a MongoDB session manager stores its first message.",
    };
    if (filtered) state = { art: "search", title: "Nothing matches", text: "No session fits all of these filters.", actions: [clear] };
    if (pageNumber > 1) state = { art: "inbox", title: "Nothing on this page", text: "The list ends before it.", actions: [back] };
    fill(this.body, stateView(state));
  }

  #card(session) {
    const id = session.session_id;
    const link = el(
      "a.result",
      {
        href: this.on.href(id),
        data: { sessionId: id },
        on: {
          click: (event) => {
            if (event.metaKey || event.ctrlKey || event.shiftKey) return;
            event.preventDefault();
            this.on.open(id);
          },
        },
      },
      el(
        "div.row",
        {},
        userText(id, "span.result-id.mono.truncate.user-text"),
        el("span.spacer"),
        el("span.result-time", {}, timeElement(session.updated_at ?? session.created_at)),
      ),
      session.application_name ? userText(session.application_name, "div.result-app.truncate") : null,
      this.#facts(session),
      this.#badges(session.metadata),
    );
    return el("li", {}, link);
  }

  #facts({ messages_count: messages, agents_count: agents, feedbacks_count: feedbacks, usage }) {
    const fact = (name, text, meaning) => el("span", { title: meaning }, icon(name), el("span", { text }), el("span.visually-hidden", { text: ` ${meaning}` }));
    const tokens = usage?.totalTokens;
    return el(
      "div.result-facts.num",
      {},
      messages === null ? null : fact("chat", number(messages), messages === 1 ? "message" : "messages"),
      agents === null ? null : fact("agent", number(agents), agents === 1 ? "agent" : "agents"),
      feedbacks ? fact("thumbUp", number(feedbacks), feedbacks === 1 ? "feedback" : "feedbacks") : null,
      typeof tokens === "number" ? fact("bolt", compact(tokens), "tokens") : null,
    );
  }

  #badges(metadata) {
    const isPlain = (value) => value === null || typeof value !== "object";
    const all = Object.entries(metadata ?? {});
    const entries = [...all.filter(([, value]) => isPlain(value)), ...all.filter(([, value]) => !isPlain(value))];
    if (entries.length === 0) return null;
    const badge = ([key, value]) =>
      el(
        "span.badge.meta-badge",
        { title: `${key}: ${oneLine(value, 200)}` },
        userText(oneLine(key, 40), "span.badge-key.truncate"),
        userText(oneLine(value, 60), "span.truncate"),
      );
    const rest = entries.length - BADGES;
    return el(
      "div.result-badges",
      {},
      entries.slice(0, BADGES).map(badge),
      rest > 0 ? el("span.badge", { text: `+${rest}`, title: plural(rest, "further field") }) : null,
    );
  }

  #pager(first, page, pageNumber, total) {
    const single = pageNumber === 1 && !page.has_more;
    this.pager.hidden = single;
    if (single) return;
    const turn = (step, label, name, disabled) =>
      el(
        "button.btn.btn-sm",
        { type: "button", disabled, "aria-label": label, on: { click: () => this.on.turn(step) } },
        step < 0 ? icon(name) : null,
        step < 0 ? "Previous" : "Next",
        step > 0 ? icon(name) : null,
      );
    fill(
      this.pager,
      turn(-1, "Previous page", "arrowLeft", pageNumber === 1),
      el("span.num.faint", { text: `${number(first + 1)}–${number(first + page.sessions.length)} of ${total}` }),
      turn(1, "Next page", "chevron", !page.has_more),
    );
  }

  #keys(event) {
    const step = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[event.key];
    const links = [...this.body.querySelectorAll("a.result")];
    const at = links.indexOf(document.activeElement);
    if (!step || at < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    links[Math.min(Math.max(at + step, 0), links.length - 1)].focus();
  }
}
