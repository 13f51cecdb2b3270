// Dialogs that ask for something: a line of text, or a form of the caller's own.

import { el, uniqueId } from "./dom.js";
import { openDialog } from "./feedback.js";

/**
 * Ask with a form; Escape, Cancel and a click beside it give null.
 *
 * @template T
 * @param {object} options
 * @param {string} options.title
 * @param {Node[]} options.fields
 * @param {string} options.confirm
 * @param {() => T} options.value what the fields say when confirmed
 * @param {boolean} [options.wide]
 * @returns {Promise<T|null>}
 */
export async function formDialog({ title, fields, confirm, value, wide = false }) {
  const heading = uniqueId("dialog");
  const dialog = el("dialog.dialog", { "aria-labelledby": heading, class: wide ? "dialog-wide" : "" });
  const form = el(
    "form.dialog-form",
    { on: { submit: (event) => (event.preventDefault(), dialog.close("confirm")) } },
    el("h2.dialog-title", { id: heading, text: title }),
    fields,
    el(
      "div.dialog-actions",
      {},
      el("button.btn", { type: "button", text: "Cancel", on: { click: () => dialog.close("cancel") } }),
      el("button.btn.btn-primary", { type: "submit", text: confirm }),
    ),
  );
  dialog.append(form);
  return (await openDialog(dialog)) === "confirm" ? value() : null;
}

/** Ask for a line of text; null when it was not given. */
export function lineDialog({ title, label, value = "", longest, confirm }) {
  const id = uniqueId("line");
  const input = el("input.input", { id, type: "text", value, maxlength: longest, required: true, autofocus: true, autocomplete: "off" });
  const field = el("div.field", {}, el("label.field-label", { for: id, text: label }), input);
  queueMicrotask(() => input.select());
  return formDialog({ title, fields: [field], confirm, value: () => input.value.trim() || null });
}
