// Sign-in pages: for the whole viewer, or for one session with the password of that session.

import { el, fill, userText } from "../shared/dom.js";
import { icon } from "../shared/icons.js";

export class Gate {
  /**
   * @param {HTMLElement} root
   * @param {import("./api_client.js").APIClient} api
   * @param {(access: object) => void} onAccess
   */
  constructor(root, api, onAccess) {
    this.root = root;
    this.api = api;
    this.onAccess = onAccess;
  }

  /**
   * Ask for the viewer's password; with `sessionId` for that session's.
   *
   * @param {string|null} sessionId
   * @param {object} [options]
   * @param {string|null} [options.other] session whose password would do as well
   * @param {boolean} [options.ended] whether a login has ended
   */
  show(sessionId = null, { other = null, ended = false } = {}) {
    const error = el("p.field-error", { id: "gate-error", role: "alert" });
    const input = el("input.input", {
      id: "gate-password",
      type: "password",
      name: "password",
      autocomplete: sessionId ? "off" : "current-password",
      required: true,
      "aria-describedby": "gate-error",
    });
    const submit = el("button.btn.btn-primary.btn-block", { type: "submit", text: sessionId ? "Open session" : "Log in" });
    const form = el(
      "form.stack",
      {},
      el("div.field", {}, el("label.field-label", { for: "gate-password", text: "Password" }), input, error),
      submit,
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit(input, submit, error, sessionId);
    });
    fill(
      this.root,
      el(
        "div.gate-card.stack",
        {},
        el("div.state-art", {}, icon(sessionId ? "key" : "lock")),
        el("div", {}, el("h2", { text: sessionId ? "Open a session" : "Log in" }), this.#explanation(sessionId, ended)),
        form,
        this.#otherWay(sessionId, other),
      ),
    );
    input.focus();
  }

  #otherWay(sessionId, other) {
    if (!sessionId && !other) return null;
    return el("button.btn.btn-ghost.btn-sm", {
      type: "button",
      text: sessionId ? "Log in to the whole viewer instead" : "Open the session with its own password instead",
      on: { click: () => (sessionId ? this.show(null, { other: sessionId }) : this.show(other)) },
    });
  }

  #explanation(sessionId, ended) {
    if (!sessionId) return el("p.muted", { text: ended ? "Your login has ended." : "This viewer is protected by a password." });
    return el("p.muted", {}, "Enter the viewer password of the session ", userText(sessionId, "code.user-text"), ".");
  }

  async #submit(input, submit, error, sessionId) {
    submit.disabled = true;
    error.textContent = "";
    input.removeAttribute("aria-invalid");
    try {
      this.onAccess(await this.api.login(input.value, sessionId));
    } catch (problem) {
      input.setAttribute("aria-invalid", "true");
      const wait = problem.retryAfter ? ` Try again in ${Math.ceil(problem.retryAfter / 60)} min.` : "";
      error.textContent = problem.code === "wrong_password" ? "That password is not right." : `${problem.message}${wait}`;
      input.select();
    } finally {
      submit.disabled = false;
    }
  }
}
