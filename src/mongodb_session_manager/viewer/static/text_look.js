// A search for text, call by call: each looks for three seconds, and the next one goes on where it ended.

const ENOUGH = 20;

export class TextLook {
  /**
   * @param {(cursor: string|null, signal: AbortSignal) => Promise<object>} call
   * @param {(looked: object) => void} onProgress
   */
  constructor(call, onProgress) {
    this.call = call;
    this.onProgress = onProgress;
    this.looked = { sessions: [], searched: 0, until: null, ended: false, running: false, skipped: 0 };
    this.cursor = null;
  }

  /** Look until a page of sessions more is found, or there are no more. @throws {import("../shared/http.js").ApiError} */
  async run() {
    const wanted = this.looked.sessions.length + ENOUGH;
    this.ending = new AbortController();
    this.#tell({ running: true });
    try {
      while (!this.looked.ended && this.looked.sessions.length < wanted && !this.ending.signal.aborted) {
        const page = await this.call(this.cursor, this.ending.signal);
        this.cursor = page.next_cursor;
        const { looked } = this;
        this.#tell({
          sessions: [...looked.sessions, ...page.sessions],
          searched: looked.searched + page.searched,
          skipped: looked.skipped + page.skipped,
          until: page.searched_until ?? looked.until,
          ended: page.next_cursor === null,
        });
      }
    } finally {
      if (!this.gone) this.#tell({ running: false });
    }
  }

  /** Stop looking, or go on. */
  async toggle() {
    if (this.looked.running) this.ending.abort();
    else await this.run();
  }

  /** Stop for good, without a word. */
  end() {
    this.gone = true;
    this.ending?.abort();
  }

  #tell(change) {
    this.looked = { ...this.looked, ...change };
    if (!this.gone) this.onProgress(this.looked);
  }
}
