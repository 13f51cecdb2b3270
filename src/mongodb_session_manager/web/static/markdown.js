// Markdown to elements. The one place where HTML text becomes elements, and only through the sanitiser.

import { el } from "./dom.js";
import { icon } from "./icons.js";
import { codeHtml } from "./code.js";
import DOMPurify from "./vendor/dompurify/purify.js";
import MarkdownIt from "./vendor/markdown-it/markdown-it.js";

/** Longer texts are shown as they are: parsing them would hold up the page, and no reader wants them formatted. */
const LONGEST = 100_000;

const LINK = /^(?:https?:\/\/|mailto:)/i;

const SANITISE = {
  ALLOWED_TAGS: [
    "a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "s",
    "span", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
  ],
  ALLOWED_ATTR: ["href", "title", "start", "class"],
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  ALLOWED_URI_REGEXP: LINK,
  ADD_URI_SAFE_ATTR: ["start"],
  RETURN_DOM_FRAGMENT: true,
};
const CLASSES = new Set(["align-center", "align-right", "md-image", "task"]);
const CODE_CLASSES = /^hljs-[a-z_-]+(?: [a-z_-]+)?$/;

const parser = new MarkdownIt({ html: false, linkify: true, breaks: true, maxNesting: 20, highlight: codeHtml });
parser.linkify.set({ fuzzyLink: false, fuzzyEmail: false, fuzzyIP: false });
parser.validateLink = (url) => LINK.test(url.trim());
// Pictures from elsewhere are not loaded: they would tell their host who reads this. Their text is shown.
parser.renderer.rules.image = (tokens, index) => {
  const { escapeHtml } = parser.utils;
  const alt = escapeHtml(tokens[index].content || "image");
  const source = tokens[index].attrGet("src") ?? "";
  return LINK.test(source)
    ? `<a class="md-image" href="${escapeHtml(source)}">[image: ${alt}]</a>`
    : `<span class="md-image">[image: ${alt}]</span>`;
};
// Cells come with inline styles, which the Content-Security-Policy forbids.
parser.core.ruler.push("cell_classes", (state) => {
  for (const token of state.tokens) {
    const side = token.attrGet("style")?.match(/text-align:(center|right)/)?.[1];
    token.attrs = token.attrs?.filter(([name]) => name !== "style") ?? null;
    if (side) token.attrSet("class", `align-${side}`);
  }
});

// "[x] done" in a list: a box in place of the bullet.
parser.core.ruler.after("inline", "tasks", (state) => {
  state.tokens.forEach((token, index) => {
    const [, paragraph, item] = [token, state.tokens[index - 1], state.tokens[index - 2]];
    if (token.type !== "inline" || paragraph?.type !== "paragraph_open" || item?.type !== "list_item_open") return;
    const first = token.children[0];
    const box = first?.type === "text" && first.content.match(/^\[([ xX])\]\s/);
    if (!box) return;
    item.attrSet("class", "task");
    first.content = `${box[1] === " " ? "☐" : "☑"} ${first.content.slice(box[0].length)}`;
  });
});

DOMPurify.addHook("uponSanitizeAttribute", (_node, data) => {
  if (data.attrName === "class" && !CLASSES.has(data.attrValue) && !CODE_CLASSES.test(data.attrValue)) data.keepAttr = false;
});
DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName !== "A") return;
  node.setAttribute("target", "_blank");
  node.setAttribute("rel", "noopener noreferrer");
});

/**
 * Render Markdown.
 *
 * @param {string} text what a person or a model wrote; raw HTML in it stays text
 * @returns {HTMLElement} `div.markdown`, or `div.plain-text` for very long texts
 */
export function renderMarkdown(text) {
  const source = String(text);
  if (source.length > LONGEST) return el("div.plain-text", { dir: "auto", text: source });
  const box = el("div.markdown", { dir: "auto" });
  box.append(DOMPurify.sanitize(parser.render(source), SANITISE));
  // The corner of a table is often empty, and then heads nothing.
  for (const cell of box.querySelectorAll("th")) if (!cell.textContent.trim()) cell.replaceWith(el("td", {}));
  for (const pre of box.querySelectorAll("pre")) addCopyButton(pre);
  return box;
}

function addCopyButton(pre) {
  const button = el(
    "button.btn.btn-sm.btn-icon.code-copy",
    { type: "button", "aria-label": "Copy code", data: { tip: "Copy code" } },
    icon("copy"),
  );
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(pre.textContent);
    button.replaceChildren(icon("check"));
    setTimeout(() => button.replaceChildren(icon("copy")), 1500);
  });
  const block = el("div.code-block");
  pre.replaceWith(block);
  pre.tabIndex = 0;
  block.append(pre, button);
}
