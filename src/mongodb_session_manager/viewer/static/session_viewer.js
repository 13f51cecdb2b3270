// The whole page: the state in its address, and the panels that show it.

import { byId, el } from "../shared/dom.js";
import { openDialog, toast } from "../shared/feedback.js";
import { isAbort } from "../shared/http.js";
import { APIClient } from "./api_client.js";
import { FilterPanel } from "./filter_panel.js";
import { Gate } from "./gate.js";
import { HealthBadge } from "./health_badge.js";
import { ResultsList } from "./results_list.js";
import { SessionDetail } from "./session_detail.js";
import { readState, writeState } from "./urls.js";

const KEYS = [
  ["/", "Search by session id"],
  ["↑ ↓ or k j", "Move through the list of sessions"],
  ["Enter", "Open the session"],
  ["← →", "Move through the tabs"],
  ["Esc", "Close the session"],
  ["?", "Show this list"],
];

export class SessionViewer {
  constructor() {
    this.state = readState(location.search);
    this.cursors = new Map();
    this.api = new APIClient({ onUnauthorized: () => this.#unauthorized(), onTrouble: () => this.health.trouble() });
    this.layout = byId("layout");
    this.gate = new Gate(byId("gate"), this.api, (access) => this.#enter(access));
    this.filters = new FilterPanel(byId("filters"), (change) => this.#go({ ...change, page: 1 }, { replace: true }));
    this.results = new ResultsList(byId("results"), {
      open: (sessionId) => this.#go({ sessionId, tab: "conversation" }),
      turn: (step) => this.#go({ page: Math.max(1, this.state.page + step) }),
      retry: () => this.#search(),
      clear: () => this.#go({ query: "", filters: {}, from: "", to: "", page: 1 }),
      href: (sessionId) => writeState({ ...this.state, sessionId, tab: "conversation" }),
    });
    this.detail = new SessionDetail(byId("detail"), this.api, {
      close: () => this.#close(),
      tab: (tab) => this.#go({ tab }, { replace: true }),
    });
    this.health = new HealthBadge(byId("health"), this.api, () => this.#recovered());
  }

  async start() {
    this.health.start();
    byId("logout").addEventListener("click", () => this.#logout());
    byId("shortcuts").addEventListener("click", () => this.#showKeys());
    window.addEventListener("popstate", () => this.#apply(readState(location.search)));
    document.addEventListener("keydown", (event) => this.#keys(event));
    await this.#begin();
  }

  async #begin() {
    try {
      this.#enter(await this.api.access());
    } catch (error) {
      this.#enter({ access: "all", login_required: false, session_id: null });
      toast(error.message, "error");
    }
  }

  /** Show what this browser may see. */
  #enter(access) {
    this.access = access;
    byId("logout").hidden = !access.login_required || access.access === "none";
    const { sessionId } = this.state;
    const allowed = access.access === "all" || (access.access === "session" && (!sessionId || sessionId === access.session_id));
    byId("gate").hidden = allowed;
    this.layout.hidden = !allowed;
    if (!allowed) {
      this.detail.showNothing();
      this.gate.show(sessionId);
      return;
    }
    this.layout.classList.toggle("single", access.access === "session");
    if (access.access === "session") this.state.sessionId = access.session_id;
    else this.#loadFields();
    this.#show({ search: access.access === "all", open: true });
  }

  #unauthorized() {
    if (!byId("gate").hidden) return;
    this.#enter({ access: "none", session_id: null, login_required: true });
  }

  async #logout() {
    try {
      const access = await this.api.logout();
      this.#enter(access);
    } catch (error) {
      toast(error.message, "error");
    }
  }

  async #loadFields() {
    try {
      const { fields } = await this.api.metadataFields();
      this.filters.setFields(fields);
      this.fieldsMissing = false;
    } catch {
      // The search beside it says what is wrong; the fields are asked for again when the server recovers.
      this.fieldsMissing = true;
    }
  }

  #recovered() {
    if (this.layout.hidden || this.access?.access !== "all") return;
    if (this.fieldsMissing) this.#loadFields();
    this.#search();
    if (byId("detail").querySelector(".state-danger")) this.detail.reload();
  }

  /** Change the state of the page, and its address with it. */
  #go(change, { replace = false } = {}) {
    const next = { ...this.state, ...change };
    history[replace ? "replaceState" : "pushState"](null, "", writeState(next));
    this.#apply(next);
  }

  #apply(next) {
    const before = this.state;
    this.state = next;
    const searched = (state) => JSON.stringify([state.query, state.filters, state.from, state.to, state.limit]);
    const narrowed = searched(before) !== searched(next);
    if (narrowed) this.cursors.clear();
    if (this.access?.access === "session" && next.sessionId !== this.access.session_id) {
      this.#enter(this.access);
      return;
    }
    this.#show({ search: narrowed || before.page !== next.page, open: before.sessionId !== next.sessionId });
  }

  #show({ search, open }) {
    const { sessionId, tab } = this.state;
    this.layout.dataset.view = sessionId ? "detail" : "list";
    document.title = sessionId ? `${sessionId} · Session Viewer` : "Session Viewer";
    this.filters.setState(this.state);
    this.results.select(sessionId);
    if (search) this.#search();
    if (!open) this.detail.selectTab(tab);
    else if (sessionId) this.detail.open(sessionId, tab);
    else this.detail.showNothing();
  }

  async #search() {
    this.searching?.abort();
    this.searching = new AbortController();
    const { state } = this;
    this.results.loading();
    try {
      const page = await this.api.search(state, this.cursors.get(state.page) ?? null, this.searching.signal);
      if (page.next_cursor) this.cursors.set(state.page + 1, page.next_cursor);
      const filtered = Boolean(state.query || state.from || state.to || Object.keys(state.filters).length);
      this.results.show(page, state.page, filtered);
    } catch (error) {
      if (!isAbort(error)) this.results.fail(error);
    }
  }

  #close() {
    this.#go({ sessionId: null, tab: "conversation" });
    this.results.focusSelected();
  }

  #keys(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || this.layout.hidden || event.defaultPrevented) return;
    if (document.querySelector("dialog[open]")) return;
    const typing = event.target.closest("input, textarea, select");
    if (event.key === "Escape" && this.state.sessionId && !typing && this.access.access === "all") this.#close();
    if (typing) return;
    if (event.key === "/" && this.access.access === "all") {
      event.preventDefault();
      if (this.layout.dataset.view === "detail" && matchMedia("(max-width: 48rem)").matches) this.#close();
      this.filters.focusSearch();
    }
    if (event.key === "?") this.#showKeys();
  }

  #showKeys() {
    openDialog(
      el(
        "dialog.dialog",
        { "aria-labelledby": "keys-title" },
        el("h2.dialog-title", { id: "keys-title", text: "Keyboard" }),
        el("dl.keys", {}, KEYS.map(([key, text]) => [el("dt", {}, el("kbd", { text: key })), el("dd", { text })])),
        el("form.dialog-actions", { method: "dialog" }, el("button.btn", { text: "Close", autofocus: true })),
      ),
    );
  }
}
