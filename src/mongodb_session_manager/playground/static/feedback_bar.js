// Thumbs up, thumbs down, and a comment.

import { el, fill, uniqueId } from "../shared/dom.js";
import { copyButton } from "../shared/copy_button.js";
import { toast } from "../shared/feedback.js";
import { icon } from "../shared/icons.js";

const CHOICES = [
  ["up", "thumbUp", "Good reply"],
  ["down", "thumbDown", "Bad reply"],
];

/**
 * @param {object} options
 * @param {{rating: string, comment: string}|null} options.given the feedback that is stored
 * @param {string} options.text the reply, for copying
 * @param {Node} options.meta stands beside the buttons
 * @param {Node} [options.more] further buttons
 * @param {(feedback: {rating: string, comment: string, key: string}) => Promise<void>} options.onGive stores it
 * @returns {HTMLElement}
 */
export function feedbackBar({ given, text, meta, onGive, more = null }) {
  const bar = el("div.feedback");
  const show = (current, opened = null) =>
    fill(bar, el("div.feedback-row", {}, buttons(current, opened), more, meta), opened ? form(current, opened) : note(current));

  const buttons = (current, opened) =>
    el(
      "div.feedback-buttons",
      { role: "group", "aria-label": "Rate this reply" },
      CHOICES.map(([rating, art, label]) =>
        el(
          "button.btn.btn-ghost.btn-sm.btn-icon",
          {
            type: "button",
            "aria-label": label,
            "aria-pressed": String((opened ?? current?.rating) === rating),
            data: { tip: label, rating },
            on: { click: () => (opened === rating ? close(current, rating) : open(current, rating)) },
          },
          icon(art),
        ),
      ),
      text ? copyButton(() => text, "Copy reply") : null,
    );

  const open = (current, rating) => {
    show(current, rating);
    bar.querySelector("textarea").focus();
  };
  const close = (current, rating) => {
    show(current);
    bar.querySelector(`[data-rating="${rating}"]`).focus();
  };

  const form = (current, rating) => {
    const id = uniqueId("comment");
    const comment = el("textarea.textarea", {
      id,
      rows: 2,
      maxlength: 2000,
      placeholder: rating === "up" ? "What was good about it?" : "What was wrong with it?",
      value: current?.rating === rating ? current.comment : "",
    });
    const save = el("button.btn.btn-primary.btn-sm", { type: "submit", text: "Send feedback" });
    // The same for every attempt: a request that is repeated stores nothing twice.
    const key = randomKey();
    let storing = false;
    const store = async (event) => {
      event.preventDefault();
      if (storing) return;
      storing = true;
      save.disabled = true;
      const feedback = { rating, comment: comment.value.trim() };
      try {
        await onGive({ ...feedback, key });
        close(feedback, rating);
        toast("Feedback stored");
      } catch (error) {
        storing = false;
        save.disabled = false;
        toast(`Feedback was not stored: ${error.message}`, "error");
      }
    };
    return el(
      "form.feedback-form.card",
      {
        on: {
          submit: store,
          keydown: (event) => {
            if (event.key === "Escape") close(current, rating);
            else if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.repeat) event.currentTarget.requestSubmit();
          },
        },
      },
      el("label.field-label", { for: id, text: "Comment (optional)" }),
      comment,
      el(
        "div.row",
        {},
        el("span.spacer"),
        el("button.btn.btn-ghost.btn-sm", { type: "button", text: "Cancel", on: { click: () => close(current, rating) } }),
        save,
      ),
    );
  };

  show(given);
  return bar;
}

function randomKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function note(feedback) {
  if (!feedback?.comment) return null;
  return el("p.feedback-note.user-text", { dir: "auto", text: `“${feedback.comment}”` });
}
