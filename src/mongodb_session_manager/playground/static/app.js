// Puts the page together.

import { byId } from "../shared/dom.js";
import { tooltips } from "../shared/feedback.js";
import { icon } from "../shared/icons.js";
import { themeButton } from "../shared/theme.js";
import { refreshTimes } from "../shared/time.js";
import { watchHealth } from "./health.js";
import { Playground, addressed } from "./playground.js";

byId("brand-mark").append(icon("chat"));
themeButton(byId("theme"));
tooltips();
refreshTimes();
const playground = new Playground();
window.addEventListener("popstate", () => playground.open(addressed()));
document.querySelector(".brand").addEventListener("click", (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  playground.go(null);
});
playground.start();
playground.checkHealth = watchHealth(byId("health"), (found, before) => playground.takeHealth(found, before));
