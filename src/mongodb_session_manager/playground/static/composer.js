// Where messages are written: Enter sends, Shift+Enter begins a line, and while a reply is made the button stops it.

import { el, fill } from "../shared/dom.js";
import { number } from "../shared/format.js";
import { icon } from "../shared/icons.js";

const LONGEST = 20_000;
const WARN_FROM = 18_000;

export class Composer {
  /** @param {HTMLFormElement} form @param {{onSay: (text: string) => void, onStop: () => void}} actions */
  constructor(form, actions) {
    this.actions = actions;
    this.state = "ready";
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
    fill(
      form,
      el("div.composer-box", {}, this.input, this.button),
      el("p.composer-foot.faint", {}, this.hint, el("span.spacer"), this.count),
    );
    form.noValidate = true;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#act();
    });
    this.input.addEventListener("input", () => this.#typed());
    this.input.addEventListener("keydown", (event) => {
      // While an input method composes a character, Enter accepts it.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      if (this.state === "ready") this.#act();
    });
    form.querySelector(".composer-box").addEventListener("click", (event) => {
      if (event.target !== this.button) this.input.focus();
    });
    this.setState("ready");
  }

  get text() {
    return this.input.value;
  }

  /** Put text where it can be sent (again). */
  setText(text) {
    this.input.value = text;
    this.#typed();
  }

  focus() {
    this.input.focus();
  }

  /** @param {"waiting"|"ready"|"answering"|"stopping"} state `waiting`: there is no conversation to send to, yet */
  setState(state) {
    this.state = state;
    const answering = state === "answering" || state === "stopping";
    this.button.id = answering ? "stop" : "send";
    this.button.setAttribute("aria-label", answering ? "Stop the reply" : "Send");
    this.button.dataset.tip = answering ? "Stop the reply" : "Send";
    this.button.replaceChildren(state === "stopping" ? el("span.spinner") : icon(answering ? "stop" : "send"));
    this.hint.textContent = answering
      ? "The reply is stored even if you leave."
      : "Enter sends, Shift+Enter begins a new line.";
    this.#typed();
  }

  #act() {
    if (this.state === "answering") {
      this.actions.onStop();
      return;
    }
    const text = this.text.trim();
    if (this.state !== "ready" || !text || text.length > LONGEST) return;
    this.setText("");
    this.actions.onSay(text);
  }

  #typed() {
    const { length } = this.text.trim();
    this.count.hidden = length < WARN_FROM;
    this.count.textContent = `${number(length)} of ${number(LONGEST)} characters`;
    this.count.className = length > LONGEST ? "num field-error" : "num";
    this.input.setAttribute("aria-invalid", String(length > LONGEST));
    const sendable = this.state === "ready" && length > 0 && length <= LONGEST;
    this.button.disabled = !sendable && this.state !== "answering";
    // Where the style sheet cannot let it grow by itself.
    if (!CSS.supports("field-sizing", "content")) {
      this.input.style.height = "auto";
      this.input.style.height = `${this.input.scrollHeight}px`;
    }
  }
}
