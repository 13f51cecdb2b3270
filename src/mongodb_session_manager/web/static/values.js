// A value or a text with what one does to it: copy, wrap, see it raw, unfold all of it.

import { el, fill } from "./dom.js";
import { copyText } from "./feedback.js";
import { icon } from "./icons.js";
import { jsonTree, unfoldAll } from "./json_tree.js";

function tool(label, art, press, props = {}) {
  return el("button.btn.btn-ghost.btn-sm.value-tool", { type: "button", ...props, on: { click: press } }, icon(art), label);
}

function toggle(label, art, change, on = false) {
  const button = tool(label, art, () => {
    const pressed = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(pressed));
    change(pressed);
  });
  button.setAttribute("aria-pressed", String(on));
  return button;
}

/** Any JSON value as a tree. @param {unknown} value @param {{open?: number, cut?: boolean, label?: string}} [options] */
export function valueView(value, { open = 2, cut = false, label = "" } = {}) {
  if (typeof value === "string") return textView(value, { label });
  const tree = jsonTree(value, { open, cut });
  const body = el("div.value-body", {}, tree);
  const pretty = () => JSON.stringify(value, null, 2) ?? String(value);
  const wrap = toggle("Wrap", "wrap", (on) => body.classList.toggle("nowrap", !on), true);
  wrap.hidden = true;
  const raw = toggle("Raw", "code", (on) => {
    fill(body, on ? el("pre.pre", { dir: "auto", tabindex: 0, text: pretty() }) : tree);
    wrap.hidden = !on;
    unfold.hidden = on;
  });
  const unfold = tool("Unfold all", "expand", () => unfoldAll(tree));
  unfold.hidden = value === null || typeof value !== "object";
  const tools = el("div.value-tools", {}, label ? el("span.disclosure-label", { text: label }) : null, el("span.spacer"), unfold, raw, wrap, tool("Copy", "copy", () => copyText(pretty(), "Value")));
  return el("div.value", {}, tools, body);
}

/** A text as it is. @param {string} text @param {{label?: string, note?: string}} [options] */
export function textView(text, { label = "", note = "" } = {}) {
  const body = el("div.value-body", {}, el("pre.pre", { dir: "auto", tabindex: 0, text }));
  const wrap = toggle("Wrap", "wrap", (on) => body.classList.toggle("nowrap", !on), true);
  const tools = el("div.value-tools", {}, label ? el("span.disclosure-label", { text: label }) : null, el("span.spacer"), wrap, tool("Copy", "copy", () => copyText(text, "Text")));
  return el("div.value", {}, tools, body, note ? el("p.faint", { text: note }) : null);
}
