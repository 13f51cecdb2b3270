// The state of server and database, asked for as long as the page is looked at.

import { el, fill } from "../shared/dom.js";

const EVERY_MS = 15_000;
const AGAIN_MS = 2000;
const LOOKS = {
  ok: ["dot-ok", "Connected", "badge-accent"],
  unavailable: ["dot-danger", "MongoDB does not answer", "badge-danger"],
  unreachable: ["dot-danger", "Server does not answer", "badge-danger"],
};

export class HealthBadge {
  /** @param {HTMLElement} root @param {import("./api_client.js").APIClient} api @param {() => void} onRecovered */
  constructor(root, api, onRecovered) {
    this.root = root;
    this.api = api;
    this.onRecovered = onRecovered;
    this.state = null;
  }

  start() {
    this.check();
    setInterval(() => {
      if (!document.hidden) this.check();
    }, EVERY_MS);
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.check();
    });
    window.addEventListener("online", () => this.check());
  }

  /** A request got no answer: see whether that lasts, and say so when it is over. */
  trouble() {
    this.troubled = true;
    this.#later();
  }

  #later() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.check(), AGAIN_MS);
  }

  async check() {
    try {
      const health = await this.api.health();
      this.#show(health.status === "ok" ? "ok" : "unavailable", health.version);
    } catch {
      this.#show("unreachable");
    }
  }

  #show(state, version) {
    const recovered = state === "ok" && (this.troubled || (this.state !== null && this.state !== "ok"));
    this.troubled = state !== "ok";
    if (this.troubled) this.#later();
    if (recovered) this.onRecovered();
    if (state === this.state) return;
    this.state = state;
    const [dot, text, badge] = LOOKS[state];
    this.root.className = `badge ${badge}`;
    this.root.dataset.state = state;
    if (version) this.root.title = `Session Viewer ${version}`;
    fill(this.root, el("span.dot", { class: dot }), el("span", { text }));
  }
}
