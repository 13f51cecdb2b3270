// The viewer's API, one method per endpoint.

import { send } from "../shared/http.js";
import { endOfDay, startOfDay, zoneName } from "../shared/zone.js";
import { idSegment } from "./urls.js";

/** What narrows and orders the sessions, as the API takes it: days begin where the reader is. */
function narrowing(state) {
  return {
    session_id: state.query,
    filters: Object.keys(state.filters).length ? JSON.stringify(state.filters) : "",
    created_at_start: state.from && startOfDay(state.from),
    created_at_end: state.to && endOfDay(state.to),
    rating: state.rating,
    failed: state.failed ? "true" : "",
    agent: state.agent,
    sort: state.sort,
  };
}

export class APIClient {
  /**
   * @param {object} [options]
   * @param {(error: import("../shared/http.js").ApiError) => void} [options.onUnauthorized] told when a request needs a
   *   login first
   * @param {() => void} [options.onTrouble] told when server or database did not answer
   */
  constructor({ onUnauthorized = () => {}, onTrouble = () => {} } = {}) {
    this.onUnauthorized = onUnauthorized;
    this.onTrouble = onTrouble;
  }

  /** State of the server; an unavailable database is an answer, not an error. */
  async health() {
    try {
      return await this.#get("health");
    } catch (error) {
      if (error.status === 503) return { status: "unavailable" };
      throw error;
    }
  }

  access() {
    return this.#get("api/v1/access");
  }

  /** Log in for everything, or with `sessionId` for that session. */
  login(password, sessionId = null) {
    return this.#post("api/v1/login", { password, session_id: sessionId });
  }

  logout() {
    return this.#post("api/v1/logout", {});
  }

  metadataFields(signal) {
    return this.#get("api/v1/metadata-fields", {}, signal);
  }

  /**
   * @param {import("./urls.js").PageState} state
   * @param {string|null} cursor continues from the page before; without it the page's number is used
   */
  search(state, cursor, signal) {
    const limit = state.limit || 20;
    const offset = cursor || state.page === 1 || state.text ? "" : (state.page - 1) * limit;
    return this.#get("api/v1/sessions/search", { ...narrowing(state), text: state.text, limit, cursor: cursor ?? "", offset }, signal);
  }

  totals(state, signal) {
    return this.#get("api/v1/sessions/totals", { ...narrowing(state), zone: zoneName() }, signal);
  }

  /** Where the list of a state is followed. */
  listEventsUrl(state) {
    return this.#url("api/v1/sessions/events", narrowing(state));
  }

  archiveUrl(sessionIds, format) {
    return `api/v1/sessions/archive?${new URLSearchParams([["format", format], ...sessionIds.map((id) => ["session_id", id])])}`;
  }

  /** The messages of a session that say a text. */
  find(sessionId, text, signal) {
    return this.#get(`${this.#path(sessionId)}/find`, { text }, signal);
  }

  session(sessionId, { cursor = "", order = "asc", limit = 60, message = null } = {}, signal = undefined) {
    const place = message ? { agent_id: message.agentId, message_id: message.messageId } : {};
    return this.#get(this.#path(sessionId), { cursor, order, limit, ...place }, signal);
  }

  async message(sessionId, agentId, messageId) {
    const answer = await this.#get(`${this.#path(sessionId)}/message`, { agent_id: agentId, message_id: messageId });
    return answer.message;
  }

  usage(sessionId, signal) {
    return this.#get(`${this.#path(sessionId)}/usage`, {}, signal);
  }

  exportUrl(sessionId, format) {
    return `${this.#path(sessionId)}/export?${new URLSearchParams({ format })}`;
  }

  eventsUrl(sessionId, cursor) {
    return `${this.#path(sessionId)}/events?${new URLSearchParams({ cursor })}`;
  }

  #path(sessionId) {
    return `api/v1/sessions/${idSegment(sessionId)}`;
  }

  #get(path, params = {}, signal = undefined) {
    return this.#json(this.#url(path, params), { signal });
  }

  #url(path, params) {
    const given = Object.entries(params).filter(([, value]) => value !== "" && value !== null && value !== undefined);
    const query = new URLSearchParams(given).toString();
    return query ? `${path}?${query}` : path;
  }

  #post(path, json) {
    return this.#json(path, { method: "POST", json });
  }

  async #json(path, init) {
    try {
      const response = await send(path, init);
      return await response.json();
    } catch (error) {
      if (["login_required", "session_only"].includes(error.code)) this.onUnauthorized(error);
      if (["unreachable", "database_unavailable"].includes(error.code) && path !== "health") this.onTrouble();
      throw error;
    }
  }
}
