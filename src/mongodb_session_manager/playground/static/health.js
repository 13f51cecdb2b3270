// The badge that says which model answers, and whether server and database do.

import { el, fill } from "../shared/dom.js";
import { health } from "./api_client.js";

const EVERY_MS = 15_000;
const LOOKS = {
  ok: ["dot-ok", "badge-accent"],
  unavailable: ["dot-danger", "badge-danger", "MongoDB does not answer"],
  unreachable: ["dot-danger", "badge-danger", "Server does not answer"],
};

/**
 * Keep the badge current for as long as the page is looked at.
 *
 * @param {HTMLElement} badge
 * @param {() => void} onRecovered called when everything answers again
 * @returns {() => Promise<void>} checks now
 */
export function watchHealth(badge, onRecovered) {
  let last = null;
  const check = async () => {
    const found = await health().catch(() => ({ status: "unreachable" }));
    const shown = `${found.status} ${found.model}`;
    if (shown === last) return;
    const recovered = last !== null && found.status === "ok";
    last = shown;
    const [dot, look, text] = LOOKS[found.status];
    badge.className = `badge ${look}`;
    badge.dataset.state = found.status;
    fill(badge, el("span.dot", { class: dot }), el("span.truncate", { text: text ?? nameOf(found.model) }));
    badge.title = found.status === "ok" ? `Model ${found.model}, version ${found.version}, MongoDB connected` : text;
    if (recovered) onRecovered();
  };
  setInterval(() => !document.hidden && check(), EVERY_MS);
  document.addEventListener("visibilitychange", () => !document.hidden && check());
  window.addEventListener("online", check);
  check();
  return check;
}

/** The offline model's id alone would read as a state of the connection. */
const nameOf = (model) => (model === "offline" ? "Offline model" : model);
