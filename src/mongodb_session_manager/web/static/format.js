// Numbers, sizes and durations for people. Unknown is a dash, never a zero.

const COMPACT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const PLAIN = new Intl.NumberFormat("en");
export const UNKNOWN = "–";

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** 12345 -> "12.3K" */
export function compact(value) {
  return isNumber(value) ? COMPACT.format(value) : UNKNOWN;
}

/** 12345 -> "12,345" */
export function number(value) {
  return isNumber(value) ? PLAIN.format(value) : UNKNOWN;
}

/** 1, "message" -> "1 message"; 3, "message" -> "3 messages" */
export function plural(value, singular, many = `${singular}s`) {
  return `${number(value)} ${value === 1 ? singular : many}`;
}

/** Milliseconds -> "840 ms", "3.2 s", "2 min 5 s" */
export function duration(ms) {
  if (!isNumber(ms)) return UNKNOWN;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`;
  const seconds = Math.round(ms / 1000);
  return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

/** Bytes -> "3.4 KB" */
export function bytes(size) {
  if (!isNumber(size)) return UNKNOWN;
  const units = ["B", "KB", "MB", "GB"];
  let step = 0;
  while (size >= 1000 && step < units.length - 1) {
    size /= 1000;
    step += 1;
  }
  return `${step === 0 ? size : size.toFixed(1)} ${units[step]}`;
}

/** A value on one line, cut to `limit` characters: for summaries and badges. */
export function oneLine(value, limit = 80) {
  let text;
  if (typeof value === "string") text = value;
  else if (value === undefined) text = "";
  else text = JSON.stringify(value) ?? String(value);
  text = text.slice(0, limit * 4).replace(/\s+/g, " ").trim();
  const characters = Array.from(text);
  return characters.length > limit ? `${characters.slice(0, limit - 1).join("")}…` : text;
}
