// The whole page: the state in its address, and the panels that show it.

import { byId } from "../shared/dom.js";
import { toast } from "../shared/feedback.js";
import { isAbort } from "../shared/http.js";
import { follow } from "../shared/sse.js";
import { APIClient } from "./api_client.js";
import { DetailPanels } from "./detail_panels.js";
import { FilterPanel } from "./filter_panel.js";
import { Gate } from "./gate.js";
import { HealthBadge } from "./health_badge.js";
import { ResultsList } from "./results_list.js";
import { shortcuts, showShortcuts } from "./shortcuts.js";
import { TextLook } from "./text_look.js";
import { EVERYTHING, SEARCHED, isNarrowed, readState, writeState } from "./urls.js";

const CLOSED = { sessionId: null, withId: null, message: null, withMessage: null, tab: "conversation" };

export class SessionViewer {
  constructor() {
    this.state = readState(location.search);
    this.cursors = new Map();
    this.api = new APIClient({ onUnauthorized: () => this.#unauthorized(), onTrouble: () => this.health.trouble() });
    this.layout = byId("layout");
    this.gate = new Gate(byId("gate"), this.api, (access) => this.#enter(access));
    this.filters = new FilterPanel(byId("filters"), (change) => this.#narrow(change));
    const opened = (sessionId, message = null) => ({ ...CLOSED, sessionId, message, totals: false });
    this.results = new ResultsList(byId("results"), {
      open: (sessionId, message) => this.#go(opened(sessionId, message)),
      turn: (step) => this.#go({ page: Math.max(1, this.state.page + step) }),
      retry: () => this.#search(),
      clear: () => this.#go({ ...EVERYTHING, page: 1 }),
      href: (sessionId, message) => writeState({ ...this.state, ...opened(sessionId, message) }),
      sort: (sort) => this.#go({ sort, page: 1 }),
      filter: (field, value) => this.#go({ filters: { ...this.state.filters, [field]: value }, page: 1 }),
      knows: (field) => this.filters.knows(field),
      archive: (sessionIds, format) => this.api.archiveUrl(sessionIds, format),
      compare: (sessionId, withId) => this.#go({ ...opened(sessionId), withId }),
      totals: () => this.#go({ ...CLOSED, totals: true }),
      goOn: () => this.#goOn(),
    });
    this.detail = new DetailPanels(byId("detail"), this.api, {
      close: () => this.#close(),
      closeOther: (sessionId, message) => this.#go(opened(sessionId, message)),
      place: (places) => this.#note(places),
      tab: (tab) => this.#go({ tab }, { replace: true }),
      narrow: (change) => this.#go({ ...CLOSED, totals: true, ...change, page: 1 }),
    });
    this.health = new HealthBadge(byId("health"), this.api, () => this.#recovered());
  }

  async start() {
    this.health.start();
    byId("logout").addEventListener("click", () => this.#logout());
    byId("shortcuts").addEventListener("click", showShortcuts);
    window.addEventListener("popstate", () => this.#apply(readState(location.search)));
    const seesAll = (action) => () => this.access.access === "all" && action();
    shortcuts(
      {
        "/": seesAll(() => this.#focusSearch()),
        j: seesAll(() => this.results.step(1)),
        k: seesAll(() => this.results.step(-1)),
        f: () => this.detail.find(),
        e: () => this.detail.toggleAll(),
        Escape: seesAll(() => (this.state.sessionId || this.state.totals) && this.#close()),
        "?": showShortcuts,
      },
      () => !this.layout.hidden,
    );
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
  #enter(access, { ended = false } = {}) {
    const sawAll = this.access?.access === "all";
    this.access = access;
    byId("logout").hidden = !access.login_required || access.access === "none";
    const { sessionId } = this.state;
    const allowed = access.access === "all" || (access.access === "session" && (!sessionId || sessionId === access.session_id));
    byId("gate").hidden = allowed;
    this.layout.hidden = !allowed;
    if (!allowed) {
      this.stopFollowing?.();
      this.detail.showNothing();
      // Who had the viewer's password is asked for it again, and not for one of each session.
      if (sawAll) this.gate.show(null, { other: sessionId, ended });
      else this.gate.show(sessionId);
      return;
    }
    this.layout.classList.toggle("single", access.access === "session");
    if (access.access === "session") Object.assign(this.state, { sessionId: access.session_id, withId: null, withMessage: null, totals: false });
    else this.#loadFields();
    this.#show({ search: access.access === "all", open: true });
  }

  #unauthorized() {
    if (!byId("gate").hidden) return;
    this.#enter({ access: "none", session_id: null, login_required: true }, { ended: true });
  }

  async #logout() {
    try {
      this.#enter(await this.api.logout());
    } catch (error) {
      toast(error.message, "error");
    }
  }

  async #loadFields() {
    try {
      const { fields } = await this.api.metadataFields();
      this.filters.setFields(fields);
      this.fieldsMissing = false;
      // Badges are drawn as what filters or does not.
      if (this.lastPage) this.#showPage(this.lastPage);
    } catch {
      // The search beside it says what is wrong; the fields are asked for again when the server recovers.
      this.fieldsMissing = true;
      this.filters.setFieldsUnread();
    }
  }

  #recovered() {
    if (this.layout.hidden || this.access?.access !== "all") return;
    if (this.fieldsMissing) this.#loadFields();
    this.#search();
    this.detail.reloadFailed();
  }

  #narrow(change) {
    if (change.zoned) this.#search();
    else this.#go({ ...change, page: 1 }, { replace: true });
  }

  /** Change the state of the page, and its address with it. */
  #go(change, { replace = false } = {}) {
    const next = { ...this.state, ...change };
    history[replace ? "replaceState" : "pushState"](null, "", writeState(next));
    this.#apply(next);
  }

  /** Keep a change of what is open in the address; it is shown already. */
  #note(change) {
    this.state = { ...this.state, ...change };
    history.replaceState(null, "", writeState(this.state));
  }

  #apply(next) {
    const before = this.state;
    this.state = next;
    const searched = (state) => JSON.stringify(SEARCHED.map((name) => state[name]));
    const opened = (state) => JSON.stringify([state.sessionId, state.withId, state.message, state.withMessage, state.totals]);
    const narrowed = searched(before) !== searched(next);
    if (narrowed) this.cursors.clear();
    if (this.access?.access === "session" && next.sessionId !== this.access.session_id) {
      this.#enter(this.access);
      return;
    }
    this.#show({ search: narrowed || before.page !== next.page, open: opened(before) !== opened(next) || (next.totals && narrowed) });
  }

  #show({ search, open }) {
    const { sessionId, withId, totals, tab } = this.state;
    this.layout.dataset.view = sessionId || totals ? "detail" : "list";
    this.layout.classList.toggle("comparing", Boolean(withId));
    document.title = sessionId ? `${sessionId} · Session Viewer` : "Session Viewer";
    this.filters.setState(this.state);
    this.results.setSort(this.state.sort);
    this.results.select(sessionId);
    if (search) this.#search();
    if (!open) this.detail.selectTab(tab);
    else if (sessionId) this.detail.open(this.state);
    else if (totals) this.detail.showTotals(this.state);
    else this.detail.showNothing();
  }

  async #search() {
    this.searching?.abort();
    this.look?.end();
    this.searching = new AbortController();
    this.lastPage = null;
    const { state } = this;
    this.results.loading();
    this.#follow(state);
    try {
      if (state.text) {
        await this.#lookFor(state);
        return;
      }
      const page = await this.api.search(state, this.cursors.get(state.page) ?? null, this.searching.signal);
      if (page.next_cursor) this.cursors.set(state.page + 1, page.next_cursor);
      this.lastPage = page;
      this.#showPage(page);
    } catch (error) {
      if (!isAbort(error)) this.results.fail(error);
    }
  }

  #showPage(page) {
    this.filters.noteSeen(page.sessions.flatMap((session) => Object.keys(session.metadata)));
    this.results.show(page, this.state.page, isNarrowed(this.state));
  }

  #lookFor(state) {
    this.look = new TextLook(
      (cursor, signal) => this.api.search(state, cursor, signal),
      (looked) => this.results.showFound({ ...looked, text: state.text }),
    );
    return this.look.run();
  }

  async #goOn() {
    try {
      await this.look?.toggle();
    } catch (error) {
      if (!isAbort(error)) toast(error.message, "error");
    }
  }

  /** Keep the list current. */
  #follow(state) {
    const url = this.api.listEventsUrl(state);
    if (this.followed === url && this.stopFollowing) return;
    this.stopFollowing?.();
    this.followed = url;
    const stop = follow(url, {
      onEvent: ({ event, data }) => {
        if (event === "ready") this.#catchUp(url);
        else if (event === "sessions") this.results.announce(JSON.parse(data));
      },
      onState: (now) => now === "refused" && this.followed === url && (this.stopFollowing = null),
    });
    this.stopFollowing = () => {
      stop();
      this.stopFollowing = null;
    };
  }

  /** What happened between the search and the moment from which changes are noticed. */
  async #catchUp(url) {
    const shown = this.lastPage;
    if (!shown || this.state.page !== 1) return;
    try {
      const page = await this.api.search(this.state, null);
      if (this.followed !== url || this.lastPage !== shown) return;
      const known = new Set(shown.sessions.map((session) => session.session_id));
      this.results.announce({ sessions: page.sessions.map((session) => ({ ...session, is_new: !known.has(session.session_id) })), deleted: [], missed: false });
    } catch {
      // The next change is noticed all the same.
    }
  }

  #focusSearch() {
    if (this.layout.dataset.view === "detail" && matchMedia("(max-width: 48rem)").matches) this.#close();
    this.filters.focusSearch();
  }

  #close() {
    if (this.detail.closeInner()) return;
    this.#go({ ...CLOSED, totals: false });
    this.results.focusSelected();
  }
}
