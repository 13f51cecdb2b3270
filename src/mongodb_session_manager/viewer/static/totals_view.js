// What the sessions of a search come to together: figures, charts over time, and models with what they cost.

import { el, fill, userText } from "../shared/dom.js";
import { stateView } from "../shared/feedback.js";
import { compact, duration, number } from "../shared/format.js";
import { isAbort } from "../shared/http.js";
import { icon } from "../shared/icons.js";
import { fullTime, periodName } from "../shared/time.js";
import { isNarrowed } from "./urls.js";

const CHARTS = [
  ["Sessions and failed turns", [["sessions", "Sessions", "--series-1"], ["errors", "Failed turns", "--series-2"]], number],
  ["Ratings", [["ratings_up", "Thumbs up", "--series-1"], ["ratings_down", "Thumbs down", "--series-2"]], number],
  ["Tokens", [["input_tokens", "Input", "--series-1"], ["output_tokens", "Output", "--series-2"]], compact],
  ["Latency per model call", [["latency", "Average", "--series-3"]], duration],
];
const UNITS = { hour: "an hour", day: "a day", week: "a week", month: "a month" };

export class TotalsView {
  /**
   * @param {HTMLElement} root
   * @param {(signal: AbortSignal) => Promise<object>} load
   * @param {import("./urls.js").PageState} state
   * @param {object} on `close`, `narrow(change)`
   */
  constructor(root, load, state, on) {
    this.root = root;
    this.load = load;
    this.state = state;
    this.on = on;
    this.ending = new AbortController();
    this.charts = [];
    this.redraw = () => this.page && this.#draw();
    window.addEventListener("themechange", this.redraw);
    this.reread = () => this.show();
    window.addEventListener("zonechange", this.reread);
  }

  end() {
    this.ending.abort();
    window.removeEventListener("themechange", this.redraw);
    window.removeEventListener("zonechange", this.reread);
    for (const chart of this.charts) chart.destroy();
  }

  reloadFailed() {
    if (this.root.querySelector(".state-danger")) this.show();
  }

  async show() {
    if (this.state.text) {
      const without = el("button.btn.btn-primary", { type: "button", text: "Totals without the text", on: { click: () => this.on.narrow({ text: "" }) } });
      fill(this.root, this.#head(), stateView({ art: "chart", title: "No totals of a search for text", text: "Every session would have to be looked through. The other filters can be added up.", actions: [without] }));
      return;
    }
    fill(this.root, this.#head(), el("div.totals", {}, el("p.visually-hidden", { role: "status", text: "Adding up" }), el("div.card", { "aria-hidden": "true" }, el("span.skeleton.w-40"), el("div.chart-bone.skeleton"))));
    try {
      const [page, charts] = await Promise.all([this.load(this.ending.signal), import("./charts.js")]);
      this.page = page;
      this.lineChart = charts.lineChart;
      this.#draw();
    } catch (error) {
      if (isAbort(error) || this.ending.signal.aborted) return;
      const again = el("button.btn.btn-primary", { type: "button", on: { click: () => this.show() } }, icon("refresh"), "Try again");
      fill(this.root, this.#head(), stateView({ art: "alert", danger: true, title: "The sessions could not be added up", text: error.message, actions: [again] }));
    }
  }

  #head() {
    const back = el("button.btn.btn-ghost.btn-icon", { type: "button", "aria-label": "Close the totals", data: { tip: "Close" }, on: { click: this.on.close } }, icon("close"));
    const of = isNarrowed(this.state) ? "the sessions that the filters leave" : "all sessions";
    return el("header.detail-head", {}, el("div.detail-title", {}, el("h1", { text: "Totals" }), back), el("p.muted", { text: `Of ${of}, by when they were created.` }));
  }

  #draw() {
    for (const chart of this.charts) chart.destroy();
    this.charts = [];
    const { totals, points, unit } = this.page;
    const dated = points.filter(({ start }) => start !== null).map((point) => ({ ...point, latency: point.model_calls ? point.latency_ms / point.model_calls : null }));
    const body = el("div.totals", {}, figures(totals, this.#cost()));
    fill(this.root, this.#head(), body);
    if (dated.length > 0) for (const [title, series, format] of CHARTS) this.#chart(body, title, dated, series, format, unit);
    body.append(...[models(this.page), table(points)].filter(Boolean));
  }

  #chart(body, title, points, series, format, unit) {
    const given = series.map(([key, label, token]) => ({ key, label, token }));
    if (!points.some((point) => given.some(({ key }) => point[key]))) return;
    const holder = el("div.chart", { role: "img", "aria-label": `${title}, ${points.length} points, one for ${UNITS[unit]}` });
    body.append(el("section.card", {}, el("h2.card-title", { text: `${title}, by ${unit}` }), holder));
    this.charts.push(this.lineChart(holder, points, given, format, { name: (index) => fullTime(points[index]?.start), short: (index) => periodName(points[index].start, unit) }));
  }

  #cost() {
    const costs = (this.page.models ?? []).map(({ cost }) => cost).filter((cost) => cost !== null);
    return costs.length ? money(costs.reduce((sum, cost) => sum + cost, 0), this.page.currency) : null;
  }
}

function money(amount, currency) {
  try {
    return new Intl.NumberFormat("en", { style: "currency", currency }).format(amount);
  } catch {
    return `${amount.toFixed(2)} ${currency}`;
  }
}

function figures(totals, cost) {
  const stat = (label, value) => (value === null ? null : el("div.stat", {}, el("span.stat-label", { text: label }), el("span.stat-value", { text: value })));
  return el(
    "div.card.stats",
    {},
    stat("Sessions", number(totals.sessions)),
    stat("Messages", compact(totals.messages)),
    stat("Thumbs up", number(totals.ratings_up)),
    stat("Thumbs down", number(totals.ratings_down)),
    stat("Failed turns", number(totals.errors)),
    stat("Input tokens", compact(totals.input_tokens)),
    stat("Output tokens", compact(totals.output_tokens)),
    stat("Time in models", duration(totals.latency_ms)),
    stat("Cost", cost),
  );
}

function grid(title, columns, rows) {
  const head = columns.map(([text, kind]) => el("th", { scope: "col", class: kind, text }));
  return el(
    "section.card",
    {},
    el("h2.card-title", { text: title }),
    el("div.table-wrap", { tabindex: 0, role: "region", "aria-label": title }, el("table.table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows))),
  );
}

const cells = (texts) => texts.map((text) => el("td.num", { text }));

function models({ models: found, currency }) {
  if (found === null) return el("p.faint", { text: "Telling models apart takes too long for so many sessions; narrow the search to see them." });
  if (found.length === 0) return null;
  const rows = found.map(({ model, agents, input_tokens: input, output_tokens: output, cost }) =>
    el("tr", {}, el("td", {}, model === null ? "not recorded" : userText(model, "span.mono.user-text")), cells([number(agents), compact(input), compact(output), cost === null ? "–" : money(cost, currency)])),
  );
  return grid("Per model", [["Model"], ["Agents", "num"], ["Input", "num"], ["Output", "num"], ["Cost", "num"]], rows);
}

function table(points) {
  const rows = [...points].reverse().map((point) =>
    el(
      "tr",
      {},
      el("td", { text: point.start === null ? "no date" : fullTime(point.start) }),
      cells([number(point.sessions), number(point.messages), number(point.ratings_up), number(point.ratings_down), number(point.errors), compact(point.total_tokens)]),
    ),
  );
  return grid("Over time", [["From"], ["Sessions", "num"], ["Messages", "num"], ["Up", "num"], ["Down", "num"], ["Failed", "num"], ["Tokens", "num"]], rows);
}
