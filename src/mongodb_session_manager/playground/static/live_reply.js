// A reply while it is being made.

import { el } from "../shared/dom.js";
import { messageView } from "../shared/messages.js";
import { renderMarkdown } from "../shared/markdown.js";
import { toolView } from "./reply_parts.js";

/** Long texts are drawn anew less often: parsing them takes longer than a frame. */
const DRAW_EVERY_MS = (length) => (length < 10_000 ? 0 : Math.min(length / 100, 1000));

export class LiveReply {
  /** @param {() => void} onGrow called after each change of its size */
  constructor(onGrow) {
    this.onGrow = onGrow;
    this.thinking = el("div.thinking", { role: "img", "aria-label": "The assistant is thinking" }, el("i"), el("i"), el("i"));
    this.node = messageView({ role: "assistant", author: "Assistant", body: [this.thinking] });
    this.node.classList.add("message-streaming", "is-thinking");
    this.body = this.node.querySelector(".message-body");
    this.tools = new Map();
    this.text = "";
    this.bubble = null;
    this.scheduled = false;
    this.drawnAt = 0;
    this.ended = false;
  }

  /** Take an event of the reply. */
  take(kind, data) {
    if (kind === "token") this.#say(data.text);
    else if (kind === "tool_call") this.#call(data);
    else if (kind === "tool_result") this.#answer(data);
  }

  /** Everything that was said, for a screen reader. */
  get said() {
    return this.text;
  }

  /** No more will come. */
  end() {
    this.ended = true;
    this.#draw();
    this.thinking.remove();
    this.node.classList.remove("message-streaming", "is-thinking");
  }

  #say(text) {
    if (!this.bubble) {
      this.text = "";
      this.bubble = el("div.bubble");
      this.#add(this.bubble);
    }
    this.text += text;
    this.node.classList.remove("is-thinking");
    this.#drawSoon();
  }

  #call(call) {
    this.#draw();
    this.bubble = null;
    const view = toolView(call, null, { running: true });
    this.tools.set(call.id, { call, view });
    this.node.classList.add("is-thinking");
    this.#add(view);
  }

  #answer(result) {
    const known = this.tools.get(result.id);
    if (!known) return;
    const view = toolView(known.call, result, { open: known.view.open });
    known.view.replaceWith(view);
    known.view = view;
    this.onGrow();
  }

  #add(node) {
    this.thinking.before(node);
    this.onGrow();
  }

  #drawSoon() {
    if (this.scheduled) return;
    this.scheduled = true;
    const wait = this.drawnAt + DRAW_EVERY_MS(this.text.length) - performance.now();
    const draw = () => requestAnimationFrame(() => this.#draw());
    if (wait > 0) setTimeout(draw, wait);
    else draw();
  }

  #draw() {
    this.scheduled = false;
    if (!this.bubble) return;
    this.bubble.replaceChildren(renderMarkdown(this.text));
    this.drawnAt = performance.now();
    if (!this.ended) this.onGrow();
  }
}
