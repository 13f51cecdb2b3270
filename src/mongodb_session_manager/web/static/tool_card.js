// One card for a call of a tool and its result.

import { el } from "./dom.js";
import { icon } from "./icons.js";
import { disclosure, summariseInput, summariseResult } from "./messages.js";
import { hasFailed } from "./tool_results.js";
import { valueView } from "./values.js";

/**
 * @param {{name: string, input: unknown, id?: string, cut?: boolean}} call
 * @param {{status?: string, content: unknown, parts: () => Node[]}|null} result null: not answered (yet)
 * @param {{running?: boolean, open?: boolean}} [options]
 */
export function toolCard(call, result, { running = false, open = false } = {}) {
  const failed = hasFailed(result);
  const summary = [summariseInput(call.input), result ? summariseResult(result.content) : ""].filter(Boolean).join("  →  ");
  return disclosure({
    art: failed ? "alert" : "tool",
    kind: failed ? "tool tool-error" : "tool",
    title: call.name || "tool",
    summary,
    marks: [mark(result, failed, running)],
    open,
    body: () => [
      valueView(call.input, { label: "Arguments", cut: call.cut }),
      ...(result ? [el("div.disclosure-label", { text: "Result" }), ...result.parts()] : []),
      call.id ? el("div.faint.mono.user-text.tool-id", { text: call.id }) : null,
    ].filter(Boolean),
  });
}

function mark(result, failed, running) {
  if (failed) return el("span.badge.badge-danger", { text: "failed" });
  if (result) return el("span.tool-ok", {}, icon("check", "succeeded"));
  if (running) return el("span.row.faint", {}, el("span.spinner"), el("span.visually-hidden", { text: "running" }));
  return el("span.badge.badge-warn", { text: "not answered" });
}
