// What a session used: totals, over the conversation, per agent, per tool.

import { el, fill, userText } from "../shared/dom.js";
import { stateView } from "../shared/feedback.js";
import { compact, duration, number, plural } from "../shared/format.js";
import { fullTime } from "../shared/time.js";

const known = (value) => value !== null && value !== undefined;

export class UsageTab {
  /** @param {HTMLElement} root @param {(signal: AbortSignal) => Promise<object>} load */
  constructor(root, load) {
    this.root = root;
    this.load = load;
    this.ending = new AbortController();
    this.charts = [];
    this.redraw = () => this.#draw();
    window.addEventListener("themechange", this.redraw);
  }

  destroy() {
    this.ending.abort();
    window.removeEventListener("themechange", this.redraw);
    for (const chart of this.charts) chart.destroy();
    this.charts = [];
  }

  /** @param {object} head the session without its timeline */
  async show(head) {
    this.head = head;
    fill(this.root, totals(head.usage), el("div.card", { "aria-hidden": "true" }, el("span.skeleton.w-40"), el("div.chart-bone.skeleton")));
    try {
      // The chart library is only fetched by those who look at charts.
      const [series, charts] = await Promise.all([this.load(this.ending.signal), import("./charts.js")]);
      this.series = series;
      this.chartsModule = charts;
      this.#draw();
    } catch (error) {
      if (this.ending.signal.aborted) return;
      const again = el("button.btn.btn-primary", { type: "button", text: "Try again", on: { click: () => this.show(head) } });
      fill(this.root, totals(head.usage), stateView({ art: "alert", danger: true, title: "The usage could not be read", text: error.message, actions: [again] }));
    }
  }

  #draw() {
    if (!this.series || this.ending.signal.aborted) return;
    for (const chart of this.charts) chart.destroy();
    this.charts = [];
    const { points, complete } = this.series;
    const { head } = this;
    fill(this.root, totals(head.usage));
    if (points.length === 0) {
      this.root.append(
        stateView({ art: "chart", title: "No usage recorded", text: "The models of this session reported no tokens and no latency." }),
      );
    } else {
      this.root.append(this.#lines("Tokens per answer", points, TOKENS, compact), this.#lines("Latency per answer", points, LATENCY, duration));
      if (!complete) this.root.append(el("p.faint", { text: "Charts cover the newest 10,000 messages." }));
    }
    this.root.append(...[perAgent(head.agents_summary), perTool(head.usage.tools)].filter(Boolean));
  }

  #lines(title, points, series, format) {
    const given = series.filter(({ key }) => points.some((point) => known(point[key])));
    const holder = el("div.chart", { role: "img", "aria-label": describe(title, points, given, format) });
    const card = el("section.card", {}, el("h2.card-title", { text: title }), holder, pointsTable(points, given, format));
    if (given.length === 0) holder.append(el("p.faint", { text: "Not reported by this session's models." }));
    else this.charts.push(this.chartsModule.lineChart(holder, points, given, format));
    return card;
  }
}

const TOKENS = [
  { key: "input_tokens", label: "Input", token: "--series-1" },
  { key: "output_tokens", label: "Output", token: "--series-2" },
];
const LATENCY = [
  { key: "latency_ms", label: "Latency", token: "--series-3" },
  { key: "time_to_first_byte_ms", label: "Time to first byte", token: "--series-4" },
];

function describe(title, points, series, format) {
  const ranges = series.map(({ key, label }) => {
    const values = points.map((point) => point[key]).filter(known);
    return `${label} from ${format(Math.min(...values))} to ${format(Math.max(...values))}`;
  });
  return `${title}, ${plural(points.length, "point")}. ${ranges.join("; ")}.`;
}

/** What the session used in all, as a row of figures. */
export function totals(usage) {
  const stat = (label, value, title) =>
    known(value) || value === "–" ? el("div.stat", {}, el("span.stat-label", { text: label }), el("span.stat-value", { text: value, title })) : null;
  const figure = (value) => (known(value) ? compact(value) : null);
  const stats = [
    stat("Input tokens", figure(usage.input_tokens), number(usage.input_tokens)),
    stat("Output tokens", figure(usage.output_tokens), number(usage.output_tokens)),
    stat("Read from cache", usage.cache_read_tokens ? figure(usage.cache_read_tokens) : null, number(usage.cache_read_tokens)),
    stat("Written to cache", usage.cache_write_tokens ? figure(usage.cache_write_tokens) : null, number(usage.cache_write_tokens)),
    stat("Model calls", figure(usage.model_calls), number(usage.model_calls)),
    stat("Time in models", known(usage.latency_ms) ? duration(usage.latency_ms) : null, `${number(usage.latency_ms)} ms`),
  ].filter(Boolean);
  return stats.length ? el("div.card.stats", {}, stats) : el("div");
}

function pointsTable(points, series, format) {
  const rows = points.map((point, index) =>
    el(
      "tr",
      {},
      el("td.num", { text: number(index + 1) }),
      el("td", { text: fullTime(point.timestamp) }),
      el("td", {}, userText(point.agent_id)),
      series.map(({ key }) => el("td.num", { text: known(point[key]) ? format(point[key]) : "–" })),
    ),
  );
  const head = el("tr", {}, ["#", "Time", "Agent"].map((text) => el("th", { scope: "col", text })), series.map(({ label }) => el("th.num", { scope: "col", text: label })));
  const details = el("details.chart-table", {}, el("summary.faint", { text: "Show as a table" }));
  details.addEventListener(
    "toggle",
    () => details.append(el("div.table-wrap", { tabindex: 0 }, el("table.table", {}, el("thead", {}, head), el("tbody", {}, rows)))),
    { once: true },
  );
  return details;
}

function bar(share) {
  const fillPart = el("span");
  fillPart.style.width = `${Math.max(share * 100, 0.5)}%`;
  return el("span.bar", { "aria-hidden": "true" }, fillPart);
}

function table(title, columns, rows) {
  const head = columns.map(([text, kind]) => el("th", { scope: "col", class: kind, text }));
  return el(
    "section.card",
    {},
    el("h2.card-title", { text: title }),
    el("div.table-wrap", { tabindex: 0, role: "region", "aria-label": title }, el("table.table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows))),
  );
}

function perAgent(agents) {
  if (agents.length === 0) return null;
  const most = Math.max(1, ...agents.map(({ usage }) => usage.total_tokens ?? 0));
  const rows = agents.map(({ agent_id: id, messages_count: messages, usage }) =>
    el(
      "tr",
      {},
      el("td", {}, userText(id), bar((usage.total_tokens ?? 0) / most)),
      [number(messages), compact(usage.input_tokens), compact(usage.output_tokens), duration(usage.latency_ms), number(usage.model_calls)].map(
        (text) => el("td.num", { text }),
      ),
    ),
  );
  return table("Per agent", [["Agent"], ["Messages", "num"], ["Input", "num"], ["Output", "num"], ["Time in model", "num"], ["Calls", "num"]], rows);
}

function perTool(tools) {
  const entries = Object.entries(tools ?? {}).sort(([, one], [, other]) => other.call_count - one.call_count);
  if (entries.length === 0) return null;
  const most = Math.max(1, ...entries.map(([, tool]) => tool.call_count));
  const rows = entries.map(([name, tool]) =>
    el(
      "tr",
      {},
      el("td", {}, userText(name, "span.mono.user-text"), bar(tool.call_count / most)),
      el("td.num", { text: number(tool.call_count) }),
      el("td.num", {}, tool.error_count ? el("span.badge.badge-danger", { text: number(tool.error_count) }) : "0"),
      el("td.num", { text: tool.call_count ? duration((tool.total_time_s * 1000) / tool.call_count) : "–" }),
      el("td.num", { text: duration(tool.total_time_s * 1000) }),
    ),
  );
  return table("Per tool", [["Tool"], ["Calls", "num"], ["Failed", "num"], ["Average", "num"], ["Total", "num"]], rows);
}
