// Dark and light: follows the system until somebody chooses.

import { icon } from "./icons.js";

const ORDER = ["system", "light", "dark"];
const LOOK = {
  system: ["monitor", "Theme: as the system"],
  light: ["sun", "Theme: light"],
  dark: ["moon", "Theme: dark"],
};

/** The stored choice: "system", "light" or "dark". */
export function currentTheme() {
  return document.documentElement.dataset.theme ?? "system";
}

/** Choose; listeners of `themechange` on `window` redraw what CSS cannot reach. */
export function setTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("theme", theme);
  } catch {
    // Storage can be switched off; the choice then lasts as long as the page.
  }
  window.dispatchEvent(new Event("themechange"));
}

/** Make a button step through system, light and dark. */
export function themeButton(button) {
  const show = () => {
    const [name, label] = LOOK[currentTheme()];
    button.replaceChildren(icon(name));
    button.setAttribute("aria-label", label);
    button.dataset.tip = label;
  };
  button.addEventListener("click", () => {
    setTheme(ORDER[(ORDER.indexOf(currentTheme()) + 1) % ORDER.length]);
    show();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => window.dispatchEvent(new Event("themechange")));
  show();
}
