// Marks where a text stands in a part of the page, with the browser's own highlights: no element is changed.

const NAME = "found";
const CURRENT = "found-current";
const MOST = 2_000;

/** Mark every place of a text below an element; an empty text unmarks. @returns {Range[]} the places, in order */
export function markText(root, text) {
  const ranges = text ? places(root, text) : [];
  if (!("highlights" in CSS)) return ranges;
  CSS.highlights.delete(CURRENT);
  if (ranges.length === 0) CSS.highlights.delete(NAME);
  else CSS.highlights.set(NAME, new Highlight(...ranges));
  return ranges;
}

/** Mark one place apart from the others. @param {Range|null} range */
export function markCurrent(range) {
  if (!("highlights" in CSS)) return;
  if (range) CSS.highlights.set(CURRENT, new Highlight(range));
  else CSS.highlights.delete(CURRENT);
}

function places(root, text) {
  const wanted = text.normalize("NFC").toLowerCase();
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  const found = [];
  for (let node = walker.nextNode(); node && found.length < MOST; node = walker.nextNode()) {
    const held = node.data.toLowerCase();
    for (let at = held.indexOf(wanted); at >= 0; at = held.indexOf(wanted, at + wanted.length)) {
      if (at + wanted.length > node.length) break;
      const range = document.createRange();
      range.setStart(node, at);
      range.setEnd(node, at + wanted.length);
      found.push(range);
    }
  }
  return found;
}
