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

export const searchSessions = (text, cursor, signal) =>
  json(`api/sessions?${new URLSearchParams({ limit: 30, text, ...(cursor ? { cursor } : {}) })}`, { signal });

export const readSession = (id, before = null) =>
  json(`${session(id)}?${new URLSearchParams({ limit: 100, ...(before === null ? {} : { before }) })}`);

export const stop = (id) => json(`${session(id)}/stop`, { method: "POST" });
export const addFeedback = (id, feedback) => json(`${session(id)}/feedback`, { method: "POST", json: feedback });
export const changeSession = (id, change) => send(session(id), { method: "PATCH", json: change });
export const forkSession = (id, upToMessage) =>
  json(`${session(id)}/fork`, { method: "POST", json: { up_to_message: upToMessage } });
export const deleteSession = (id) => send(session(id), { method: "DELETE" });
export const exportAddress = (id, format) => `${session(id)}/export?${new URLSearchParams({ format })}`;
export const fileAddress = (id, messageId, place) => `${session(id)}/messages/${messageId}/files/${place}`;
export const readFile = async (id, messageId, place) => (await send(fileAddress(id, messageId, place))).blob();

/**
 * Say something; the answer's body are the events of the reply.
 *
 * @param {string} id
 * @param {{text: string, files: Array<{name: string, data: string}>}} message
 * @param {object|null} tuning system prompt and temperature, when they are new
 */
export const say = (id, { text, files }, tuning, signal) =>
  send("api/chat", {
    method: "POST",
    json: {
      session_id: id,
      message: text,
      attachments: files.map(({ name, data }) => ({ name, data })),
      ...(tuning ? { tuning } : {}),
    },
    signal,
  });

/** Have the last message answered, which has no reply. */
export const answer = (id, signal) => send(`${session(id)}/answer`, { method: "POST", signal });

/** Follow the reply in the making after an event; null when there is none. */
export async function rejoin(id, lastEventId, signal) {
  const query = lastEventId ? `?${new URLSearchParams({ after: lastEventId })}` : "";
  const response = await send(`${session(id)}/turn${query}`, { signal });
  return response.status === 204 ? null : response;
}
