// When items of a timeline happened: the line before a day, and what belongs closely together.

import { el } from "../shared/dom.js";
import { dayName, parseTime } from "../shared/time.js";

const PAUSE_MS = 60_000;

/** Whether an item follows so closely that its time need not be shown again. */
export function soonAfter(item, before) {
  const passed = parseTime(item.timestamp) - parseTime(before.timestamp);
  return sameDay(item, before) && passed < PAUSE_MS;
}

export function sameDay(one, other) {
  return dayName(one?.timestamp) === dayName(other?.timestamp);
}

export function daySeparator(item, before) {
  if (before && sameDay(item, before)) return null;
  if (!parseTime(item.timestamp)) return null;
  return el("div.day", {}, el("span", { text: dayName(item.timestamp) }));
}
