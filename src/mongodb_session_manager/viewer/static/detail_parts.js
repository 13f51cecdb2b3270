// Parts of a session's page that keep no state of it.

import { el } from "../shared/dom.js";
import { icon } from "../shared/icons.js";

const FORMATS = [
  ["json", "JSON"],
  ["jsonl", "JSON Lines"],
  ["markdown", "Markdown"],
];

/** A button that offers downloads. @param {(format: string) => string} address */
export function exportMenu(address) {
  const item = ([format, label]) =>
    el("a.menu-item", { href: address(format), download: true, on: { click: () => (menu.open = false) } }, icon("file"), label);
  const menu = el(
    "details.menu",
    {},
    el("summary.btn.btn-ghost.btn-icon", { "aria-label": "Export", data: { tip: "Export" } }, icon("download")),
    el("div.menu-list", {}, FORMATS.map(item)),
  );
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu.open) return;
    event.stopPropagation();
    menu.open = false;
    menu.querySelector("summary").focus();
  });
  menu.addEventListener("focusout", (event) => {
    if (event.relatedTarget && !menu.contains(event.relatedTarget)) menu.open = false;
  });
  return menu;
}

/** What is shown while a session loads. */
export function skeleton() {
  const bone = (width) => el("div.stack.bone", {}, el("span.skeleton.w-25"), el("span.skeleton", { class: width }), el("span.skeleton.w-60"));
  return el(
    "div.detail-bones.stack",
    {},
    el("p.visually-hidden", { role: "status", text: "Loading the session" }),
    el("span.skeleton.w-40"),
    el("span.skeleton.w-60"),
    ["w-75", "w-90", "w-60", "w-75"].map(bone),
  );
}
