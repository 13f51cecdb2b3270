// Addresses: the API's, and the state of the page in its own.

const RESERVED = new Set(["search", "events", "totals", "archive"]);
const PLAIN_ID = /^[A-Za-z0-9_-][A-Za-z0-9_.:@-]*$/;

/** A session id as one path segment, whatever characters it holds. */
export function idSegment(sessionId) {
  if (PLAIN_ID.test(sessionId) && !RESERVED.has(sessionId)) return encodeURIComponent(sessionId);
  const bytes = new TextEncoder().encode(sessionId);
  const binary = Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
  return `~${btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "")}`;
}

export const TABS = ["conversation", "usage", "metadata", "agents"];
export const SORTS = ["updated", "created", "messages", "tokens"];
const RATINGS = ["up", "down", "any"];
const PAGE_SIZES = [20, 50, 100];

/**
 * @typedef {object} PageState
 * @property {string} text part of what was said
 * @property {string} query part of a session id
 * @property {Record<string, unknown>} filters field to value, or to {min, max}
 * @property {string} from first day, or ""
 * @property {string} to last day, or ""
 * @property {string} rating "up", "down", "any" or ""
 * @property {boolean} failed only sessions with a failed turn
 * @property {string} agent id of an agent, or ""
 * @property {string} sort
 * @property {number} page from 1
 * @property {number} limit sessions per page, 0 for the server's default
 * @property {string|null} sessionId the open session
 * @property {string|null} withId the session beside it
 * @property {string} tab
 * @property {{agentId: string, messageId: number}|null} message the message to open at
 * @property {{agentId: string, messageId: number}|null} withMessage the same of the session beside it
 * @property {boolean} totals show what the sessions come to
 */

/** What narrows the list: one that differs in these is another search. */
export const SEARCHED = ["text", "query", "filters", "from", "to", "rating", "failed", "agent", "sort", "limit"];

/** A state that narrows nothing. */
export const EVERYTHING = { text: "", query: "", filters: {}, from: "", to: "", rating: "", failed: false, agent: "" };

const oneOf = (value, choices, otherwise) => (choices.includes(value) ? value : otherwise);

/** @param {string} search `location.search` @returns {PageState} */
export function readState(search) {
  const params = new URLSearchParams(search);
  const page = Number(params.get("page"));
  return {
    text: params.get("text") ?? "",
    query: params.get("q") ?? "",
    filters: readFilters(params.get("filters")),
    from: readDay(params.get("from")),
    to: readDay(params.get("to")),
    rating: oneOf(params.get("rating"), RATINGS, ""),
    failed: params.get("failed") === "1",
    agent: params.get("agent") ?? "",
    sort: oneOf(params.get("sort"), SORTS, SORTS[0]),
    page: Number.isInteger(page) && page > 0 ? page : 1,
    limit: oneOf(Number(params.get("limit")), PAGE_SIZES, 0),
    sessionId: params.get("session_id") || null,
    withId: (params.get("session_id") && params.get("with")) || null,
    tab: oneOf(params.get("tab"), TABS, TABS[0]),
    message: readMessage(params.get("message")),
    withMessage: params.get("with") ? readMessage(params.get("with_message")) : null,
    totals: params.get("view") === "totals",
  };
}

const isPlain = (item) => ["string", "number", "boolean"].includes(typeof item);
const isRange = (item) => item !== null && typeof item === "object" && Object.entries(item).every(([key, value]) => ["min", "max"].includes(key) && isPlain(value));

function readFilters(text) {
  if (!text) return {};
  try {
    const value = JSON.parse(text);
    if (value === null || typeof value !== "object" || Array.isArray(value)) return {};
    return Object.fromEntries(Object.entries(value).filter(([, item]) => isPlain(item) || isRange(item)));
  } catch {
    return {};
  }
}

/** "agent:12"; an agent's id may hold colons. */
function readMessage(text) {
  const [, agentId, number] = text?.match(/^(.*):(\d+)$/s) ?? [];
  return number === undefined ? null : { agentId, messageId: Number(number) };
}

const writeMessage = ({ agentId, messageId }) => `${agentId}:${messageId}`;

const readDay = (text) => (/^\d{4}-\d{2}-\d{2}$/.test(text ?? "") ? text : "");

/** @param {PageState} state @returns {string} "?..." or "./" when there is nothing to say */
export function writeState(state) {
  const params = new URLSearchParams();
  if (state.text) params.set("text", state.text);
  if (state.query) params.set("q", state.query);
  if (Object.keys(state.filters).length) params.set("filters", JSON.stringify(state.filters));
  if (state.from) params.set("from", state.from);
  if (state.to) params.set("to", state.to);
  if (state.rating) params.set("rating", state.rating);
  if (state.failed) params.set("failed", "1");
  if (state.agent) params.set("agent", state.agent);
  if (state.sort !== SORTS[0]) params.set("sort", state.sort);
  if (state.page > 1) params.set("page", state.page);
  if (state.limit) params.set("limit", state.limit);
  if (state.totals) params.set("view", "totals");
  if (state.sessionId) params.set("session_id", state.sessionId);
  if (state.sessionId && state.withId) params.set("with", state.withId);
  if (state.sessionId && state.tab !== TABS[0]) params.set("tab", state.tab);
  if (state.sessionId && state.message) params.set("message", writeMessage(state.message));
  if (state.sessionId && state.withId && state.withMessage) params.set("with_message", writeMessage(state.withMessage));
  const text = params.toString();
  return text ? `?${text}` : "./";
}

/** Whether a state narrows the list at all. */
export function isNarrowed(state) {
  const { text, query, from, to, rating, failed, agent, filters } = state;
  return Boolean(text || query || from || to || rating || failed || agent || Object.keys(filters).length);
}

/** The address that opens one session, or one message of it, for other people. */
export function sessionLink(sessionId, message = null) {
  const place = message ? { message: writeMessage(message) } : {};
  return new URL(`?${new URLSearchParams({ session_id: sessionId, ...place })}`, document.baseURI).href;
}

/** The address that opens two sessions side by side, each at its message. @param {PageState} state */
export function comparisonLink({ sessionId, withId, message, withMessage }) {
  const state = { ...EVERYTHING, sort: SORTS[0], page: 1, limit: 0, tab: TABS[0], sessionId, withId, message, withMessage };
  return new URL(writeState(state), document.baseURI).href;
}
