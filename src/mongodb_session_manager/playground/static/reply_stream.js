// The events of one reply, across lost connections.

import { ApiError, isAbort } from "../shared/http.js";
import { readEvents } from "../shared/sse.js";
import { rejoin } from "./api_client.js";

const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 10_000;

/**
 * Follow a reply to its end. The server makes it with or without listeners, so a lost connection is taken up again.
 *
 * @param {object} options
 * @param {string} options.sessionId
 * @param {((signal: AbortSignal) => Promise<Response>)|null} options.ask begins the reply; null joins one in the making
 * @param {AbortSignal} options.signal stops listening, not the reply
 * @param {(kind: string, data: object) => void} options.onEvent
 * @param {(state: "open"|"lost", retryNow?: () => void) => void} options.onState
 * @returns {Promise<"done"|"gone"|"left">} `done`: its end was seen; `gone`: the server knows of no such reply (any
 *   more), the history tells what became of it; `left`: the page no longer listens
 * @throws {ApiError} the server refused the message
 */
export async function followReply({ sessionId, ask, signal, onEvent, onState }) {
  let lastId = null;
  let failures = 0;
  let request = ask === null ? () => rejoin(sessionId, null, signal) : () => ask(signal);
  for (;;) {
    let ended = false;
    try {
      const response = await request();
      if (response === null) return "gone";
      onState("open");
      for await (const { event, data, id } of readEvents(response)) {
        failures = 0;
        lastId = id ?? lastId;
        onEvent(event, JSON.parse(data));
        // The server closes the stream after it; ended from here, it would look like a failed request.
        ended ||= event === "done";
      }
      if (ended) return "done";
    } catch (error) {
      if (ended) return "done";
      if (isAbort(error) || signal.aborted) return "left";
      // An answer that is a refusal; anything else is a connection that broke.
      if (error instanceof ApiError && error.status !== 0 && (error.status < 500 || lastId === null)) throw error;
    }
    if (signal.aborted) return "left";
    // Whether a message arrived whose connection broke is not known: it is never sent twice, but looked for.
    request = () => rejoin(sessionId, lastId, signal);
    await pause(Math.min(FIRST_RETRY_MS * 2 ** failures, LONGEST_RETRY_MS), signal, (now) => onState("lost", now));
    failures += 1;
  }
}

function pause(ms, signal, onWaiting) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    const now = () => {
      clearTimeout(timer);
      resolve();
    };
    signal.addEventListener("abort", now, { once: true });
    window.addEventListener("online", now, { once: true });
    onWaiting(now);
  });
}
