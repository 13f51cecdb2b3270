// Where the page begins.

import { byId, fill } from "../shared/dom.js";
import { tooltips } from "../shared/feedback.js";
import { icon } from "../shared/icons.js";
import { themeButton } from "../shared/theme.js";
import { refreshTimes } from "../shared/time.js";
import { SessionViewer } from "./session_viewer.js";

fill(byId("brand-mark"), icon("stack"));
fill(byId("shortcuts"), icon("info"));
byId("shortcuts").setAttribute("aria-label", "Keyboard shortcuts");
byId("shortcuts").dataset.tip = "Keyboard shortcuts";
themeButton(byId("theme"));
tooltips();
refreshTimes();
new SessionViewer().start();
