// Moments: relative where a glance is enough, exact on demand.

import { el } from "./dom.js";
import { UNKNOWN } from "./format.js";
import { currentZone } from "./zone.js";

const RELATIVE = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "short" });
const STEPS = [
  [60, "second", 1],
  [3600, "minute", 60],
  [86_400, "hour", 3600],
  [604_800, "day", 86_400],
  [2_629_800, "week", 604_800],
  [31_557_600, "month", 2_629_800],
  [Infinity, "year", 31_557_600],
];
const STYLES = {
  clock: { hour: "2-digit", minute: "2-digit", second: "2-digit" },
  day: { weekday: "long", day: "numeric", month: "long", year: "numeric" },
  full: { dateStyle: "medium", timeStyle: "medium" },
  atHour: { hour: "2-digit", minute: "2-digit" },
  atDay: { day: "numeric", month: "short" },
  atMonth: { month: "short", year: "numeric" },
};
const formats = new Map();

function formatted(style, date) {
  const name = `${style} ${currentZone()}`;
  if (!formats.has(name)) {
    const zone = currentZone() === "utc" ? { timeZone: "UTC" } : {};
    formats.set(name, new Intl.DateTimeFormat(undefined, { ...STYLES[style], ...zone }));
  }
  return formats.get(name).format(date);
}

/** A Date, or null for what is no moment. */
export function parseTime(value) {
  if (value === null || value === undefined || value === "") return null;
  const date = value instanceof Date ? value : new Date(value);
  return Number.isNaN(date.getTime()) ? null : date;
}

/** "3 min ago", "yesterday" */
export function relativeTime(value, now = Date.now()) {
  const date = parseTime(value);
  if (!date) return UNKNOWN;
  const seconds = (date.getTime() - now) / 1000;
  if (Math.abs(seconds) < 10) return "just now";
  const [, unit, size] = STEPS.find(([limit]) => Math.abs(seconds) < limit);
  return RELATIVE.format(Math.trunc(seconds / size), unit);
}

const shown = (style, value, unknown) => (parseTime(value) ? formatted(style, parseTime(value)) : unknown);
export const fullTime = (value) => `${shown("full", value, UNKNOWN)}${parseTime(value) && currentZone() === "utc" ? " UTC" : ""}`;
export const clockTime = (value) => shown("clock", value, UNKNOWN);
export const dayName = (value) => shown("day", value, "No date");

/** When a period begins, in short. @param {"hour"|"day"|"week"|"month"} unit */
export const periodName = (value, unit) => shown({ hour: "atHour", month: "atMonth" }[unit] ?? "atDay", value, "");

/**
 * A <time> element; relative ones are kept current by `refreshTimes`.
 *
 * @param {string} value ISO moment
 * @param {"relative"|"clock"|"full"} [style]
 */
export function timeElement(value, style = "relative") {
  const date = parseTime(value);
  if (!date) return el("span.faint", { text: "no date" });
  const text = { relative: relativeTime, clock: clockTime, full: fullTime }[style](date);
  return el("time", {
    datetime: date.toISOString(),
    text,
    title: style === "full" ? date.toISOString() : fullTime(date),
    data: style === "relative" ? { relative: "" } : { moment: style },
  });
}

/** Keep every relative time of the page current. */
export function refreshTimes(everyMs = 30_000) {
  return setInterval(() => {
    for (const node of document.querySelectorAll("time[data-relative]")) node.textContent = relativeTime(node.dateTime);
  }, everyMs);
}

/** Show every moment of the page in the zone that was chosen. */
export function followZone() {
  window.addEventListener("zonechange", () => {
    for (const node of document.querySelectorAll("time[data-moment]")) node.textContent = { clock: clockTime, full: fullTime }[node.dataset.moment](node.dateTime);
    for (const node of document.querySelectorAll("time[data-relative], time[data-moment='clock']")) node.title = fullTime(node.dateTime);
  });
}
