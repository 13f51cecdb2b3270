// A button with a menu: arrows move in it, Escape and a click elsewhere close it, and it never covers its button.

import { el, uniqueId } from "./dom.js";
import { icon } from "./icons.js";

let open = null;

/**
 * @param {object} options
 * @param {string} options.label what the button is for
 * @param {string} [options.art] its icon
 * @param {string} [options.text] written on it; else only the icon is shown
 * @param {() => Array<{label: string, art: string, act?: () => void, href?: string, danger?: boolean}|null>} options.items
 *   asked each time; `href` makes a link that downloads
 * @returns {HTMLButtonElement}
 */
export function menuButton({ label, art = "more", text = "", items }) {
  const button = el(
    text ? "button.btn.btn-sm" : "button.btn.btn-ghost.btn-sm.btn-icon",
    { type: "button", "aria-label": label, "aria-haspopup": "menu", "aria-expanded": "false", data: { tip: text ? null : label } },
    icon(art),
    text || null,
  );
  button.addEventListener("click", () => (open?.button === button ? close() : show(button, label, items())));
  button.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowDown" || open?.button === button) return;
    event.preventDefault();
    show(button, label, items());
  });
  return button;
}

/** Close the open menu, if any. */
export function closeMenus() {
  if (open) close({ refocus: false });
}

function show(button, label, items) {
  closeMenus();
  const id = uniqueId("menu");
  const menu = el("div.menu-list.menu-popup", { id, role: "menu", "aria-label": label }, items.map(item));
  // Inside a landmark, so that who moves by landmarks finds it.
  (document.querySelector("main") ?? document.body).append(menu);
  place(menu, button.getBoundingClientRect());
  button.setAttribute("aria-expanded", "true");
  button.setAttribute("aria-controls", id);
  menu.addEventListener("keydown", onKey);
  menu.addEventListener("focusout", (event) => {
    const next = event.relatedTarget;
    // On its way to the button, a click is about to close it.
    if (open && next && next !== button && !menu.contains(next)) close({ refocus: false });
  });
  open = { button, menu };
  menu.querySelector("[role=menuitem]")?.focus();
}

function item(entry) {
  if (!entry) return null;
  const { label, art, act, href, danger } = entry;
  const look = { role: "menuitem", tabindex: -1, class: danger ? "menu-danger" : "" };
  return href
    ? el("a.menu-item", { ...look, href, download: true, on: { click: () => close() } }, icon(art), label)
    : el("button.menu-item", { ...look, type: "button", on: { click: () => (close(), act()) } }, icon(art), label);
}

function close({ refocus = true } = {}) {
  if (!open) return;
  const { button, menu } = open;
  open = null;
  const focused = menu.contains(document.activeElement);
  menu.remove();
  button.setAttribute("aria-expanded", "false");
  button.removeAttribute("aria-controls");
  if (refocus && focused) button.focus();
}

function onKey(event) {
  const items = [...event.currentTarget.querySelectorAll("[role=menuitem]")];
  const at = items.indexOf(document.activeElement);
  const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: items.length - 1 }[event.key];
  if (event.key === "Escape") {
    event.stopPropagation();
    close();
  } else if (event.key === "Tab") {
    close();
  } else if (next !== undefined) {
    event.preventDefault();
    items.at(next % items.length)?.focus();
  }
}

function place(menu, anchor) {
  const box = menu.getBoundingClientRect();
  const gap = 4;
  const below = anchor.bottom + gap;
  const fits = below + box.height <= innerHeight - gap;
  menu.style.top = `${Math.max(gap, fits ? below : anchor.top - gap - box.height)}px`;
  menu.style.left = `${Math.min(Math.max(gap, anchor.right - box.width), innerWidth - box.width - gap)}px`;
}

document.addEventListener("pointerdown", (event) => {
  if (open && !open.menu.contains(event.target) && !open.button.contains(event.target)) close({ refocus: false });
});
window.addEventListener("resize", closeMenus);
