// What is written around a place that a search found, with what was sought marked in it.

import { el } from "./dom.js";

/**
 * @param {string} text
 * @param {string} sought found in any case, in either of its Unicode forms
 * @param {string} spec of the element: "span.result-hit"
 * @returns {HTMLElement}
 */
export function excerptView(text, sought, spec) {
  const held = text.toLowerCase();
  const forms = ["NFC", "NFD"].map((form) => sought.normalize(form).toLowerCase());
  const parts = [];
  let from = 0;
  // Few letters change their length with their case; a text that holds one is shown without marks.
  while (sought && held.length === text.length) {
    const [next] = forms.map((form) => [held.indexOf(form, from), form.length]).filter(([at]) => at >= 0).sort(([one], [other]) => one - other);
    if (!next) break;
    const [at, length] = next;
    parts.push(text.slice(from, at), el("mark", { text: text.slice(at, at + length) }));
    from = at + length;
  }
  return el(spec, { dir: "auto" }, parts, text.slice(from));
}
