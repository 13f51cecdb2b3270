// The badge that says which model answers, and whether server and database do.

import { el, fill } from "../shared/dom.js";
import { health } from "./api_client.js";

const EVERY_MS = 15_000;
const EVERY_AWAY_MS = 3_000;
const LOOKS = {
  ok: ["dot-ok", "badge-accent"],
  unavailable: ["dot-danger", "badge-danger", "MongoDB does not answer"],
  unreachable: ["dot-danger", "badge-danger", "Server does not answer"],
};

/**
 * Keep the badge current for as long as the page is looked at; more often while something is away.
 *
 * @param {HTMLElement} badge
 * @param {(found: {status: "ok"|"unavailable"|"unreachable"}, before: string|null) => void} onChange called with what is
 *   found, first of all and whenever it changes
 * @returns {() => Promise<void>} checks now
 */
export function watchHealth(badge, onChange) {
  let last = null;
  let checking = null;
  let timer = null;
  const look = async () => {
    const found = await health().catch(() => ({ status: "unreachable" }));
    clearTimeout(timer);
    timer = setTimeout(() => !document.hidden && check(), found.status === "ok" ? EVERY_MS : EVERY_AWAY_MS);
    if (last?.status === found.status && last.model === found.model) return;
    const before = last?.status ?? null;
    last = found;
    const [dot, looks, text] = LOOKS[found.status];
    badge.className = `badge ${looks}`;
    badge.dataset.state = found.status;
    fill(badge, el("span.dot", { class: dot }), el("span.truncate", { text: text ?? nameOf(found) }));
    badge.title = found.status === "ok" ? `Model ${found.model}, version ${found.version}, MongoDB connected` : text;
    onChange(found, before);
  };
  const check = () => (checking ??= look().finally(() => (checking = null)));
  document.addEventListener("visibilitychange", () => !document.hidden && check());
  window.addEventListener("online", check);
  check();
  return check;
}

/** The offline model's id alone would read as a state of the connection. */
function nameOf({ model, agent }) {
  if (agent) return agent;
  return model === "offline" ? "Offline model" : model;
}
