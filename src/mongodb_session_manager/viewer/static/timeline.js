// A conversation, page by page: from its start downwards or from its end upwards, with new items arriving at the end.

import { el, fill } from "../shared/dom.js";
import { notice, stateView, toast } from "../shared/feedback.js";
import { plural } from "../shared/format.js";
import { icon } from "../shared/icons.js";
import { dayName, parseTime } from "../shared/time.js";
import { isAgentSide, itemKey, itemView, messageAnchor } from "./timeline_items.js";

const NEAR_PX = 1200;
const AT_END_PX = 96;
const PAUSE_MS = 60_000;

export class Timeline {
  /**
   * @param {HTMLElement} scroller what scrolls
   * @param {(options: {cursor: string, order: string}) => Promise<object>} loadPage
   * @param {(agentId: string, messageId: number) => Promise<object>} loadMessage
   * @param {() => void} onLatest asks to be shown from its end
   */
  constructor(scroller, loadPage, loadMessage, onLatest) {
    this.scroller = scroller;
    this.loadPage = loadPage;
    this.loadMessage = loadMessage;
    this.items = [];
    this.seen = new Map();
    this.toolNames = new Map();
    this.expanded = false;
    this.unseen = 0;
    this.list = el("div.timeline", { role: "feed", "aria-label": "Conversation" });
    this.before = el("div.timeline-edge");
    this.after = el("div.timeline-edge");
    this.pill = el("button.btn.btn-primary.pill", { type: "button", hidden: true, on: { click: () => (this.atLiveEnd ? this.#toEnd() : onLatest()) } });
    this.announcer = el("div.visually-hidden", { role: "status", "aria-live": "polite" });
    this.root = el("div.timeline-root", {}, this.before, this.list, this.after, this.pill, this.announcer);
    this.watcher = new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && this.#more(), {
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
    return this.order === "desc" || this.cursor === null;
  }

  /** Show the first page of an order. */
  start(page, order) {
    this.order = order;
    this.items = [];
    this.seen.clear();
    this.toolNames.clear();
    fill(this.list);
    this.following = false;
    this.cursor = page.next_cursor;
    this.#insert(page.timeline);
    this.#sawAll();
    if (order === "desc") this.#toEnd();
    else this.scroller.scrollTop = 0;
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
    if (this.atLiveEnd && following) {
      this.#toEnd();
      return;
    }
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
      const view = this.#view(item, this.items[now - 1]);
      this.seen.get(itemKey(item)).replaceWith(view);
      this.seen.set(itemKey(item), view);
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

  async #more() {
    if (this.cursor === null || this.busy) return;
    this.busy = true;
    this.#edge().replaceChildren(el("div.timeline-loading", { role: "status" }, el("span.spinner"), "Loading more"));
    try {
      const cursor = this.cursor;
      const page = await this.loadPage({ cursor, order: this.order });
      if (cursor !== this.cursor) return;
      this.cursor = page.next_cursor;
      this.#insert(page.timeline);
    } catch (error) {
      const again = el("button.btn.btn-sm", { type: "button", text: "Try again", on: { click: () => this.#more() } });
      this.watcher.disconnect();
      this.#edge().replaceChildren(notice("danger", error.message, again));
    } finally {
      this.busy = false;
    }
  }

  #edge() {
    return this.order === "desc" ? this.before : this.after;
  }

  #insert(items) {
    const known = items.filter((item) => !this.seen.has(itemKey(item)));
    if (this.order === "desc") this.#keepPlace(() => this.#add(known.reverse(), 0));
    else this.#add(known, this.items.length);
    this.#edges();
  }

  #edges() {
    this.watcher.disconnect();
    fill(this.before);
    fill(this.after);
    if (this.items.length === 0 && this.cursor === null) {
      fill(this.after, stateView({ art: "chat", title: "No messages", text: "Nothing has been said in this session yet." }));
    } else if (this.cursor === null && this.order === "asc") {
      fill(this.after, el("p.timeline-end", { text: "End of the conversation" }));
    } else if (this.cursor === null) {
      fill(this.before, el("p.timeline-end", { text: "Start of the conversation" }));
    } else {
      const more = el("button.btn.btn-sm", { type: "button", text: "Load more", on: { click: () => this.#more() } });
      fill(this.#edge(), more);
      this.watcher.observe(this.#edge());
    }
  }

  #add(items, at) {
    for (const item of items) this.#nameTools(item);
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
    if (items.length) this.after.querySelector(".state")?.remove();
  }

  #view(item, before) {
    const continued = isAgentSide(item) && isAgentSide(before) && before.agent_id === item.agent_id && soonAfter(item, before);
    const view = itemView(item, { toolNames: this.toolNames, continued, onWhole: (cut) => this.#whole(cut) });
    if (this.expanded) for (const details of view.querySelectorAll("details.disclosure")) details.open = true;
    return view;
  }

  async #whole(item) {
    const view = await this.refresh(item.agent_id, item.message_id);
    view?.setAttribute("tabindex", "-1");
    view?.focus({ preventScroll: true });
  }

  #nameTools(item) {
    for (const block of item.content ?? []) if (block.type === "tool_use") this.toolNames.set(block.tool_use_id, block.name);
  }

  #follow(event) {
    const link = event.target.closest("a[data-goto]");
    if (!link) return;
    event.preventDefault();
    const target = document.getElementById(link.dataset.goto);
    if (!target) {
      toast("That message is not loaded yet", "info");
      return;
    }
    target.setAttribute("tabindex", "-1");
    target.scrollIntoView({ block: "center" });
    target.focus({ preventScroll: true });
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

/** Whether an item follows so closely that its time need not be shown again. */
function soonAfter(item, before) {
  const passed = parseTime(item.timestamp) - parseTime(before.timestamp);
  return sameDay(item, before) && passed < PAUSE_MS;
}

function sameDay(one, other) {
  return dayName(one?.timestamp) === dayName(other?.timestamp);
}

function daySeparator(item, before) {
  if (before && sameDay(item, before)) return null;
  if (!parseTime(item.timestamp)) return null;
  return el("div.day", {}, el("span", { text: dayName(item.timestamp) }));
}
