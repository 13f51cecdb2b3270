// The time zone in which a page shows and asks for moments: the reader's own, or UTC. One for the whole page.

const KEY = "zone";

function stored() {
  try {
    return localStorage.getItem(KEY) === "utc" ? "utc" : "local";
  } catch {
    return "local";
  }
}

let current = stored();

/** "local" or "utc" */
export const currentZone = () => current;

/** Its IANA name. */
export const zoneName = () => (current === "utc" ? "UTC" : Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC");

/** Choose; listeners of `zonechange` on `window` show their moments anew. */
export function setZone(zone) {
  current = zone === "utc" ? "utc" : "local";
  try {
    localStorage.setItem(KEY, current);
  } catch {
    // Storage can be switched off; the choice then lasts as long as the page.
  }
  window.dispatchEvent(new Event("zonechange"));
}

/** The day of a moment, "2026-11-28". @param {number|Date} moment */
export function dayOf(moment) {
  const date = new Date(moment);
  const shifted = current === "utc" ? date : new Date(date.getTime() - date.getTimezoneOffset() * 60_000);
  return shifted.toISOString().slice(0, 10);
}

/** The first moment of a day, as ISO text in UTC. @param {string} day "2026-11-28" */
export function startOfDay(day) {
  return toIso(new Date(current === "utc" ? `${day}T00:00:00Z` : `${day}T00:00:00`));
}

/** The last millisecond of a day, as ISO text in UTC. @param {string} day */
export function endOfDay(day) {
  return toIso(new Date(current === "utc" ? `${day}T23:59:59.999Z` : `${day}T23:59:59.999`));
}

const toIso = (date) => (Number.isNaN(date.getTime()) ? "" : date.toISOString());

/** Make a button switch between the two. */
export function zoneButton(button) {
  const show = () => {
    const isUtc = current === "utc";
    button.textContent = isUtc ? "UTC" : "Local";
    const label = isUtc ? "Times in UTC; switch to local time" : `Times in ${zoneName()}; switch to UTC`;
    button.setAttribute("aria-label", `${button.textContent}: ${label}`);
    button.dataset.tip = label;
  };
  button.addEventListener("click", () => setZone(current === "utc" ? "local" : "utc"));
  window.addEventListener("zonechange", show);
  show();
}
