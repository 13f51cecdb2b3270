// Finding a text in the open session: "2 of 7", each at its place, all of them marked.

import { debounce, el, fill, uniqueId } from "../shared/dom.js";
import { number } from "../shared/format.js";
import { isAbort } from "../shared/http.js";
import { icon } from "../shared/icons.js";
import { markCurrent, markText } from "../shared/text_marks.js";

const TYPING_MS = 250;

export class FindBar {
  /**
   * @param {(text: string, signal: AbortSignal) => Promise<object>} load
   * @param {(message: {agentId: string, messageId: number}) => Promise<HTMLElement|null>} reveal
   * @param {HTMLElement} marked where the text is marked
   */
  constructor(load, reveal, marked) {
    this.load = load;
    this.reveal = reveal;
    this.marked = marked;
    this.found = [];
    this.at = -1;
    const id = uniqueId("find");
    const changed = debounce(() => this.#look(), TYPING_MS);
    this.input = el("input.input", { id, type: "search", placeholder: "Find in this session", autocomplete: "off", spellcheck: "false", on: { input: changed } });
    this.count = el("span.num.faint.find-count", { role: "status" });
    const step = (by, label, name) => el("button.btn.btn-ghost.btn-icon.btn-sm", { type: "button", "aria-label": label, data: { tip: label }, on: { click: () => this.#step(by) } }, icon(name));
    this.root = el(
      "div.find-bar",
      { hidden: true, role: "search", "aria-label": "Find in this session" },
      el("label.visually-hidden", { for: id, text: "Find in this session" }),
      el("div.input-icon", {}, icon("search"), this.input),
      this.count,
      step(-1, "Previous match", "arrowUp"),
      step(1, "Next match", "arrowDown"),
      el("button.btn.btn-ghost.btn-icon.btn-sm", { type: "button", "aria-label": "Close the find bar", data: { tip: "Close" }, on: { click: () => this.close() } }, icon("close")),
    );
    this.root.addEventListener("keydown", (event) => this.#keys(event));
    const remark = debounce(() => !this.root.hidden && this.#mark(), 50);
    this.watcher = new MutationObserver(remark);
    this.watcher.observe(marked, { childList: true, subtree: true });
    marked.addEventListener("toggle", remark, true);
  }

  /** Open it; with a text that is looked for at once, without taking the focus. */
  open(text = null) {
    this.root.hidden = false;
    if (text === null) {
      this.input.focus();
      this.input.select();
      return;
    }
    this.input.value = text;
    this.#look({ stay: true });
  }

  /** Close it; false when it was not open. */
  close() {
    if (this.root.hidden) return false;
    this.root.hidden = true;
    this.looking?.abort();
    this.found = [];
    this.at = -1;
    markText(this.marked, "");
    this.marked.closest(".panel")?.focus({ preventScroll: true });
    return true;
  }

  destroy() {
    this.looking?.abort();
    this.watcher.disconnect();
    markText(this.marked, "");
  }

  async #look({ stay = false } = {}) {
    this.looking?.abort();
    this.looking = new AbortController();
    const text = this.input.value.trim();
    this.found = [];
    this.at = -1;
    this.#mark();
    if (!text) {
      fill(this.count);
      return;
    }
    try {
      const answer = await this.load(text, this.looking.signal);
      this.found = answer.found.filter(({ message_id: number_ }) => number_ !== null);
      this.complete = answer.complete;
      this.#show();
      if (!stay && this.found.length) await this.#go(0, { focus: false });
    } catch (error) {
      if (!isAbort(error)) this.count.textContent = error.message;
    }
  }

  #step(by) {
    if (this.found.length === 0) return;
    const from = this.at < 0 && by < 0 ? 0 : this.at;
    this.#go((from + by + this.found.length) % this.found.length, { focus: false });
  }

  async #go(at, { focus }) {
    this.at = at;
    this.#show();
    const { agent_id: agentId, message_id: messageId } = this.found[at];
    const held = document.activeElement;
    this.current = await this.reveal({ agentId, messageId });
    if (!focus && this.root.contains(held)) held.focus({ preventScroll: true });
    this.#mark();
  }

  #show() {
    const total = `${number(this.found.length)}${this.complete ? "" : "+"}`;
    this.count.textContent = this.found.length === 0 ? "Not found" : this.at < 0 ? `${total} messages` : `${this.at + 1} of ${total}`;
  }

  #mark() {
    const ranges = markText(this.marked, this.root.hidden ? "" : this.input.value.trim());
    markCurrent((this.at >= 0 && this.current && ranges.find((range) => this.current.contains(range.startContainer))) || null);
  }

  #keys(event) {
    if (event.key === "Enter" && event.target === this.input) {
      event.preventDefault();
      this.#step(event.shiftKey ? -1 : 1);
    } else if (event.key === "Escape") {
      event.preventDefault();
      event.stopPropagation();
      this.close();
    }
  }
}
