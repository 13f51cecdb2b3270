// What a person typed, as they typed it, but with the code in it set as code.

import { el, userText } from "./dom.js";
import { renderMarkdown } from "./markdown.js";

const FENCE = /^ {0,3}(`{3,}|~{3,})[ \t]*([^`\n]*)$/;

/**
 * Show typed text: fenced blocks and `inline code` become code, everything else stays as it is ("149. Why?" is no list).
 *
 * @param {string} text
 * @returns {HTMLElement}
 */
export function typedText(text) {
  const parts = split(String(text)).map(({ code, language, body }) => (code ? codeBlock(body, language) : plain(body)));
  return parts.length === 1 ? parts[0] : el("div.typed", {}, parts);
}

/** A block of code, coloured where its language is known, with a button that copies it. */
function codeBlock(code, language) {
  const longest = Math.max(2, ...Array.from(code.matchAll(/`+/g), ([run]) => run.length));
  const fence = "`".repeat(longest + 1);
  return renderMarkdown(`${fence}${/^[\w+#-]{1,30}$/.test(language) ? language : ""}\n${code}\n${fence}`);
}

function split(text) {
  const parts = [];
  let plain = [];
  const flush = () => {
    const body = plain.join("\n");
    if (body.trim()) parts.push({ code: false, body: body.replace(/^\n+|\n+$/g, "") });
    plain = [];
  };
  const lines = text.split("\n");
  for (let at = 0; at < lines.length; at += 1) {
    const opening = FENCE.exec(lines[at]);
    const end = opening ? closing(lines, at + 1, opening[1]) : -1;
    if (end < 0) {
      plain.push(lines[at]);
      continue;
    }
    flush();
    parts.push({ code: true, language: opening[2].trim(), body: lines.slice(at + 1, end).join("\n") });
    at = end;
  }
  flush();
  return parts.length ? parts : [{ code: false, body: text }];
}

/** The line that closes a fence; one that was never closed is no fence. */
function closing(lines, from, fence) {
  for (let at = from; at < lines.length; at += 1) {
    const line = lines[at].trim();
    if (line.length >= fence.length && line === fence[0].repeat(line.length)) return at;
  }
  return -1;
}

function plain(text) {
  const node = userText("", "div.plain-text.user-text");
  node.append(inline(text));
  return node;
}

function inline(text) {
  const fragment = document.createDocumentFragment();
  for (const [index, piece] of text.split(/(`[^`\n]+`)/).entries()) {
    fragment.append(index % 2 ? el("code", { dir: "ltr", text: piece.slice(1, -1) }) : piece);
  }
  return fragment;
}
