// Server-sent events over fetch: headers and POST bodies work, and so does ending a stream.

const FIRST_RETRY_MS = 1000;
const LONGEST_RETRY_MS = 15_000;

/**
 * Read one answer of type text/event-stream.
 *
 * @param {Response} response
 * @yields {{event: string, data: string, id: string|null, retry: number|null}}
 */
export async function* readEvents(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      buffer += value;
      // A carriage return at the very end may be the first half of a line end.
      const blocks = buffer.split(/\r\n\r\n|\n\n|\r\r(?!$)/);
      buffer = blocks.pop();
      for (const block of blocks) {
        const event = parse(block);
        if (event) yield event;
      }
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

function parse(block) {
  const event = { event: "message", data: "", id: null, retry: null };
  const data = [];
  for (const line of block.split(/\r\n|\n|\r/)) {
    if (line === "" || line.startsWith(":")) continue;
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") data.push(value);
    else if (field === "event") event.event = value;
    else if (field === "id") event.id = value;
    else if (field === "retry" && /^\d+$/.test(value)) event.retry = Number(value);
  }
  if (data.length === 0 && event.retry === null) return null;
  event.data = data.join("\n");
  return event;
}

/**
 * Follow a stream for as long as it is wanted: a lost connection is taken up again, later and later.
 *
 * @param {string} url
 * @param {object} options
 * @param {(event: {event: string, data: string, id: string|null}) => void} options.onEvent
 * @param {(state: "connecting"|"open"|"waiting"|"refused", detail?: number) => void} [options.onState] `refused`: the
 *   server said no (the status is the detail) and it is not asked again
 * @param {() => Record<string, string>} [options.headers]
 * @returns {() => void} ends it
 */
export function follow(url, { onEvent, onState = () => {}, headers = () => ({}) }) {
  const ending = new AbortController();
  run(url, onEvent, onState, headers, ending.signal);
  return () => ending.abort();
}

async function run(url, onEvent, onState, headers, signal) {
  let lastId = null;
  let failures = 0;
  let base = FIRST_RETRY_MS;
  while (!signal.aborted) {
    onState("connecting");
    try {
      const response = await fetch(url, {
        headers: { Accept: "text/event-stream", ...headers(), ...(lastId ? { "Last-Event-ID": lastId } : {}) },
        signal,
      });
      if (response.ok) {
        onState("open");
        for await (const event of readEvents(response)) {
          failures = 0;
          if (event.id !== null) lastId = event.id;
          if (event.retry !== null) base = event.retry;
          if (event.data !== "") onEvent(event);
        }
      } else if (response.status < 500 && response.status !== 408 && response.status !== 429) {
        onState("refused", response.status);
        return;
      }
    } catch {
      // Lost, or ended by the caller: the loop's condition knows which.
    }
    if (signal.aborted) return;
    const delay = Math.min(base * 2 ** failures, LONGEST_RETRY_MS);
    failures += 1;
    onState("waiting", delay);
    await pause(delay, signal);
  }
}

function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
