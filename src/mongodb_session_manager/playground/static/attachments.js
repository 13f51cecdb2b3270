// Files on their way: chosen, pasted or dropped, checked, and shown as chips that can be taken off again.

import { el, fill, userText } from "../shared/dom.js";
import { bytes } from "../shared/format.js";
import { icon } from "../shared/icons.js";

const MOST_FILES = 8;
const MOST_BYTES = 4_500_000;
const MOST_BYTES_TOGETHER = 7_000_000;
const IMAGES = new Set(["image/png", "image/jpeg", "image/gif", "image/webp"]);
const REFUSED = /\.(exe|dll|zip|gz|tar|7z|rar|mp3|mp4|mov|avi|wav|heic|bmp|tiff?|svg|docm?|xls|pptx?)$/i;
const ACCEPT = "image/png,image/jpeg,image/gif,image/webp,.pdf,.docx,.xlsx,.csv,.html,.md,.txt,text/*,.json,.py,.js,.ts,.log,.yaml,.yml";

/**
 * @typedef {{name: string, type: string, size: number, data: string}} Attached `data` is base64
 */
export class Attachments {
  /** @param {{onChange: () => void, onProblem: (text: string) => void}} actions */
  constructor(actions) {
    this.actions = actions;
    /** @type {Attached[]} */
    this.files = [];
    this.picker = el("input.visually-hidden", {
      type: "file",
      multiple: true,
      accept: ACCEPT,
      tabindex: -1,
      "aria-hidden": "true",
      on: {
        change: () => {
          this.add([...this.picker.files]);
          this.picker.value = "";
        },
      },
    });
    this.button = el(
      "button.btn.btn-ghost.btn-icon.composer-button",
      {
        type: "button",
        id: "attach",
        "aria-label": "Attach images or documents",
        data: { tip: "Attach images or documents" },
        on: { click: () => this.picker.click() },
      },
      icon("attach"),
    );
    this.chips = el("ul.attached", { "aria-label": "Attached files", hidden: true });
  }

  /** Take files that were pasted into an element or dropped on it. */
  accept({ paste, drop }) {
    paste.addEventListener("paste", (event) => {
      const files = event.clipboardData?.files;
      if (!files?.length) return;
      event.preventDefault();
      this.add([...files]);
    });
    const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
    drop.addEventListener("dragover", (event) => {
      if (!carriesFiles(event)) return;
      event.preventDefault();
      drop.classList.add("is-drop");
    });
    drop.addEventListener("dragleave", (event) => {
      if (!drop.contains(event.relatedTarget)) drop.classList.remove("is-drop");
    });
    drop.addEventListener("drop", (event) => {
      drop.classList.remove("is-drop");
      if (!carriesFiles(event)) return;
      event.preventDefault();
      this.add([...event.dataTransfer.files]);
    });
  }

  /** @param {File[]} files a copy: the lists of the browser are emptied when their event is over */
  async add(files) {
    for (const file of files) {
      const problem = this.#problem(file);
      if (problem) {
        this.actions.onProblem(problem);
        continue;
      }
      const attached = { name: file.name || "pasted", type: file.type, size: file.size, data: await base64(file) };
      // Others may have been added while this one was read.
      const late = this.#problem(file);
      if (late) this.actions.onProblem(late);
      else this.set([...this.files, attached]);
    }
  }

  /** @param {Attached[]} files */
  set(files) {
    this.files = files;
    this.chips.hidden = files.length === 0;
    fill(this.chips, files.map((file) => this.#chip(file)));
    this.actions.onChange();
  }

  #problem({ name, size, type }) {
    if (this.files.length >= MOST_FILES) return `${name}: a message takes ${MOST_FILES} files at most.`;
    if (size === 0) return `${name}: the file is empty.`;
    if (size > MOST_BYTES) return `${name}: it has ${bytes(size)}; models take ${bytes(MOST_BYTES)} at most.`;
    const together = this.files.reduce((sum, file) => sum + file.size, size);
    if (together > MOST_BYTES_TOGETHER) return `${name}: all files together have ${bytes(MOST_BYTES_TOGETHER)} at most.`;
    const odd = REFUSED.test(name) || (type.startsWith("image/") && !IMAGES.has(type)) || /^(audio|video)\//.test(type);
    return odd ? `${name}: models take PNG, JPEG, GIF and WebP images, PDF, Word, Excel and text.` : null;
  }

  #chip(file) {
    const remove = () => {
      this.set(this.files.filter((other) => other !== file));
      this.button.focus();
    };
    return el(
      "li.attached-file",
      {},
      IMAGES.has(file.type) ? el("img.attached-image", { src: dataUrl(file), alt: "" }) : icon("file"),
      userText(file.name, "span.truncate.user-text"),
      el("span.faint", { text: bytes(file.size) }),
      el(
        "button.btn.btn-ghost.btn-sm.btn-icon",
        { type: "button", "aria-label": `Remove ${file.name}`, data: { tip: "Remove" }, on: { click: remove } },
        icon("close"),
      ),
    );
  }
}

/** The address under which a page shows an attached image. */
export const dataUrl = ({ type, data }) => `data:${type};base64,${data}`;

/** The blocks of what is about to be said, as the server will give them. */
export function blocksOf({ text, files }) {
  const shown = files.map((file) =>
    IMAGES.has(file.type)
      ? { type: "image", format: file.type.slice(6), size: file.size, source: dataUrl(file) }
      : { type: "document", name: file.name, size: file.size },
  );
  return [...(text ? [{ type: "text", text }] : []), ...shown];
}

/** A stored file, to be sent again. */
export async function attachedFrom(blob, name) {
  return { name, type: blob.type, size: blob.size, data: await base64(blob) };
}

function base64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result.slice(reader.result.indexOf(",") + 1)));
    reader.addEventListener("error", () => reject(reader.error));
    reader.readAsDataURL(blob);
  });
}
