// One session in the list: title first, id below, what it holds, and badges that filter.

import { el, userText } from "../shared/dom.js";
import { excerptView } from "../shared/excerpts.js";
import { compact, number, oneLine, plural } from "../shared/format.js";
import { icon } from "../shared/icons.js";
import { timeElement } from "../shared/time.js";

const BADGES = 3;
const known = (value) => value !== null && value !== undefined;

/**
 * @param {object} session the API's card
 * @param {object} on
 * @param {(sessionId: string, message: object|null) => void} on.open
 * @param {(sessionId: string, message: object|null) => string} on.href
 * @param {(field: string, value: unknown) => void} on.filter
 * @param {(field: string) => boolean} on.knows whether sessions can be filtered by the field
 * @param {(sessionId: string, chosen: boolean) => void} on.choose
 * @param {boolean} chosen
 * @param {string} sought what was looked for in the conversation, or ""
 * @returns {HTMLLIElement}
 */
export function resultRow(session, on, chosen, sought) {
  const id = session.session_id;
  const message = session.hit && known(session.hit.message_id) ? { agentId: session.hit.agent_id, messageId: session.hit.message_id } : null;
  const link = el(
    "a.result",
    { href: on.href(id, message), data: { sessionId: id } },
    el(
      "span.result-line",
      {},
      session.title ? userText(session.title, "span.result-title.truncate.user-text") : el("span.result-title.truncate.faint", { text: "No title" }),
      el("span.result-time", {}, timeElement(session.updated_at ?? session.created_at)),
    ),
    el("span.result-line", {}, userText(id, "span.result-id.mono.truncate.user-text"), facts(session)),
    session.hit ? excerptView(session.hit.excerpt, sought, "span.result-hit.user-text") : null,
  );
  link.addEventListener("click", (event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    on.open(id, message);
  });
  const box = el("input.result-choice", { type: "checkbox", "aria-label": `Choose ${session.title ?? id}` });
  box.checked = chosen;
  box.addEventListener("change", () => on.choose(id, box.checked));
  return el("li.result-row", { data: { row: id } }, box, link, badges(session, on));
}

/** Say of a row that its session is no longer there; false when it says so already. */
export function markGone(row) {
  if (row.classList.contains("result-gone")) return false;
  row.classList.add("result-gone");
  row.querySelector(".result-time").before(el("span.badge.badge-warn", { text: "deleted" }));
  const box = row.querySelector(".result-choice");
  box.checked = false;
  box.disabled = true;
  return true;
}

function facts({ messages_count: messages, agents_count: agents, ratings, errors_count: errors, feedbacks_count: feedbacks, usage }) {
  const fact = (name, text, meaning, kind) =>
    el("span", { title: meaning, class: kind }, icon(name), el("span", { text }), el("span.visually-hidden", { text: ` ${meaning}` }));
  const tokens = usage?.totalTokens;
  const one = (count, singular, many = `${singular}s`) => (count === 1 ? singular : many);
  const other = ratings ? ratings.other : feedbacks;
  return el(
    "span.result-facts.num",
    {},
    errors ? fact("alert", number(errors), one(errors, "failed turn"), "fact-danger") : null,
    ratings?.up ? fact("thumbUp", number(ratings.up), "thumbs up", "fact-ok") : null,
    ratings?.down ? fact("thumbDown", number(ratings.down), "thumbs down", "fact-danger") : null,
    other ? fact("star", number(other), one(other, "other feedback", "other feedbacks")) : null,
    known(messages) ? fact("chat", number(messages), one(messages, "message")) : null,
    known(agents) && agents > 1 ? fact("agent", number(agents), "agents") : null,
    typeof tokens === "number" ? fact("bolt", compact(tokens), "tokens") : null,
  );
}

function badges(session, on) {
  const isPlain = (value) => value === null || typeof value !== "object";
  const all = Object.entries(session.metadata ?? {});
  const fields = [...all.filter(([, value]) => isPlain(value)), ...all.filter(([, value]) => !isPlain(value))];
  const entries = session.application_name ? [["application_name", session.application_name], ...fields] : fields;
  if (entries.length === 0) return null;
  const rest = entries.length - BADGES;
  return el(
    "div.result-badges",
    {},
    entries.slice(0, BADGES).map(([key, value]) => badge(key, value, on)),
    rest > 0 ? el("span.badge", { text: `+${rest}`, title: plural(rest, "further field") }) : null,
  );
}

function badge(key, value, on) {
  const name = key === "application_name" ? null : userText(oneLine(key, 40), "span.badge-key.truncate");
  const content = [name, userText(oneLine(value, 60), "span.truncate")];
  const shown = `${key}: ${oneLine(value, 200)}`;
  const canFilter = value !== null && typeof value !== "object" && on.knows(key);
  if (!canFilter) return el("span.badge.meta-badge", { title: `${shown} (no index to filter by)` }, content);
  return el("button.badge.meta-badge", { type: "button", title: `${shown}: filter by it`, on: { click: () => on.filter(key, value) } }, content);
}
