// What was typed and not sent, kept for as long as the tab lives: a reload, or a database that is away, loses none of it.

const key = (id) => `draft:${id ?? "new"}`;

export function keepDraft(id, text) {
  try {
    if (text) sessionStorage.setItem(key(id), text);
    else sessionStorage.removeItem(key(id));
  } catch {
    // Storage can be switched off or full; the box itself still holds the text.
  }
}

export function draftOf(id) {
  try {
    return sessionStorage.getItem(key(id)) ?? "";
  } catch {
    return "";
  }
}
