// Any JSON value as a tree that unfolds: children are made when they are first shown.

import { el, userText } from "./dom.js";
import { number, oneLine } from "./format.js";

const STRING_LIMIT = 600;
const CHUNK = 100;

/** Values that one press unfolds: as many as a page can show at once. */
const UNFOLDED = 5_000;

/**
 * @param {unknown} value what JSON can hold
 * @param {{open?: number, cut?: boolean}} [options] `open`: levels unfolded from the start; `cut`: the server left parts
 *   out, and says so in the last entry of a list or an object
 * @returns {HTMLElement}
 */
export function jsonTree(value, { open = 1, cut = false } = {}) {
  return el("div.json", { dir: "ltr" }, node(null, value, { open, cut }));
}

/** Unfold a tree to its leaves, or as far as a page can show. */
export function unfoldAll(tree) {
  let left = UNFOLDED;
  const waiting = [...tree.querySelectorAll("details")];
  for (let details = waiting.shift(); details && left > 0; details = waiting.shift()) {
    if (!details.open) details.dispatchEvent(new CustomEvent("unfold"));
    left -= details.lastElementChild.childElementCount;
    waiting.push(...details.lastElementChild.querySelectorAll(":scope > details"));
  }
}

const isBranch = (value) => typeof value === "object" && value !== null && Object.keys(value).length > 0;

function node(key, value, options) {
  return isBranch(value) ? branch(key, value, options) : el("div.json-leaf", {}, label(key), leaf(value));
}

function label(key) {
  return key === null ? null : [userText(key, "span.json-key.user-text"), el("span.json-punct", { text: ": " })];
}

function leaf(value) {
  if (typeof value === "string") return text(value);
  if (value === null || value === undefined) return el("span.json-null", { text: "null" });
  if (typeof value === "object") return el("span.json-punct", { text: Array.isArray(value) ? "[]" : "{}" });
  return el(`span.json-${typeof value}`, { text: String(value) });
}

function text(value) {
  if (value.length <= STRING_LIMIT) return userText(JSON.stringify(value), "span.json-string.user-text");
  const shown = userText(`${JSON.stringify(value.slice(0, STRING_LIMIT)).slice(0, -1)}…`, "span.json-string.user-text");
  const more = el("button.btn.btn-sm.btn-ghost", {
    type: "button",
    text: `Show all ${number(value.length)} characters`,
    on: {
      click: () => {
        shown.textContent = value;
        more.remove();
      },
    },
  });
  return [shown, " ", more];
}

/** The entries of a value that are shown, and how many there are in all. */
function entriesOf(value, cut) {
  const entries = Object.entries(value);
  const [key, last] = entries.at(-1);
  const rest = cut && typeof last === "string" && (Array.isArray(value) ? last.match(/^… \(\+(\d+) items\)$/) : key === "…" && last.match(/^\+(\d+) fields$/));
  if (rest) entries.pop();
  return { entries, total: entries.length + (rest ? Number(rest[1]) : 0) };
}

function branch(key, value, { open, cut }) {
  const { entries, total } = entriesOf(value, cut);
  const children = el("div.json-children");
  const details = el(
    "details",
    {},
    el("summary", {}, label(key), el("span.json-punct", { text: preview(value, entries, total) })),
    children,
  );
  let filled = false;
  const fillOnce = () => {
    if (filled || !details.open) return;
    filled = true;
    addChunk(children, entries, 0, { open: open - 1, cut });
    if (total > entries.length) children.append(el("div.json-leaf.json-null", { text: `${number(entries.length)} of ${number(total)} shown` }));
  };
  const openNow = () => {
    details.open = true;
    fillOnce();
  };
  details.addEventListener("toggle", fillOnce);
  details.addEventListener("unfold", openNow);
  if (open > 0) openNow();
  return details;
}

function preview(value, entries, total) {
  const shown = total > entries.length ? `${number(entries.length)} of ${number(total)}` : number(total);
  if (Array.isArray(value)) return `[ ${shown} ${total === 1 ? "item" : "items"} ]`;
  const keys = entries.slice(0, 4).map(([key]) => key);
  return `{ ${oneLine(keys.join(", "), 48)}${total > 4 ? ", …" : ""} }`;
}

function addChunk(parent, entries, from, options) {
  for (const [key, value] of entries.slice(from, from + CHUNK)) parent.append(node(key, value, options));
  const rest = entries.length - from - CHUNK;
  if (rest <= 0) return;
  const more = el("button.btn.btn-sm.btn-ghost", {
    type: "button",
    text: `Show ${number(Math.min(rest, CHUNK))} more of ${number(rest)}`,
    on: {
      click: () => {
        const after = more.nextSibling;
        more.remove();
        const added = document.createDocumentFragment();
        addChunk(added, entries, from + CHUNK, options);
        parent.insertBefore(added, after);
      },
    },
  });
  parent.append(more);
}
