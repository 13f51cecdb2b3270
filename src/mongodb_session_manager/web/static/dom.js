// Elements without markup: text goes in as text, attributes are checked, nothing is ever parsed as HTML.

const URL_ATTRIBUTES = new Set(["href", "src"]);
const SAFE_PROTOCOLS = new Set(["http:", "https:", "mailto:", "blob:"]);
const SAFE_DATA = /^data:image\/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/=\s]*$/;

/** Whether a link or an image may point there: http, https, mailto, blob, or bytes of a raster image. */
export function isSafeUrl(url) {
  try {
    const parsed = new URL(url, document.baseURI);
    return SAFE_PROTOCOLS.has(parsed.protocol) || SAFE_DATA.test(url);
  } catch {
    return false;
  }
}

/**
 * Make an element.
 *
 * @param {string} spec tag and classes: "div.card.stack"
 * @param {object} [props] attributes; `on` maps event names to listeners, `data` to data attributes, `text` is the text.
 *   Values of null, undefined and false leave the attribute out, true sets it empty.
 * @param {...(Node|string|number|null|undefined|false|Array)} children strings become text nodes
 * @returns {HTMLElement}
 */
export function el(spec, props, ...children) {
  const [tag, ...classes] = spec.split(".");
  const node = document.createElement(tag);
  if (classes.length) node.className = classes.join(" ");
  for (const [name, value] of Object.entries(props ?? {})) setProp(node, name, value);
  append(node, children);
  return node;
}

function setProp(node, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name === "on") {
    for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
  } else if (name === "data") {
    for (const [key, item] of Object.entries(value)) if (item !== null && item !== undefined) node.dataset[key] = item;
  } else if (name === "class") {
    node.classList.add(...String(value).split(/\s+/).filter(Boolean));
  } else if (name === "text") {
    node.textContent = value;
  } else if (name === "value") {
    node.value = value;
  } else {
    setAttribute(node, name, value === true ? "" : String(value));
  }
}

function setAttribute(node, name, value) {
  if (name === "style" || name === "srcdoc" || name.startsWith("on")) throw new Error(`attribute ${name} is not allowed`);
  if (URL_ATTRIBUTES.has(name) && !isSafeUrl(value)) return;
  node.setAttribute(name, value);
}

/** Append children the way `el` takes them: nested arrays are flattened, empty values skipped. */
export function append(node, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false || child === true) continue;
    node.append(child instanceof Node ? child : String(child));
  }
  return node;
}

/** Replace what an element holds. */
export function fill(node, ...children) {
  node.replaceChildren();
  return append(node, children);
}

/** Text that people, models or tools wrote: its own writing direction, never wider than its place. */
export function userText(text, spec = "span.user-text") {
  return el(spec, { dir: "auto", text: String(text) });
}

/** The element with this id; a missing one is a mistake in the page. */
export function byId(id) {
  const node = document.getElementById(id);
  if (!node) throw new Error(`no element #${id}`);
  return node;
}

let nextId = 0;

/** An id that is free in this page, for aria-controls and labels. */
export function uniqueId(prefix = "id") {
  nextId += 1;
  return `${prefix}-${nextId}`;
}

/** Call `fn` once, `delayMs` after the last of a run of calls. */
export function debounce(fn, delayMs) {
  let timer;
  const later = (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => fn(...args), delayMs);
  };
  later.cancel = () => clearTimeout(timer);
  return later;
}
