// The sessions that the search found, a page at a time, kept current by what is announced.

import { el, fill } from "../shared/dom.js";
import { notice, stateView } from "../shared/feedback.js";
import { number, plural } from "../shared/format.js";
import { icon } from "../shared/icons.js";
import { menuButton } from "../shared/menu.js";
import { fullTime } from "../shared/time.js";
import { FORMATS } from "./detail_head.js";
import { markGone, resultRow } from "./result_row.js";

const SORTS = [
  ["updated", "Last activity"],
  ["created", "Created"],
  ["messages", "Messages"],
  ["tokens", "Tokens"],
];

export class ResultsList {
  /**
   * @param {HTMLElement} root
   * @param {object} on
   * @param {(sessionId: string, message: object|null) => void} on.open
   * @param {(step: 1|-1) => void} on.turn to the next or previous page
   * @param {() => void} on.retry
   * @param {() => void} on.clear all filters
   * @param {(sessionId: string, message?: object|null) => string} on.href
   * @param {(sort: string) => void} on.sort
   * @param {(field: string, value: unknown) => void} on.filter
   * @param {(field: string) => boolean} on.knows
   * @param {(sessionIds: string[], format: string) => string} on.archive address of an archive
   * @param {(one: string, other: string) => void} on.compare
   * @param {() => void} on.totals
   * @param {() => void} on.goOn looking for a text
   */
  constructor(root, on) {
    this.root = root;
    this.on = { ...on, choose: (sessionId, chosen) => this.#choose(sessionId, chosen) };
    this.selected = null;
    this.chosen = new Set();
    this.fresh = new Set();
    this.sought = "";
    this.summary = el("p.results-summary", { role: "status" });
    this.sort = el("select.select.select-sm", { "aria-label": "Order", on: { change: () => on.sort(this.sort.value) } }, SORTS.map(([value, text]) => el("option", { value, text })));
    this.pager = el("nav.pager", { "aria-label": "Pages of sessions", hidden: true });
    this.actions = el("div.results-actions", { hidden: true });
    this.pill = el("button.btn.btn-primary.btn-sm.results-new", { type: "button", hidden: true, on: { click: on.retry } });
    this.body = el("div.results-body");
    const totals = el("button.btn.btn-ghost.btn-icon.btn-sm", { type: "button", "aria-label": "Totals of these sessions", data: { tip: "Totals of these sessions" }, on: { click: on.totals } }, icon("chart"));
    fill(
      root,
      el("div.panel-head.results-head", {}, el("div.row", {}, el("h2", { text: "Sessions" }), this.summary, el("span.spacer"), this.sort, totals), this.pager, this.actions),
      el("div.results-live", { role: "status" }, this.pill),
      this.body,
    );
    root.addEventListener("keydown", (event) => this.#keys(event));
  }

  setSort(sort) {
    this.sort.value = sort;
  }

  loading() {
    this.body.setAttribute("aria-busy", "true");
    this.#forgetFresh();
    if (this.body.querySelector(".result")) return;
    this.summary.textContent = "Loading";
    const bone = () => el("div.result.result-bone", {}, el("span.skeleton.w-60"), el("span.skeleton.w-40"));
    fill(this.body, el("div.result-list", { "aria-hidden": "true" }, Array.from({ length: 10 }, bone)));
    this.pager.hidden = true;
  }

  /** @param {object} page the API's answer @param {number} pageNumber @param {boolean} filtered */
  show(page, pageNumber, filtered) {
    this.body.removeAttribute("aria-busy");
    const first = (pageNumber - 1) * page.limit;
    const total = `${number(page.total)}${page.total_exact ? "" : "+"}`;
    this.summary.textContent = page.total === 1 ? "1 session" : `${total} sessions`;
    if (page.sessions.length === 0) this.#empty(filtered, pageNumber);
    else {
      this.#rows(page.sessions);
      this.#pager(first, page, pageNumber, total);
      this.root.scrollTop = 0;
    }
  }

  /**
   * Show what a search for text found so far.
   *
   * @param {object} looked
   * @param {string} looked.text
   * @param {object[]} looked.sessions
   * @param {number} looked.searched sessions that were looked through
   * @param {string|null} looked.until how far back
   * @param {boolean} looked.ended
   * @param {boolean} looked.running
   * @param {number} looked.skipped
   */
  showFound({ text, sessions, searched, until, ended, running, skipped }) {
    this.body.removeAttribute("aria-busy");
    this.pager.hidden = true;
    this.sought = text;
    this.summary.textContent = `${number(sessions.length)} found`;
    const back = until ? ` back to ${fullTime(until)}` : "";
    const passed = skipped ? ` ${plural(skipped, "session")} too large to look through.` : "";
    const progress = el("p.results-progress", { role: "status" }, running ? el("span.spinner") : icon("search"), `Looked through ${plural(searched, "session")}${ended ? ", all of them" : back}.${passed}`);
    const goOn = el("button.btn.btn-sm", { type: "button", text: running ? "Stop" : "Go on", hidden: ended, on: { click: this.on.goOn } });
    const bar = el("div.results-looked", {}, progress, goOn);
    if (sessions.length === 0 && ended) this.#empty(true, 1);
    else this.#rows(sessions);
    this.body.prepend(bar);
  }

  fail(error) {
    this.body.removeAttribute("aria-busy");
    this.pager.hidden = true;
    this.summary.textContent = "";
    const retry = el("button.btn.btn-primary", { type: "button", on: { click: this.on.retry } }, icon("refresh"), "Try again");
    const clear = el("button.btn", { type: "button", text: "Clear filters", on: { click: this.on.clear } });
    const title = { 503: "The database does not answer", 0: "The server does not answer", 422: "This search does not work" };
    fill(
      this.body,
      stateView({
        art: "alert",
        danger: true,
        title: error.code === "too_slow" ? "This search takes too long" : (title[error.status] ?? "The search failed"),
        text: error.status === 0 ? "Is it still running? The search goes on when it answers again." : error.message,
        actions: error.status === 422 ? [clear] : [retry],
      }),
    );
  }

  /** Say that the list is old, without taking it away. */
  stale(text) {
    if (!this.body.querySelector(".notice")) this.body.prepend(notice("warn", text));
  }

  /** What the live list says: rows that are shown change in place, others are announced. */
  announce({ sessions, deleted, missed }) {
    for (const session of sessions) {
      const row = this.#row(session.session_id);
      if (row) this.#replace(row, session);
      else if (session.is_new) this.fresh.add(session.session_id);
    }
    for (const sessionId of deleted) {
      this.fresh.delete(sessionId);
      const row = this.#row(sessionId);
      if (row && markGone(row)) this.#choose(sessionId, false);
    }
    this.pill.hidden = this.fresh.size === 0 && !missed && this.pill.hidden;
    this.pill.textContent = missed ? "Many changes: show them" : `${number(this.fresh.size)} new`;
  }

  /** Mark the open session. */
  select(sessionId) {
    this.selected = sessionId;
    for (const link of this.#links()) {
      if (link.dataset.sessionId === sessionId) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }

  focusSelected() {
    (this.body.querySelector("a.result[aria-current]") ?? this.body.querySelector("a.result"))?.focus();
  }

  /** Go to the next or previous session from wherever one is; open it where one is open. */
  step(by) {
    const links = this.#links();
    if (links.length === 0) return;
    const focused = links.indexOf(document.activeElement?.closest(".result-row")?.querySelector("a.result"));
    const at = focused >= 0 ? focused : links.findIndex((link) => link.hasAttribute("aria-current"));
    const to = links[at < 0 ? 0 : Math.min(Math.max(at + by, 0), links.length - 1)];
    to.focus();
    if (this.selected !== null) to.click();
  }

  #links() {
    return [...this.body.querySelectorAll("a.result")];
  }

  #row(sessionId) {
    return this.#links().find((link) => link.dataset.sessionId === sessionId)?.closest(".result-row");
  }

  #rows(sessions) {
    const focused = this.body.contains(document.activeElement) ? document.activeElement.closest(".result-row")?.dataset.row : null;
    for (const id of this.chosen) if (!sessions.some((session) => session.session_id === id)) this.chosen.delete(id);
    fill(this.body, el("ul.result-list", {}, sessions.map((session) => this.#newRow(session))));
    this.#showActions();
    this.select(this.selected);
    if (focused) this.#row(focused)?.querySelector("a.result").focus();
    this.body.querySelector("a.result[aria-current]")?.scrollIntoView({ block: "nearest" });
  }

  #newRow(session) {
    return resultRow(session, this.on, this.chosen.has(session.session_id), this.sought);
  }

  #replace(row, session) {
    const focused = row.contains(document.activeElement);
    const hit = row.querySelector(".result-hit");
    const next = this.#newRow(session);
    if (hit) next.querySelector("a.result").append(hit);
    row.replaceWith(next);
    this.select(this.selected);
    if (focused) next.querySelector("a.result").focus();
  }

  #forgetFresh() {
    this.fresh.clear();
    this.pill.hidden = true;
  }

  #choose(sessionId, chosen) {
    if (chosen) this.chosen.add(sessionId);
    else this.chosen.delete(sessionId);
    this.#showActions();
  }

  #showActions() {
    const ids = [...this.chosen];
    this.actions.hidden = ids.length === 0;
    if (ids.length === 0) return;
    const compare = el("button.btn.btn-sm", { type: "button", disabled: ids.length !== 2, title: "Two sessions side by side", on: { click: () => this.on.compare(ids[0], ids[1]) } }, icon("split"), "Compare");
    const items = () => FORMATS.map(([format, label]) => ({ label, art: "file", href: this.on.archive(ids, format) }));
    const none = el("button.btn.btn-ghost.btn-sm", { type: "button", text: "None", "aria-label": "Choose none", on: { click: () => this.#chooseNone() } });
    fill(this.actions, el("span.num", { text: `${ids.length} chosen` }), el("span.spacer"), compare, menuButton({ label: "Export the chosen sessions", art: "download", text: "Export", items }), none);
  }

  #chooseNone() {
    this.chosen.clear();
    for (const box of this.body.querySelectorAll(".result-choice")) box.checked = false;
    this.#showActions();
    this.focusSelected();
  }

  #empty(filtered, pageNumber) {
    this.pager.hidden = true;
    this.chosen.clear();
    this.#showActions();
    const clear = el("button.btn", { type: "button", text: "Clear filters", on: { click: this.on.clear } });
    const back = el("button.btn", { type: "button", text: "Previous page", on: { click: () => this.on.turn(-1) } });
    let state = { art: "inbox", title: "No sessions yet", text: "Sessions appear here as soon as an agent with a MongoDB session manager stores its first message." };
    if (filtered) state = { art: "search", title: "Nothing matches", text: "No session fits all of these filters.", actions: [clear] };
    if (pageNumber > 1) state = { art: "inbox", title: "Nothing on this page", text: "The list ends before it.", actions: [back] };
    fill(this.body, stateView(state));
  }

  #pager(first, page, pageNumber, total) {
    const single = pageNumber === 1 && !page.has_more;
    this.pager.hidden = single;
    if (single) return;
    const turn = (step, label, name, disabled) =>
      el("button.btn.btn-ghost.btn-icon.btn-sm", { type: "button", disabled, "aria-label": label, data: { tip: label }, on: { click: () => this.on.turn(step) } }, icon(name));
    fill(
      this.pager,
      el("span.num.faint", { text: `${number(first + 1)}–${number(first + page.sessions.length)} of ${total}` }),
      el("span.spacer"),
      turn(-1, "Previous page", "arrowLeft", pageNumber === 1),
      turn(1, "Next page", "arrowRight", !page.has_more),
    );
  }

  #keys(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const row = event.target.closest?.(".result-row");
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!row || event.target.matches("select")) return;
    if (step) {
      event.preventDefault();
      const links = this.#links();
      const at = links.indexOf(row.querySelector("a.result"));
      links[Math.min(Math.max(at + step, 0), links.length - 1)].focus();
    } else if (event.key === "x") {
      event.preventDefault();
      row.querySelector(".result-choice").click();
    }
  }
}
