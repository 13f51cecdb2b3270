// Where messages are written: Enter sends, Shift+Enter begins a line, ArrowUp recalls what was said, Escape ends an edit.

import { el, fill } from "../shared/dom.js";
import { toast } from "../shared/feedback.js";
import { number } from "../shared/format.js";
import { icon } from "../shared/icons.js";
import { Attachments } from "./attachments.js";

const LONGEST = 20_000;
const WARN_FROM = 18_000;
const HINTS = {
  ready: "Enter sends, Shift+Enter begins a new line, ↑ recalls.",
  answering: "The reply is stored even if you leave.",
  away: "does not answer: nothing is sent, what you type is kept here.",
  doubtful: "does not answer: whether this reply is stored shows when it is back.",
  editing: "Sending makes a new conversation; Escape leaves this one as it is.",
};

export class Composer {
  /**
   * @param {HTMLFormElement} form
   * @param {HTMLElement} dropZone where files may be dropped
   * @param {object} actions
   * @param {(message: {text: string, files: object[]}) => void} actions.onSay
   * @param {() => void} actions.onStop
   * @param {() => void} actions.onCancelEdit
   * @param {(text: string) => void} actions.onTyped
   * @param {() => string[]} actions.recalled what was said before, newest first
   */
  constructor(form, dropZone, actions) {
    this.actions = actions;
    this.state = "ready";
    this.away = null;
    this.editing = false;
    this.recall = -1;
    this.attachments = new Attachments({ onChange: () => this.#typed(), onProblem: (text) => toast(text, "error") });
    this.input = el("textarea.composer-input", {
      id: "prompt",
      rows: 1,
      "aria-label": "Message",
      "aria-describedby": "composer-hint",
      placeholder: "Say something…",
      autocomplete: "off",
    });
    this.button = el("button.btn.btn-primary.btn-icon.composer-button", { type: "submit", id: "send" });
    this.hint = el("span", { id: "composer-hint" });
    this.count = el("span.num", { hidden: true });
    const { attachments } = this;
    this.box = el("div.composer-box", {}, attachments.button, attachments.picker, this.input, this.button);
    fill(form, attachments.chips, this.box, el("p.composer-foot.faint", {}, this.hint, el("span.spacer"), this.count));
    attachments.accept({ paste: this.input, drop: dropZone });
    form.noValidate = true;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#act();
    });
    this.input.addEventListener("input", () => {
      this.recall = -1;
      this.actions.onTyped(this.input.value);
      this.#typed();
    });
    this.input.addEventListener("keydown", (event) => this.#key(event));
    this.box.addEventListener("click", (event) => {
      if (event.target === this.box) this.input.focus();
    });
    this.setState("ready");
  }

  /** What would be sent. */
  get message() {
    return { text: this.input.value.trim(), files: this.attachments.files };
  }

  get isEmpty() {
    const { text, files } = this.message;
    return !text && files.length === 0;
  }

  /** Put a message where it can be sent (again). */
  setMessage({ text, files = [] }) {
    this.input.value = text;
    this.recall = -1;
    this.actions.onTyped(text);
    this.attachments.set(files);
  }

  focus() {
    this.input.focus();
  }

  /** @param {"waiting"|"ready"|"answering"|"stopping"} state `waiting`: there is no conversation to send to, yet */
  setState(state) {
    this.state = state;
    const answering = this.#answering;
    this.button.id = answering ? "stop" : "send";
    this.button.setAttribute("aria-label", answering ? "Stop the reply" : "Send");
    this.button.dataset.tip = answering ? "Stop the reply" : "Send";
    this.button.replaceChildren(state === "stopping" ? el("span.spinner") : icon(answering ? "stop" : "send"));
    this.#typed();
  }

  /** @param {string|null} away who does not answer: nothing is sent then, and nothing promised */
  setAway(away) {
    this.away = away;
    this.#typed();
  }

  setEditing(editing) {
    this.editing = editing;
    this.#typed();
  }

  get #answering() {
    return this.state === "answering" || this.state === "stopping";
  }

  #act() {
    if (this.state === "answering") {
      this.actions.onStop();
      return;
    }
    const { message } = this;
    if (this.state !== "ready" || this.isEmpty || message.text.length > LONGEST) return;
    if (!message.text && message.files.some((file) => !file.type.startsWith("image/"))) {
      toast("Beside a document, models want some text.", "info");
      return;
    }
    this.actions.onSay(message);
  }

  #key(event) {
    // While an input method composes a character, Enter accepts it.
    if (event.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      if (this.state === "ready") this.#act();
    } else if (event.key === "Escape" && this.editing) {
      event.stopPropagation();
      this.actions.onCancelEdit();
    } else if (event.key === "ArrowUp" || event.key === "ArrowDown") {
      this.#recall(event);
    }
  }

  #recall(event) {
    const said = this.actions.recalled();
    const shown = this.recall >= 0 && this.input.value === said[this.recall];
    if (!shown && (this.input.value !== "" || event.key === "ArrowDown")) return;
    const at = (shown ? this.recall : -1) + (event.key === "ArrowUp" ? 1 : -1);
    if (at >= said.length) return;
    event.preventDefault();
    this.input.value = at < 0 ? "" : said[at];
    this.recall = at;
    this.input.setSelectionRange(this.input.value.length, this.input.value.length);
    this.#typed();
  }

  #typed() {
    const { text } = this.message;
    this.count.hidden = text.length < WARN_FROM;
    this.count.textContent = `${number(text.length)} of ${number(LONGEST)} characters`;
    this.count.className = text.length > LONGEST ? "num field-error" : "num";
    this.input.setAttribute("aria-invalid", String(text.length > LONGEST));
    const sendable = this.state === "ready" && !this.away && !this.isEmpty && text.length <= LONGEST;
    this.button.disabled = !sendable && this.state !== "answering";
    const hint = HINTS[this.#situation];
    this.hint.textContent = this.away ? `${this.away} ${hint}` : hint;
    this.hint.className = this.away ? "composer-away" : "";
    // Where the style sheet cannot let it grow by itself.
    if (!CSS.supports("field-sizing", "content")) {
      this.input.style.height = "auto";
      this.input.style.height = `${this.input.scrollHeight}px`;
    }
  }

  get #situation() {
    if (this.#answering) return this.away ? "doubtful" : "answering";
    if (this.away) return "away";
    return this.editing ? "editing" : "ready";
  }
}
