// The right-hand side: a session, two of them side by side, the totals of a search, or what to do.

import { el, fill } from "../shared/dom.js";
import { copyText, stateView } from "../shared/feedback.js";
import { SessionDetail } from "./session_detail.js";
import { TotalsView } from "./totals_view.js";
import { comparisonLink, sessionLink } from "./urls.js";

export class DetailPanels {
  /**
   * @param {HTMLElement} root
   * @param {import("./api_client.js").APIClient} api
   * @param {object} on
   * @param {() => void} on.close
   * @param {(sessionId: string, message: object|null) => void} on.closeOther leave only this session, at this message
   * @param {(places: {message: object|null, withMessage: object|null}) => void} on.place of two sessions, the messages that are linked to
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
  open({ sessionId, withId, tab, message, withMessage, text }) {
    this.#end();
    const ids = withId ? [sessionId, withId] : [sessionId];
    const roots = withId ? ids.map((id) => el("section.panel.compared", { "aria-label": id, tabindex: -1 })) : [this.root];
    if (withId) fill(this.root, el("div.comparison", {}, roots));
    const places = [message, withMessage];
    this.details = ids.map((id, index) => {
      const on = withId ? this.#compared(ids, places, index) : { close: this.on.close, tab: this.on.tab, link: (place) => copyText(sessionLink(id, place), "Link") };
      return new SessionDetail(roots[index], this.api, on);
    });
    this.details.forEach((detail, index) => detail.open(ids[index], tab, places[index], withId ? "" : text));
  }

  /** What one of two sessions asks for; each has a message of its own that the address names. */
  #compared(ids, places, index) {
    return {
      compared: true,
      close: () => this.on.closeOther(ids[1 - index], places[1 - index]),
      tab: () => {},
      link: (place) => {
        places[index] = place;
        const [message, withMessage] = places;
        this.on.place({ message, withMessage });
        copyText(comparisonLink({ sessionId: ids[0], withId: ids[1], message, withMessage }), "Link");
      },
    };
  }

  selectTab(name) {
    if (this.details.length === 1) this.details[0].selectTab(name);
  }

  /** Find in the open session; of two in the one where the focus is. */
  find() {
    (this.details.find((detail) => detail.root.contains(document.activeElement)) ?? this.details[0])?.find();
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
