// What a conversation that has not begun shows.

import { el } from "../shared/dom.js";
import { icon } from "../shared/icons.js";

const SUGGESTIONS = [
  ["My name is Ada and I am planning a trip to Lisbon.", "Tell it about you", "user"],
  ["What is (17.5 + 3) * 12?", "Calculate", "tool"],
  ["Please remember that my favourite colour is green.", "Store metadata", "tag"],
  ["Set language to Portuguese.", "Change the agent’s state", "edit"],
];
const STORED =
  "Every message, tool call and token count is stored in MongoDB as it happens. Reload or close the tab: the conversation goes on.";
const AWAY = "MongoDB does not answer, so nothing can be stored. What you type is kept in the box below until it does.";

/** @param {{away: boolean, onSay: (text: string) => void}} options */
export function welcomeView({ away, onSay }) {
  return el(
    "section.welcome",
    {},
    el("div.state-art", {}, icon(away ? "alert" : "chat")),
    el("h2.welcome-title", { text: "What would you like to try?" }),
    el("p.muted", { text: away ? AWAY : STORED }),
    el(
      "div.suggestions",
      {},
      SUGGESTIONS.map(([text, label, art]) =>
        el(
          "button.suggestion",
          { type: "button", disabled: away, on: { click: () => onSay(text) } },
          el("span.suggestion-label", {}, icon(art), label),
          el("span", { text }),
        ),
      ),
    ),
  );
}
