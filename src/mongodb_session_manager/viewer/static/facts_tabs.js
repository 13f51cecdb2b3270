// What is known of a session besides its conversation: metadata, and its agents.

import { el, fill, userText } from "../shared/dom.js";
import { stateView } from "../shared/feedback.js";
import { compact, duration, number } from "../shared/format.js";
import { icon } from "../shared/icons.js";
import { jsonTree } from "../shared/json_tree.js";
import { timeElement } from "../shared/time.js";

const isPlain = (value) => value === null || typeof value !== "object";
const known = (value) => value !== null && value !== undefined;
const hasContent = (value) => known(value) && (isPlain(value) ? value !== "" : Object.keys(value).length > 0);

function pairs(entries) {
  return el(
    "dl.keyvalues",
    {},
    entries.filter(([, value]) => known(value)).map(([key, value]) => [el("dt", {}, userText(key)), el("dd", {}, value)]),
  );
}

/** Metadata and the session's own facts. */
export function showMetadata(root, head) {
  const entries = Object.entries(head.metadata);
  const value = (item) => (isPlain(item) ? userText(item === null ? "null" : item) : jsonTree(item));
  fill(
    root,
    el(
      "section.card",
      {},
      el("h2.card-title", { text: "Metadata" }),
      entries.length
        ? pairs(entries.map(([key, item]) => [key, value(item)]))
        : el("p.faint", { text: "None. Agents set it with the manage_metadata tool, applications with update_metadata()." }),
    ),
    el(
      "section.card",
      {},
      el("h2.card-title", { text: "Session" }),
      pairs([
        ["Id", userText(head.session_id, "span.mono.user-text")],
        ["Application", head.application_name === null ? null : userText(head.application_name)],
        ["Created", timeElement(head.created_at, "full")],
        ["Last activity", timeElement(head.updated_at, "full")],
        ["Expires", head.expires_at ? timeElement(head.expires_at, "full") : "never"],
        ["Messages", number(head.counts.messages)],
        ["Feedback", number(head.counts.feedbacks)],
        ["Guardrail events", number(head.counts.guardrails)],
        ["Failed turns", number(head.errors_count)],
      ]),
    ),
  );
}

/** One card per agent: model, prompt, state, what it used. */
export function showAgents(root, agents) {
  if (agents.length === 0) {
    fill(root, stateView({ art: "agent", title: "No agents", text: "No agent has been stored in this session." }));
    return;
  }
  fill(root, agents.map(agentCard));
}

function agentCard(agent) {
  const { usage } = agent;
  const model = isPlain(agent.model) ? agent.model : null;
  return el(
    "section.card.stack",
    {},
    el(
      "div.row.row-wrap",
      {},
      el("span.avatar", {}, icon("agent")),
      userText(agent.agent_id, "h2.user-text"),
      model ? userText(model, "span.badge.badge-info.mono.user-text") : el("span.badge", { text: "model not recorded" }),
    ),
    pairs([
      ["Messages", number(agent.messages_count)],
      ["Tokens", known(usage.total_tokens) ? `${compact(usage.input_tokens)} in, ${compact(usage.output_tokens)} out` : null],
      ["Time in model", known(usage.latency_ms) ? duration(usage.latency_ms) : null],
      ["Created", timeElement(agent.created_at, "full")],
      ["Last activity", timeElement(agent.updated_at, "full")],
    ]),
    !isPlain(agent.model) ? part("Model", jsonTree(agent.model)) : null,
    part("System prompt", prompt(agent.system_prompt)),
    hasContent(agent.prompt_metadata) ? part("Prompt metadata", jsonTree(agent.prompt_metadata)) : null,
    part("State", hasContent(agent.state) ? jsonTree(agent.state) : el("p.faint", { text: "Empty" })),
  );
}

function prompt(value) {
  if (!hasContent(value)) return el("p.faint", { text: "Not recorded" });
  return typeof value === "string" ? el("pre.pre", { dir: "auto", tabindex: 0, text: value }) : jsonTree(value, { open: 3 });
}

const part = (title, content) => el("div.stack.agent-part", {}, el("h3.disclosure-label", { text: title }), content);
