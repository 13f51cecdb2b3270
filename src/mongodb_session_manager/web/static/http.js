// Requests to the app's own server: an answer, or an `ApiError` that says what went wrong.

/** An answer that is no success: `status` 0 when there was none at all. */
export class ApiError extends Error {
  constructor(status, code, message, fields = [], retryAfter = null) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.code = code;
    this.fields = fields;
    this.retryAfter = retryAfter;
  }
}

export const isAbort = (error) => error instanceof DOMException && error.name === "AbortError";

/**
 * Send a request.
 *
 * @param {string} path relative to the page
 * @param {RequestInit} [init] as for `fetch`; a plain object as `json` becomes the body
 * @returns {Promise<Response>} a successful answer
 * @throws {ApiError} for any other
 */
export async function send(path, { json, ...init } = {}) {
  const body = json === undefined ? {} : { body: JSON.stringify(json), headers: { "Content-Type": "application/json" } };
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...body, ...init });
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new ApiError(0, "unreachable", "The server does not answer. Is it still running?");
  }
  if (response.ok) return response;
  throw await toError(response);
}

async function toError(response) {
  const retryAfter = Number(response.headers.get("Retry-After")) || null;
  try {
    const { error } = await response.json();
    // The server's messages are parts of sentences; on a page they stand alone.
    const message = error.message.charAt(0).toUpperCase() + error.message.slice(1);
    return new ApiError(response.status, error.code, message, error.fields ?? [], retryAfter);
  } catch {
    const message = `The server answered with status ${response.status}.`;
    return new ApiError(response.status, "unexpected", message, [], retryAfter);
  }
}
