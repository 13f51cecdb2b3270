// A conversation, page by page: from its start, from its end or around a message, with new items arriving at the end.

import { el, fill } from "../shared/dom.js";
import { notice, stateView, toast } from "../shared/feedback.js";
import { plural } from "../shared/format.js";
import { icon } from "../shared/icons.js";
import { daySeparator, sameDay, soonAfter } from "./timeline_days.js";
import { ToolPairs } from "./tool_pairs.js";
import { isAgentSide, itemKey, itemView, messageAnchor } from "./timeline_items.js";

const NEAR_PX = 1200;
const AT_END_PX = 96;

export class Timeline {
  /**
   * @param {HTMLElement} scroller what scrolls
   * @param {(options: {cursor: string, order: string}) => Promise<object>} loadPage
   * @param {(agentId: string, messageId: number) => Promise<object>} loadMessage
   * @param {object} on
   * @param {() => void} on.latest asks to be shown from its end
   * @param {(message: {agentId: string, messageId: number}) => Promise<void>} on.around asks to be shown around a message
   * @param {(item: object) => void} on.link asks for a link to a message
   */
  constructor(scroller, loadPage, loadMessage, on) {
    this.scroller = scroller;
    this.loadPage = loadPage;
    this.loadMessage = loadMessage;
    this.on = on;
    this.items = [];
    this.seen = new Map();
    this.pairs = new ToolPairs();
    this.cursors = { before: null, after: null };
    this.busy = new Set();
    this.expanded = false;
    this.unseen = 0;
    this.list = el("div.timeline", { role: "feed", "aria-label": "Conversation" });
    this.before = el("div.timeline-edge");
    this.after = el("div.timeline-edge");
    this.pill = el("button.btn.btn-primary.pill", { type: "button", hidden: true, on: { click: () => (this.atLiveEnd ? this.#toEnd() : on.latest()) } });
    this.announcer = el("div.visually-hidden", { role: "status", "aria-live": "polite" });
    this.root = el("div.timeline-root", {}, this.before, this.list, this.after, this.pill, this.announcer);
    this.watcher = new IntersectionObserver((entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => this.#more(entry.target === this.before ? "before" : "after")), {
      root: scroller,
      rootMargin: `${NEAR_PX}px`,
    });
    this.following = false;
    this.lastTop = 0;
    this.onScroll = () => this.#scrolled();
    scroller.addEventListener("scroll", this.onScroll, { passive: true });
    // Sizes below the fold are estimates until they were rendered once: the end moves.
    this.sizes = new ResizeObserver(() => this.following && this.#toEnd());
    this.sizes.observe(this.list);
    this.list.addEventListener("click", (event) => this.#follow(event));
  }

  /** Whether new items belong right below the last one shown. */
  get atLiveEnd() {
    return this.cursors.after === null;
  }

  /** Show the first page of an order; one that begins at a message goes on both ways. */
  start(page, order) {
    this.items = [];
    this.seen.clear();
    this.pairs.clear();
    fill(this.list);
    this.following = false;
    this.cursors = order === "desc" ? { before: page.next_cursor, after: null } : { before: page.previous_cursor, after: page.next_cursor };
    this.#insert(order === "desc" ? page.timeline.reverse() : page.timeline, "after");
    this.#sawAll();
    // Observed anew: items that come back to the size that the list had before would not be noticed.
    this.sizes.unobserve(this.list);
    this.sizes.observe(this.list);
    if (order === "desc") this.#toEnd();
    else this.scroller.scrollTop = 0;
  }

  /** Bring a message into view, and the focus to it. @returns {Promise<HTMLElement|null>} */
  async reveal(message) {
    const anchor = messageAnchor(message.agentId, message.messageId);
    const find = () => [...this.seen.values()].find((view) => view.dataset.anchor === anchor);
    if (!find()) await this.on.around(message);
    let target = find() ?? null;
    // What a tool answered stands in the card of its call.
    while (target?.classList.contains("message-merged") && target.previousElementSibling) target = target.previousElementSibling;
    if (target) this.#focus(target);
    return target;
  }

  #focus(target) {
    this.following = false;
    target.setAttribute("tabindex", "-1");
    target.scrollIntoView({ block: "center" });
    target.focus({ preventScroll: true });
    // Sizes above were estimates until now.
    requestAnimationFrame(() => target.scrollIntoView({ block: "center" }));
  }

  destroy() {
    this.watcher.disconnect();
    this.sizes.disconnect();
    this.scroller.removeEventListener("scroll", this.onScroll);
  }

  /** New items from the live stream. */
  arrive(items) {
    for (const item of items) {
      if (item.type === "guardrail" && item.message_id !== null) this.refresh(item.agent_id, item.message_id);
    }
    const fresh = items.filter((item) => !this.seen.has(itemKey(item)));
    if (fresh.length === 0) return;
    const following = this.following || this.#atEnd();
    this.announcer.textContent = `${plural(fresh.length, "new item")} in the conversation`;
    if (this.atLiveEnd) this.#add(fresh, this.items.length);
    if (this.atLiveEnd && following) return this.#toEnd();
    this.unseen += fresh.length;
    this.pill.hidden = false;
    fill(this.pill, icon("arrowDown"), plural(this.unseen, "new item"));
  }

  /** Show a message again, as it is stored now. */
  async refresh(agentId, messageId) {
    const anchor = messageAnchor(agentId, messageId);
    const at = this.items.findIndex((item) => item.type === "message" && messageAnchor(item.agent_id, item.message_id) === anchor);
    if (at < 0) return;
    try {
      const item = await this.loadMessage(agentId, messageId);
      const now = this.items.findIndex((other) => itemKey(other) === itemKey(item));
      if (now < 0) return;
      this.items[now] = item;
      const touched = this.pairs.add([item]);
      const view = this.#redraw(item);
      for (const other of touched) this.#redraw(other);
      return view;
    } catch (error) {
      toast(error.message, "error");
    }
  }

  expandAll(open) {
    this.expanded = open;
    for (const details of this.list.querySelectorAll("details.disclosure")) details.open = open;
  }

  /** Hide tools, reasoning and events. */
  conversationOnly(only) {
    this.root.classList.toggle("conversation-only", only);
  }

  /** @param {"before"|"after"} side */
  async #more(side) {
    const cursor = this.cursors[side];
    if (cursor === null || this.busy.has(side)) return;
    this.busy.add(side);
    this[side].replaceChildren(el("div.timeline-loading", { role: "status" }, el("span.spinner"), "Loading more"));
    try {
      const page = await this.loadPage({ cursor, order: side === "before" ? "desc" : "asc" });
      if (cursor !== this.cursors[side]) return;
      this.cursors[side] = page.next_cursor;
      this.#insert(side === "before" ? page.timeline.reverse() : page.timeline, side);
    } catch (error) {
      const again = el("button.btn.btn-sm", { type: "button", text: "Try again", on: { click: () => this.#more(side) } });
      this.watcher.unobserve(this[side]);
      this[side].replaceChildren(notice("danger", error.message, again));
    } finally {
      this.busy.delete(side);
    }
  }

  #insert(items, side) {
    const known = items.filter((item) => !this.seen.has(itemKey(item)));
    if (side === "before") this.#keepPlace(() => this.#add(known, 0));
    else this.#add(known, this.items.length);
    this.#edges();
  }

  #edges() {
    this.watcher.disconnect();
    fill(this.before);
    fill(this.after);
    const { before, after } = this.cursors;
    if (this.items.length === 0 && before === null && after === null) {
      fill(this.after, stateView({ art: "chat", title: "No messages", text: "Nothing has been said in this session yet." }));
      return;
    }
    this.#showEdge("before", "Start of the conversation");
    this.#showEdge("after", "End of the conversation");
  }

  #showEdge(side, end) {
    if (this.cursors[side] === null) {
      fill(this[side], el("p.timeline-end", { text: end }));
      return;
    }
    fill(this[side], el("button.btn.btn-sm", { type: "button", text: "Load more", on: { click: () => this.#more(side) } }));
    this.watcher.observe(this[side]);
  }

  #add(items, at) {
    const touched = this.pairs.add(items);
    const previous = this.items[at - 1];
    const fragment = document.createDocumentFragment();
    items.forEach((item, index) => {
      const before = index === 0 ? previous : items[index - 1];
      const view = this.#view(item, before);
      this.seen.set(itemKey(item), view);
      const separator = daySeparator(item, before);
      if (separator) fragment.append(separator);
      fragment.append(view);
    });
    const following = this.items[at];
    if (following && items.length && sameDay(following, items.at(-1))) this.list.querySelector(".day")?.remove();
    if (at === 0) this.list.prepend(fragment);
    else this.list.append(fragment);
    this.items.splice(at, 0, ...items);
    for (const item of touched) this.#redraw(item);
    if (items.length) this.after.querySelector(".state")?.remove();
  }

  /** Show an item again, as it looks now. */
  #redraw(item) {
    const key = itemKey(item);
    const at = this.items.findIndex((other) => itemKey(other) === key);
    const shown = this.seen.get(key);
    if (at < 0 || !shown) return null;
    const view = this.#view(this.items[at], this.items[at - 1]);
    const open = [...shown.querySelectorAll("details.disclosure")].map((details) => details.open);
    [...view.querySelectorAll("details.disclosure")].forEach((details, index) => (details.open = open[index] ?? details.open));
    shown.replaceWith(view);
    this.seen.set(key, view);
    return view;
  }

  #view(item, before) {
    const continued = isAgentSide(item) && isAgentSide(before) && before.agent_id === item.agent_id && soonAfter(item, before);
    const view = itemView(item, { pairs: this.pairs, continued, onWhole: (cut) => this.#whole(cut), onLink: this.on.link });
    if (this.expanded) for (const details of view.querySelectorAll("details.disclosure")) details.open = true;
    return view;
  }

  async #whole(item) {
    const view = await this.refresh(item.agent_id, item.message_id);
    view?.setAttribute("tabindex", "-1");
    view?.focus({ preventScroll: true });
  }

  #follow(event) {
    const link = event.target.closest("[data-goto]");
    if (!link) return;
    this.reveal({ agentId: link.dataset.agent, messageId: Number(link.dataset.message) });
  }

  #keepPlace(change) {
    const { scrollHeight, scrollTop } = this.scroller;
    change();
    this.scroller.scrollTop = scrollTop + this.scroller.scrollHeight - scrollHeight;
  }

  #atEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    return this.atLiveEnd && scrollHeight - scrollTop - clientHeight < AT_END_PX;
  }

  #toEnd() {
    this.following = true;
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this.#sawAll();
  }

  #scrolled() {
    const { scrollTop } = this.scroller;
    if (this.#atEnd()) {
      this.following = true;
      this.#sawAll();
    } else if (scrollTop < this.lastTop) {
      this.following = false;
    }
    this.lastTop = scrollTop;
  }

  #sawAll() {
    this.unseen = 0;
    this.pill.hidden = true;
  }
}
