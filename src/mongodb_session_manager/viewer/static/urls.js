// Addresses: the API's, and the state of the page in its own.

const PLAIN_ID = /^[A-Za-z0-9_-][A-Za-z0-9_.:@-]*$/;

/** A session id as one path segment, whatever characters it holds. */
export function idSegment(sessionId) {
  if (PLAIN_ID.test(sessionId) && sessionId !== "search") return encodeURIComponent(sessionId);
  const bytes = new TextEncoder().encode(sessionId);
  const binary = Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
  return `~${btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "")}`;
}

export const TABS = ["conversation", "usage", "metadata", "agents"];
const PAGE_SIZES = [20, 50, 100];

/**
 * @typedef {object} PageState
 * @property {string} query part of a session id
 * @property {Record<string, unknown>} filters field to value
 * @property {string} from first day, or ""
 * @property {string} to last day, or ""
 * @property {number} page from 1
 * @property {number} limit sessions per page, 0 for the server's default
 * @property {string|null} sessionId the open session
 * @property {string} tab
 */

/** @param {string} search `location.search` @returns {PageState} */
export function readState(search) {
  const params = new URLSearchParams(search);
  const page = Number(params.get("page"));
  const limit = Number(params.get("limit"));
  const tab = params.get("tab");
  return {
    query: params.get("q") ?? "",
    filters: readFilters(params.get("filters")),
    from: readDay(params.get("from")),
    to: readDay(params.get("to")),
    page: Number.isInteger(page) && page > 0 ? page : 1,
    limit: PAGE_SIZES.includes(limit) ? limit : 0,
    sessionId: params.get("session_id") || null,
    tab: TABS.includes(tab) ? tab : TABS[0],
  };
}

function readFilters(text) {
  if (!text) return {};
  try {
    const value = JSON.parse(text);
    if (value === null || typeof value !== "object" || Array.isArray(value)) return {};
    const plain = ([, item]) => ["string", "number", "boolean"].includes(typeof item);
    return Object.fromEntries(Object.entries(value).filter(plain));
  } catch {
    return {};
  }
}

const readDay = (text) => (/^\d{4}-\d{2}-\d{2}$/.test(text ?? "") ? text : "");

/** @param {PageState} state @returns {string} "?..." or "./" when there is nothing to say */
export function writeState(state) {
  const params = new URLSearchParams();
  if (state.query) params.set("q", state.query);
  if (Object.keys(state.filters).length) params.set("filters", JSON.stringify(state.filters));
  if (state.from) params.set("from", state.from);
  if (state.to) params.set("to", state.to);
  if (state.page > 1) params.set("page", state.page);
  if (state.limit) params.set("limit", state.limit);
  if (state.sessionId) params.set("session_id", state.sessionId);
  if (state.sessionId && state.tab !== TABS[0]) params.set("tab", state.tab);
  const text = params.toString();
  return text ? `?${text}` : "./";
}

/** The address that opens one session, for other people. */
export function sessionLink(sessionId) {
  return new URL(`?${new URLSearchParams({ session_id: sessionId })}`, document.baseURI).href;
}
