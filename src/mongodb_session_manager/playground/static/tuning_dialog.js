// System prompt and temperature of a conversation.

import { el, uniqueId } from "../shared/dom.js";
import { formDialog } from "../shared/dialogs.js";

/** What leaves the agent as it is. */
export const UNTUNED = { system_prompt: null, temperature: null };

export const isTuned = (tuning) => tuning.system_prompt !== null || tuning.temperature !== null;

/**
 * Ask for both; null when nothing was chosen.
 *
 * @param {{system_prompt: string|null, temperature: number|null}} tuning
 * @param {{usual: string|null, takesTemperature: boolean}} agent `usual`: what the agent is told without a choice
 */
export function tuningDialog(tuning, { usual, takesTemperature }) {
  const prompt = uniqueId("system-prompt");
  const temperature = uniqueId("temperature");
  const hint = uniqueId("hint");
  const text = el("textarea.textarea", {
    id: prompt,
    rows: 8,
    maxlength: 20_000,
    placeholder: usual ?? "The agent’s own",
    value: tuning.system_prompt ?? "",
    autofocus: true,
  });
  const number = el("input.input.tuning-number", {
    id: temperature,
    type: "number",
    min: 0,
    max: 2,
    step: 0.1,
    placeholder: "The model’s own",
    value: tuning.temperature ?? "",
    disabled: !takesTemperature,
    "aria-describedby": hint,
  });
  const fields = [
    el("div.field", {}, el("label.field-label", { for: prompt, text: "System prompt" }), text,
      el("p.field-hint", { text: "Empty: what the agent is told otherwise. It counts from the next message on." })),
    el("div.field", {}, el("label.field-label", { for: temperature, text: "Temperature" }), number,
      el("p.field-hint", {
        id: hint,
        text: takesTemperature ? "0 to 2, empty for the model’s own. Some models take 1 at most." : "This model takes none.",
      })),
  ];
  return formDialog({
    title: "System prompt and temperature",
    fields,
    confirm: "Use for this conversation",
    wide: true,
    value: () => ({
      system_prompt: text.value.trim() || null,
      temperature: number.value === "" ? null : Number(number.value),
    }),
  });
}
