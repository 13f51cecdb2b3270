// What the page says back: toasts, tooltips, dialogs, notices, whole-panel states.

import { append, el, uniqueId } from "./dom.js";
import { icon } from "./icons.js";

const TOAST_MS = 5000;
const LOOKS = { ok: "check", error: "alert", info: "info" };

/** Say something for a few seconds; screen readers hear it too. `kind`: "ok", "error" or "info". */
export function toast(message, kind = "ok") {
  let region = document.querySelector(".toasts");
  if (!region) {
    region = el("div.toasts", { role: "status", "aria-live": "polite" });
    document.body.append(region);
  }
  const node = el("div.toast", { class: `toast-${kind}` }, icon(LOOKS[kind]), el("span", { text: message }));
  region.append(node);
  setTimeout(() => node.remove(), TOAST_MS);
}

/** Put text on the clipboard and say so; where that is not allowed, say that. */
export async function copyText(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    toast(`${what} copied`);
  } catch {
    toast(`The browser did not allow copying. ${what}: ${text}`, "error");
  }
}

/** Tooltips for every element with `data-tip`, on hover and focus; Escape hides them. */
export function tooltips() {
  const tip = el("div.tooltip", { role: "tooltip", hidden: true });
  // Inside a landmark, as everything that a page says.
  (document.querySelector("main") ?? document.body).append(tip);
  const hide = () => {
    tip.hidden = true;
  };
  const show = (event) => {
    const target = event.target instanceof Element ? event.target.closest("[data-tip]") : null;
    if (!target) return;
    tip.textContent = target.dataset.tip;
    tip.hidden = false;
    place(tip, target.getBoundingClientRect());
  };
  document.addEventListener("pointerover", (event) => {
    if (event.pointerType !== "touch") show(event);
  });
  document.addEventListener("focusin", (event) => {
    if (event.target.matches?.(":focus-visible")) show(event);
  });
  for (const name of ["pointerout", "focusout", "pointerdown"]) document.addEventListener(name, hide);
  document.addEventListener("scroll", hide, { capture: true, passive: true });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide();
  });
}

function place(tip, anchor) {
  const box = tip.getBoundingClientRect();
  const left = Math.min(Math.max(8, anchor.left + anchor.width / 2 - box.width / 2), innerWidth - box.width - 8);
  const below = anchor.bottom + 6;
  tip.style.left = `${left}px`;
  tip.style.top = `${below + box.height > innerHeight - 8 ? anchor.top - box.height - 6 : below}px`;
}

/** Ask before something that cannot be undone; resolves to true when confirmed. */
export function confirmDialog({ title, text, confirm = "Continue", danger = false }) {
  const heading = uniqueId("dialog");
  const dialog = el(
    "dialog.dialog",
    { "aria-labelledby": heading },
    el("h2.dialog-title", { id: heading, text: title }),
    el("p.muted", { text }),
    el(
      "form.dialog-actions",
      { method: "dialog" },
      el("button.btn", { value: "cancel", text: "Cancel", autofocus: true }),
      el("button.btn", { value: "confirm", class: danger ? "btn-danger" : "btn-primary", text: confirm }),
    ),
  );
  return openDialog(dialog).then((value) => value === "confirm");
}

/** Show an image as large as the window allows. */
export function imageDialog(source, label) {
  const dialog = el(
    "dialog.dialog.image-dialog",
    { "aria-label": label },
    el("img", { src: source, alt: label }),
    el("form.dialog-actions", { method: "dialog" }, el("button.btn", { text: "Close", autofocus: true })),
  );
  return openDialog(dialog);
}

/** Show a dialog element; resolves to its return value, after it was removed. */
export function openDialog(dialog) {
  return new Promise((resolve) => {
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) dialog.close("cancel");
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** A whole panel's state: nothing here, something failed, what to do. */
export function stateView({ art, title, text, actions = [], danger = false }) {
  return el(
    "div.state",
    { class: danger ? "state-danger" : "", role: danger ? "alert" : null },
    el("div.state-art", {}, icon(art)),
    el("h2.state-title", { text: title }),
    text ? el("p.user-text", { text }) : null,
    actions.length ? append(el("div.state-actions"), actions) : null,
  );
}

/** A line that stays until it is settled. `kind`: "info", "warn" or "danger". */
export function notice(kind, text, action) {
  return el(
    "div.notice",
    { class: `notice-${kind}`, role: kind === "danger" ? "alert" : "status" },
    icon(kind === "info" ? "info" : "alert"),
    el("span", { text }),
    action,
  );
}
