// The controls of one metadata filter: the right one for its type, and two of them for a range.

import { el, uniqueId } from "../shared/dom.js";
import { icon } from "../shared/icons.js";

const isRange = (value) => value !== null && typeof value === "object";

/**
 * @param {{field: string, type: string, values: unknown[]|null}} field
 * @param {unknown} current "" for none yet
 * @param {object} on
 * @param {(value: unknown, now: boolean) => void} on.change `now`: not only typed a letter
 * @param {() => void} on.remove
 * @returns {HTMLElement}
 */
export function filterRow(field, current, on) {
  const id = uniqueId("filter");
  const body = el("div.filter-body");
  const canRange = ["number", "date"].includes(field.type);
  const range = el("button.btn.btn-ghost.btn-sm", {
    type: "button",
    "aria-pressed": String(isRange(current)),
    "aria-label": `Range of ${field.field}`,
    text: "Range",
    hidden: !canRange,
    on: { click: () => switchRange() },
  });
  const show = (value) => body.replaceChildren(...(isRange(value) ? rangeControls(field, value, id, on) : [control(field, value, id, on)]));
  const switchRange = () => {
    const ranged = range.getAttribute("aria-pressed") !== "true";
    range.setAttribute("aria-pressed", String(ranged));
    on.change("", true);
    show(ranged ? {} : "");
    body.querySelector("input, select").focus();
  };
  show(current ?? "");
  const remove = el(
    "button.btn.btn-ghost.btn-icon.btn-sm",
    { type: "button", "aria-label": `Remove filter ${field.field}`, data: { tip: "Remove" }, on: { click: on.remove } },
    icon("close"),
  );
  return el(
    "div.field.filter",
    { data: { field: field.field } },
    el("div.row", {}, el("label.field-label.truncate", { for: id, title: field.field, text: field.field }), el("span.spacer"), range, remove),
    body,
  );
}

function control({ type, values }, current, id, on) {
  if (type === "boolean" || (type === "enum" && values)) {
    const choices = type === "boolean" ? [true, false] : [...values];
    // One that was clicked on may not be among those that are offered.
    if (current !== "" && !choices.some((choice) => JSON.stringify(choice) === JSON.stringify(current))) choices.push(current);
    const label = (value) => (type === "boolean" ? (value ? "Yes" : "No") : String(value));
    const select = el(
      "select.select",
      { id, on: { change: () => on.change(select.value === "" ? "" : JSON.parse(select.value), true) } },
      el("option", { value: "", text: "Any" }),
      choices.map((value) => el("option", { value: JSON.stringify(value), text: label(value) })),
    );
    select.value = current === "" ? "" : JSON.stringify(current);
    return select;
  }
  const input = type === "number" ? numberInput(current, id) : plainInput(type, current, { id, placeholder: type === "date" ? null : "Exact value" });
  input.addEventListener("input", () => on.change(type === "number" ? numberOrText(input.value.trim()) : read(type, input), false));
  return input;
}

function rangeControls({ field, type }, current, id, on) {
  const limits = [
    ["min", "from"],
    ["max", "to"],
  ].map(([name, word]) => [name, plainInput(type, current[name] ?? "", name === "min" ? { id, placeholder: word } : { "aria-label": `${field} ${word}`, placeholder: word })]);
  const changed = () => {
    const given = limits.map(([name, input]) => [name, read(type, input)]).filter(([, value]) => value !== "");
    on.change(given.length ? Object.fromEntries(given) : "", false);
  };
  for (const [, input] of limits) input.addEventListener("input", changed);
  return [el("div.filter-range", {}, limits.map(([, input]) => input))];
}

// A browser's number field takes no text, and one value among the numbers may be one.
function numberInput(current, id) {
  const value = typeof current === "string" && typeof numberOrText(current) === "number" ? JSON.stringify(current) : current;
  return el("input.input", { type: "text", inputmode: "decimal", autocomplete: "off", id, value, placeholder: 'Number, or "text"' });
}

const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

/** What was typed where numbers are: a number, a text, or in quotes a text that looks like a number. */
function numberOrText(typed) {
  if (NUMBER.test(typed)) return exact(typed);
  if (/^[+-]?\.?$/.test(typed)) return ""; // the beginning of a number
  return typed.length > 2 && /^".*"$/.test(typed) ? typed.slice(1, -1) : typed;
}

function plainInput(type, value, props) {
  const kind = { number: "number", date: "date" }[type] ?? "text";
  return el("input.input", { type: kind, step: kind === "number" ? "any" : null, autocomplete: "off", value, ...props });
}

// JavaScript's numbers have 53 bits: a longer integer travels as text, which finds it too.
const exact = (text) => (/^[+-]?\d+$/.test(text) && !Number.isSafeInteger(Number(text)) ? text : Number(text));
const read = (type, input) => (type === "number" && input.value !== "" ? exact(input.value) : input.value);
