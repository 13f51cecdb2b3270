// The search: what was said, part of an id, days, ratings, failed turns, agents, and filters on metadata at will.

import { debounce, el, fill, uniqueId } from "../shared/dom.js";
import { icon } from "../shared/icons.js";
import { currentZone, dayOf } from "../shared/zone.js";
import { filterRow } from "./filter_controls.js";

const TYPING_MS = 300;
const DAY_MS = 86_400_000;
const PRESETS = [
  ["Today", 0],
  ["7 days", 6],
  ["30 days", 29],
];
const RATINGS = [
  ["", "Any rating or none"],
  ["any", "Rated"],
  ["up", "Thumbs up"],
  ["down", "Thumbs down"],
];

export class FilterPanel {
  /**
   * @param {HTMLElement} root
   * @param {(change: object) => void} onChange told which parts of the page's state change
   */
  constructor(root, onChange) {
    this.root = root;
    this.onChange = onChange;
    this.fields = [];
    this.fieldsState = "asked";
    this.filters = new Map();
    this.seen = new Set();
    this.changed = debounce(() => this.#emit(), TYPING_MS);
    this.#build();
  }

  /** @param {{field: string, type: string, values: unknown[]|null}[]} fields */
  setFields(fields) {
    this.fields = fields;
    this.fieldsState = "known";
    this.#renderFilters();
  }

  /** Say that the fields could not be read, which is not to say that there are none. */
  setFieldsUnread() {
    if (this.fieldsState !== "known") this.fieldsState = "unread";
    this.#renderFilters();
  }

  /** Whether sessions can be filtered by a metadata field. */
  knows(name) {
    return this.fields.some(({ field }) => field === name);
  }

  /** Say which of the fields that sessions have cannot be filtered by. */
  noteSeen(names) {
    for (const name of names) this.seen.add(name);
    this.#renderHint();
  }

  /** Show what the page's address says, without telling anybody. */
  setState({ text, query, filters, from, to, rating, failed, agent }) {
    this.changed.cancel();
    for (const [input, value] of [[this.text, text], [this.query, query], [this.agent, agent]]) if (input.value.trim() !== value) input.value = value;
    this.from.value = from;
    this.to.value = to;
    this.rating.value = rating;
    this.failed.checked = failed;
    const shown = Object.fromEntries([...this.filters].filter(([, value]) => value !== ""));
    if (JSON.stringify(shown) !== JSON.stringify(filters)) {
      this.filters = new Map(Object.entries(filters));
      this.#renderFilters();
    }
    this.#renderCount();
  }

  focusSearch() {
    this.toggle.setAttribute("aria-expanded", "true");
    this.text.focus();
    this.text.select();
  }

  #build() {
    const body = uniqueId("filters");
    this.text = this.#searchInput("Said in the conversation", { "aria-keyshortcuts": "/" });
    this.query = this.#searchInput("Any part of the id");
    this.agent = this.#searchInput("Exact id of an agent");
    this.from = this.#dayInput();
    this.to = this.#dayInput();
    this.zone = el("legend.field-label");
    this.rating = el("select.select", { on: { change: () => this.#emit() } }, RATINGS.map(([value, text]) => el("option", { value, text })));
    this.failed = el("input", { type: "checkbox", on: { change: () => this.#emit() } });
    this.list = el("div.stack.filter-list");
    this.adder = el("select.select", { on: { change: () => this.#add(this.adder.value) } });
    this.hint = el("p.field-hint");
    this.count = el("span.badge.badge-accent", { hidden: true });
    this.clear = el("button.btn.btn-ghost.btn-sm", { type: "button", text: "Clear all", hidden: true, on: { click: () => this.#clearAll() } });
    // On a phone the panel folds; elsewhere the button is not shown.
    this.toggle = el(
      "button.filters-toggle",
      { type: "button", "aria-expanded": "false", "aria-controls": body, on: { click: () => this.#toggle() } },
      icon("filter"),
      el("span", { text: "Filters" }),
      icon("chevronDown"),
    );
    const form = el(
      "form.stack.filters-body",
      { id: body, role: "search" },
      this.#search("Text", this.text),
      this.#search("Session id", this.query),
      this.#days(),
      this.#labelled("Rating", this.rating),
      el("label.switch", {}, this.failed, "With failed turns"),
      this.#search("Agent", this.agent, "agent"),
      el("fieldset.fieldset.stack", {}, el("legend.field-label", { text: "Metadata" }), this.list, this.#labelled("Add a filter", this.adder, "visually-hidden"), this.hint),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.changed.cancel();
      this.#emit();
    });
    const head = el("div.panel-head", {}, el("h2.filters-title", { text: "Filters" }), this.toggle, this.count, el("span.spacer"), this.clear);
    fill(this.root, head, form);
    window.addEventListener("zonechange", () => this.#zoneChanged());
    this.#renderZone();
    this.#renderFilters();
  }

  #searchInput(placeholder, props = {}) {
    return el("input.input", { type: "search", placeholder, autocomplete: "off", spellcheck: "false", on: { input: this.changed }, ...props });
  }

  #search(label, input, art = "search") {
    input.id = uniqueId("search");
    return el("div.field", {}, el("label.field-label", { for: input.id, text: label }), el("div.input-icon", {}, icon(art), input));
  }

  #days() {
    const preset = ([text, back]) => el("button.btn.btn-sm", { type: "button", text, on: { click: () => this.#setDays(back) } });
    return el("fieldset.fieldset.stack", {}, this.zone, el("div.days", {}, this.#labelled("From", this.from), this.#labelled("To", this.to)), el("div.row.row-wrap", {}, PRESETS.map(preset)));
  }

  #setDays(back) {
    this.from.value = dayOf(Date.now() - back * DAY_MS);
    this.to.value = dayOf(Date.now());
    this.#emit();
  }

  #zoneChanged() {
    this.#renderZone();
    if (this.from.value || this.to.value) this.onChange({ zoned: true });
  }

  #renderZone() {
    this.zone.textContent = `Created (${currentZone() === "utc" ? "UTC" : "local time"})`;
  }

  #dayInput() {
    return el("input.input", { type: "date", on: { change: () => this.#emit() } });
  }

  #labelled(text, control, kind = "field-label") {
    control.id = uniqueId("field");
    return el("div.field", {}, el("label", { class: kind, for: control.id, text }), control);
  }

  #toggle() {
    this.toggle.setAttribute("aria-expanded", String(this.toggle.getAttribute("aria-expanded") !== "true"));
  }

  #renderFilters() {
    fill(this.list, [...this.filters.keys()].map((name) => this.#row(name)));
    this.list.hidden = this.filters.size === 0;
    const free = this.fields.filter(({ field }) => !this.filters.has(field));
    fill(
      this.adder,
      el("option", { value: "", text: free.length || this.fieldsState !== "known" ? "Add a filter…" : "No further field" }),
      free.map(({ field }) => el("option", { value: field, text: field })),
    );
    this.adder.disabled = free.length === 0;
    this.#renderHint();
    this.#renderCount();
  }

  #renderHint() {
    const without = [...this.seen].filter((name) => !this.knows(name)).sort();
    const named = without.slice(0, 4).join(", ") + (without.length > 4 ? ", …" : "");
    const advice = "Name fields in metadata_fields of a manager or factory, and they get one.";
    if (this.fieldsState !== "known") {
      this.hint.hidden = this.fieldsState === "asked";
      this.hint.textContent = "The fields to filter by could not be read. They are asked for again when the server recovers.";
      return;
    }
    this.hint.hidden = this.fields.length > 0 && without.length === 0;
    this.hint.textContent = this.fields.length === 0 ? `No metadata field has an index yet. ${advice}` : `Without an index, not to be filtered by: ${named}. ${advice}`;
  }

  #renderCount() {
    const active = [...this.filters.values()].filter((value) => value !== "").length;
    const others = [this.text.value, this.query.value, this.from.value || this.to.value, this.rating.value, this.failed.checked, this.agent.value];
    const total = active + others.filter(Boolean).length;
    this.count.hidden = total === 0;
    this.count.textContent = String(total);
    this.clear.hidden = total === 0 && this.filters.size === 0;
  }

  #row(name) {
    const field = this.fields.find((item) => item.field === name) ?? { field: name, type: "string", values: null };
    return filterRow(field, this.filters.get(name), {
      change: (value, now) => {
        this.filters.set(name, value);
        this.#renderCount();
        if (now) this.#emit();
        else this.changed();
      },
      remove: () => this.#remove(name),
    });
  }

  #add(name) {
    if (!name) return;
    this.filters.set(name, "");
    this.#renderFilters();
    this.list.lastElementChild.querySelector(".filter-body input, .filter-body select").focus();
  }

  #remove(name) {
    const had = this.filters.get(name) !== "";
    this.filters.delete(name);
    this.#renderFilters();
    (this.adder.disabled ? this.text : this.adder).focus();
    if (had) this.#emit();
  }

  #clearAll() {
    for (const input of [this.text, this.query, this.agent, this.from, this.to, this.rating]) input.value = "";
    this.failed.checked = false;
    this.filters.clear();
    this.#renderFilters();
    this.text.focus();
    this.#emit();
  }

  #emit() {
    this.#renderCount();
    this.onChange({
      text: this.text.value.trim(),
      query: this.query.value.trim(),
      filters: Object.fromEntries([...this.filters].filter(([, value]) => value !== "")),
      from: this.from.value,
      to: this.to.value,
      rating: this.rating.value,
      failed: this.failed.checked,
      agent: this.agent.value.trim(),
    });
  }
}
