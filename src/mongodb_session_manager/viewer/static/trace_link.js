// The way from an answer, or a failed turn, to its trace.

import { el } from "../shared/dom.js";
import { copyText } from "../shared/feedback.js";
import { icon } from "../shared/icons.js";

const SHOWN = 8;

/** A link to the trace of an item where the viewer knows the address, else its id to be copied; null without a trace. */
export function traceLink({ trace_id: id, trace_url: url }) {
  if (!id) return null;
  const label = `Trace ${id.slice(0, SHOWN)}…`;
  if (url) {
    return el("a.trace-link", { href: url, target: "_blank", rel: "noopener noreferrer", title: `Open trace ${id}` }, icon("link"), label);
  }
  const copy = () => copyText(id, "Trace id");
  return el("button.link-button.trace-link", { type: "button", title: `Copy trace id ${id}`, on: { click: copy } }, icon("copy"), label);
}
