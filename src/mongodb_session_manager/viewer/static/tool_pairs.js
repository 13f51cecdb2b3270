// Which result answers which call: they stand in neighbouring messages, and may come with different pages.

const keyOf = (item, block) => JSON.stringify([item.agent_id, block.tool_use_id]);

export class ToolPairs {
  constructor() {
    this.clear();
  }

  clear() {
    this.calls = new Map();
    this.results = new Map();
  }

  /** Take note of items; returns those of earlier ones that look different now. */
  add(items) {
    const touched = new Set();
    for (const item of items) {
      for (const block of item.content ?? []) {
        if (block.type === "tool_use") this.#note(this.calls, item, block, this.resultOf(item, block), touched);
        else if (block.type === "tool_result") this.#note(this.results, item, block, this.callOf(item, block), touched);
      }
    }
    for (const item of items) touched.delete(item);
    return touched;
  }

  #note(map, item, block, partner, touched) {
    const key = keyOf(item, block);
    // A message that is shown again takes the place of the one before.
    const others = (map.get(key) ?? []).filter((entry) => entry.item.message_id !== item.message_id);
    map.set(key, [...others, { item, block }]);
    if (partner) touched.add(partner.item);
  }

  /** The call that a result answers: the last one before it. */
  callOf(item, block) {
    const before = (this.calls.get(keyOf(item, block)) ?? []).filter((call) => call.item.message_id < item.message_id);
    return before.reduce((last, call) => (last === null || call.item.message_id > last.item.message_id ? call : last), null);
  }

  /** The result of a call: the first one after it. */
  resultOf(item, block) {
    const after = (this.results.get(keyOf(item, block)) ?? []).filter((result) => result.item.message_id > item.message_id);
    return after.reduce((first, result) => (first === null || result.item.message_id < first.item.message_id ? result : first), null);
  }
}
