// Colours of code: HTML text for the sanitiser in `markdown.js`, and nothing for languages that are not known.

import hljs from "./vendor/highlight/highlight.js";

/** Longer code keeps one colour: telling its parts apart would hold up the page. */
const LONGEST = 30_000;

/** @param {string} code @param {string} language as a fence names it @returns {string} HTML, or "" to leave it as it is */
export function codeHtml(code, language) {
  if (!language || code.length > LONGEST || !hljs.getLanguage(language)) return "";
  try {
    return hljs.highlight(code, { language, ignoreIllegals: true }).value;
  } catch {
    return "";
  }
}
