// Any JSON value as a tree that unfolds: children are made when they are first shown.

import { el, userText } from "./dom.js";
import { number, oneLine } from "./format.js";

const STRING_LIMIT = 600;
const CHUNK = 100;

/**
 * @param {unknown} value what JSON can hold
 * @param {{open?: number, key?: string}} [options] `open`: levels unfolded from the start
 * @returns {HTMLElement}
 */
export function jsonTree(value, { open = 1 } = {}) {
  return el("div.json", { dir: "ltr" }, node(null, value, open));
}

const isBranch = (value) => typeof value === "object" && value !== null && Object.keys(value).length > 0;

function node(key, value, open) {
  return isBranch(value) ? branch(key, value, open) : el("div.json-leaf", {}, label(key), leaf(value));
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

function branch(key, value, open) {
  const children = el("div.json-children");
  const details = el(
    "details",
    {},
    el("summary", {}, label(key), el("span.json-punct", { text: preview(value) })),
    children,
  );
  let filled = false;
  const fillOnce = () => {
    if (filled || !details.open) return;
    filled = true;
    addChunk(children, Object.entries(value), 0, open - 1);
  };
  details.addEventListener("toggle", fillOnce);
  if (open > 0) {
    details.open = true;
    fillOnce();
  }
  return details;
}

function preview(value) {
  const count = Object.keys(value).length;
  if (Array.isArray(value)) return `[ ${number(count)} ${count === 1 ? "item" : "items"} ]`;
  return `{ ${oneLine(Object.keys(value).slice(0, 4).join(", "), 48)}${count > 4 ? ", …" : ""} }`;
}

function addChunk(parent, entries, from, open) {
  for (const [key, value] of entries.slice(from, from + CHUNK)) parent.append(node(key, value, open));
  const rest = entries.length - from - CHUNK;
  if (rest <= 0) return;
  const more = el("button.btn.btn-sm.btn-ghost", {
    type: "button",
    text: `Show ${number(Math.min(rest, CHUNK))} more of ${number(rest)}`,
    on: {
      click: () => {
        more.remove();
        addChunk(parent, entries, from + CHUNK, open);
      },
    },
  });
  parent.append(more);
}
