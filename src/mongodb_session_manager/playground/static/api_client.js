// The playground's API, one method per endpoint.

import { send } from "../shared/http.js";

const session = (id) => `api/sessions/${encodeURIComponent(id)}`;
const json = async (path, init) => (await send(path, init)).json();

export const health = async () => {
  try {
    return await json("health");
  } catch (error) {
    // Without its database the server says so with the same body.
    if (error.status === 503) return { status: "unavailable" };
    throw error;
  }
};

export const listSessions = (cursor = null) =>
  json(`api/sessions?${new URLSearchParams({ limit: 30, ...(cursor ? { cursor } : {}) })}`);

export const readSession = (id, before = null) =>
  json(`${session(id)}?${new URLSearchParams({ limit: 100, ...(before === null ? {} : { before }) })}`);

export const stop = (id) => json(`${session(id)}/stop`, { method: "POST" });
export const addFeedback = (id, feedback) => json(`${session(id)}/feedback`, { method: "POST", json: feedback });
export const deleteSession = (id) => send(session(id), { method: "DELETE" });

/** Say something; the answer's body are the events of the reply. */
export const say = (id, message, signal) =>
  send("api/chat", { method: "POST", json: { session_id: id, message }, signal });

/** Follow the reply in the making after an event; null when there is none. */
export async function rejoin(id, lastEventId, signal) {
  const query = lastEventId ? `?${new URLSearchParams({ after: lastEventId })}` : "";
  const response = await send(`${session(id)}/turn${query}`, { signal });
  return response.status === 204 ? null : response;
}
