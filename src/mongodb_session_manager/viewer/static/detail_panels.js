// The right-hand side: a session, two of them side by side, the totals of a search, or what to do.

import { el, fill } from "../shared/dom.js";
import { stateView } from "../shared/feedback.js";
import { SessionDetail } from "./session_detail.js";
import { TotalsView } from "./totals_view.js";

export class DetailPanels {
  /**
   * @param {HTMLElement} root
   * @param {import("./api_client.js").APIClient} api
   * @param {object} on
   * @param {() => void} on.close
   * @param {(sessionId: string) => void} on.closeOther leave only this session
   * @param {(tab: string) => void} on.tab
   * @param {(change: object) => void} on.narrow
   */
  constructor(root, api, on) {
    this.root = root;
    this.api = api;
    this.on = on;
    this.details = [];
  }

  /** Say what to do while no session is open. */
  showNothing() {
    this.#end();
    fill(this.root, stateView({ art: "stack", title: "Choose a session", text: "Its conversation, usage, metadata and agents are shown here." }));
  }

  /** @param {import("./urls.js").PageState} state */
  showTotals(state) {
    this.#end();
    this.totals = new TotalsView(this.root, (signal) => this.api.totals(state, signal), state, this.on);
    this.totals.show();
  }

  /** @param {import("./urls.js").PageState} state */
  open({ sessionId, withId, tab, message, text }) {
    this.#end();
    const ids = withId ? [sessionId, withId] : [sessionId];
    const roots = withId ? ids.map((id) => el("section.panel.compared", { "aria-label": id, tabindex: -1 })) : [this.root];
    if (withId) fill(this.root, el("div.comparison", {}, roots));
    this.details = ids.map((id, index) => {
      const other = ids[1 - index];
      const close = withId ? () => this.on.closeOther(other) : this.on.close;
      return new SessionDetail(roots[index], this.api, { close, tab: withId ? () => {} : this.on.tab, compared: Boolean(withId) });
    });
    this.details.forEach((detail, index) => detail.open(ids[index], tab, index === 0 ? message : null, withId ? "" : text));
  }

  selectTab(name) {
    if (this.details.length === 1) this.details[0].selectTab(name);
  }

  /** Find in the open session. */
  find() {
    this.details[0]?.find();
  }

  /** Unfold or fold everything. */
  toggleAll() {
    for (const detail of this.details) detail.toggleAll();
  }

  /** Close what is open inside; false when nothing was. */
  closeInner() {
    return this.details.some((detail) => detail.closeFind());
  }

  /** Try again what could not be shown. */
  reloadFailed() {
    for (const detail of this.details) detail.reloadFailed();
    this.totals?.reloadFailed();
  }

  #end() {
    for (const detail of this.details) detail.end();
    this.totals?.end();
    this.details = [];
    this.totals = null;
    this.root.removeAttribute("aria-busy");
  }
}
