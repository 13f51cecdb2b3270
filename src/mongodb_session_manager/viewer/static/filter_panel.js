// The search: part of an id, days, and filters on metadata that are added and removed at will.

import { debounce, el, fill, uniqueId } from "../shared/dom.js";
import { icon } from "../shared/icons.js";

const TYPING_MS = 300;
const DAY_MS = 86_400_000;
const PRESETS = [
  ["Today", 0],
  ["7 days", 6],
  ["30 days", 29],
];

const day = (moment) => new Date(moment).toISOString().slice(0, 10);

export class FilterPanel {
  /**
   * @param {HTMLElement} root
   * @param {(change: {query: string, filters: object, from: string, to: string}) => void} onChange
   */
  constructor(root, onChange) {
    this.root = root;
    this.onChange = onChange;
    this.fields = [];
    this.filters = new Map();
    this.changed = debounce(() => this.#emit(), TYPING_MS);
    this.#build();
  }

  /** @param {{field: string, type: string, values: unknown[]|null}[]} fields */
  setFields(fields) {
    this.fields = fields;
    this.#renderFilters();
  }

  /** Show what the page's address says, without telling anybody. */
  setState({ query, filters, from, to }) {
    this.changed.cancel();
    if (this.query.value !== query) this.query.value = query;
    this.from.value = from;
    this.to.value = to;
    const same = JSON.stringify(Object.fromEntries(this.filters)) === JSON.stringify(filters);
    if (!same) this.filters = new Map(Object.entries(filters));
    if (!same) this.#renderFilters();
    this.#renderCount();
  }

  focusSearch() {
    this.toggle.setAttribute("aria-expanded", "true");
    this.query.focus();
    this.query.select();
  }

  #build() {
    const body = uniqueId("filters");
    const query = uniqueId("query");
    this.query = el("input.input", {
      id: query,
      type: "search",
      placeholder: "Any part of the id",
      autocomplete: "off",
      spellcheck: "false",
      "aria-keyshortcuts": "/",
      on: { input: this.changed },
    });
    this.from = this.#dayInput();
    this.to = this.#dayInput();
    this.list = el("div.stack.filter-list");
    this.adder = el("select.select", { on: { change: () => this.#add(this.adder.value) } });
    this.hint = el("p.field-hint");
    this.count = el("span.badge.badge-accent", { hidden: true });
    this.clear = el("button.btn.btn-ghost.btn-sm", {
      type: "button",
      text: "Clear all",
      hidden: true,
      on: { click: () => this.#clearAll() },
    });
    // On a phone the panel folds; elsewhere the button is not shown.
    this.toggle = el(
      "button.filters-toggle",
      {
        type: "button",
        "aria-expanded": "false",
        "aria-controls": body,
        on: { click: () => this.#toggle() },
      },
      icon("filter"),
      el("span", { text: "Filters" }),
      icon("chevronDown"),
    );
    const form = el(
      "form.stack.filters-body",
      { id: body, role: "search" },
      el(
        "div.field",
        {},
        el("label.field-label", { for: query, text: "Session id" }),
        el("div.input-icon", {}, icon("search"), this.query),
      ),
      this.#days(),
      el(
        "fieldset.fieldset.stack",
        {},
        el("legend.field-label", { text: "Metadata" }),
        this.list,
        this.#labelled("Add a filter", this.adder, "visually-hidden"),
        this.hint,
      ),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.changed.cancel();
      this.#emit();
    });
    fill(
      this.root,
      el("div.panel-head", {}, el("h2.filters-title", { text: "Filters" }), this.toggle, this.count, el("span.spacer"), this.clear),
      form,
    );
    this.#renderFilters();
  }

  #days() {
    const preset = ([label, back]) =>
      el("button.btn.btn-sm", {
        type: "button",
        text: label,
        on: {
          click: () => {
            this.from.value = day(Date.now() - back * DAY_MS);
            this.to.value = day(Date.now());
            this.#emit();
          },
        },
      });
    return el(
      "fieldset.fieldset.stack",
      {},
      el("legend.field-label", { text: "Created (UTC)" }),
      el("div.days", {}, this.#labelled("From", this.from), this.#labelled("To", this.to)),
      el("div.row.row-wrap", {}, PRESETS.map(preset)),
    );
  }

  #dayInput() {
    return el("input.input", { type: "date", on: { change: () => this.#emit() } });
  }

  #labelled(text, control, kind = "field-label") {
    const id = uniqueId("field");
    control.id = id;
    return el("div.field", {}, el("label", { class: kind, for: id, text }), control);
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
      el("option", { value: "", text: free.length ? "Add a filter…" : "No further field" }),
      free.map(({ field }) => el("option", { value: field, text: field })),
    );
    this.adder.disabled = free.length === 0;
    this.hint.hidden = this.fields.length > 0;
    this.hint.textContent = "No metadata field has an index yet. Name them in metadata_fields of a manager or factory.";
    this.#renderCount();
  }

  #renderCount() {
    const active = [...this.filters.values()].filter((value) => value !== "").length;
    const total = active + (this.query.value ? 1 : 0) + (this.from.value || this.to.value ? 1 : 0);
    this.count.hidden = total === 0;
    this.count.textContent = String(total);
    this.count.setAttribute("aria-label", `${total} active`);
    this.clear.hidden = total === 0 && this.filters.size === 0;
  }

  #row(name) {
    const field = this.fields.find((item) => item.field === name) ?? { field: name, type: "string", values: null };
    const id = uniqueId("filter");
    const control = this.#control(field, id);
    const remove = el(
      "button.btn.btn-ghost.btn-icon.btn-sm",
      { type: "button", "aria-label": `Remove filter ${name}`, data: { tip: "Remove" }, on: { click: () => this.#remove(name) } },
      icon("close"),
    );
    return el(
      "div.field.filter",
      { data: { field: name } },
      el("div.row", {}, el("label.field-label.truncate", { for: id, title: name, text: name }), el("span.spacer"), remove),
      control,
    );
  }

  #control({ field, type, values }, id) {
    const current = this.filters.get(field);
    const set = (value) => {
      this.filters.set(field, value);
      this.#renderCount();
    };
    if (type === "boolean" || (type === "enum" && values)) {
      const choices = type === "boolean" ? [true, false] : values;
      const label = (value) => (type === "boolean" ? (value ? "Yes" : "No") : String(value));
      const select = el(
        "select.select",
        { id, on: { change: () => (set(select.value === "" ? "" : JSON.parse(select.value)), this.#emit()) } },
        el("option", { value: "", text: "Any" }),
        choices.map((value) => el("option", { value: JSON.stringify(value), text: label(value) })),
      );
      select.value = current === "" || current === undefined ? "" : JSON.stringify(current);
      return select;
    }
    const kind = { number: "number", date: "date" }[type] ?? "text";
    const input = el("input.input", {
      id,
      type: kind,
      step: kind === "number" ? "any" : null,
      placeholder: kind === "text" ? "Exact value" : null,
      autocomplete: "off",
      value: current ?? "",
      on: {
        input: () => {
          set(kind === "number" && input.value !== "" ? Number(input.value) : input.value);
          this.changed();
        },
      },
    });
    return input;
  }

  #add(name) {
    if (!name) return;
    this.filters.set(name, "");
    this.#renderFilters();
    this.list.lastElementChild.querySelector("input, select").focus();
  }

  #remove(name) {
    const had = this.filters.get(name) !== "";
    this.filters.delete(name);
    this.#renderFilters();
    (this.adder.disabled ? this.query : this.adder).focus();
    if (had) this.#emit();
  }

  #clearAll() {
    this.query.value = "";
    this.from.value = "";
    this.to.value = "";
    this.filters.clear();
    this.#renderFilters();
    this.query.focus();
    this.#emit();
  }

  #emit() {
    this.#renderCount();
    const filters = Object.fromEntries([...this.filters].filter(([, value]) => value !== ""));
    this.onChange({ query: this.query.value.trim(), filters, from: this.from.value, to: this.to.value });
  }
}
