// Where the page begins.

import { byId, fill } from "../shared/dom.js";
import { tooltips } from "../shared/feedback.js";
import { icon } from "../shared/icons.js";
import { themeButton } from "../shared/theme.js";
import { followZone, refreshTimes } from "../shared/time.js";
import { zoneButton } from "../shared/zone.js";
import { SessionViewer } from "./session_viewer.js";

fill(byId("brand-mark"), icon("stack"));
fill(byId("shortcuts"), icon("info"));
byId("shortcuts").setAttribute("aria-label", "Keyboard shortcuts");
byId("shortcuts").dataset.tip = "Keyboard shortcuts";
themeButton(byId("theme"));
tooltips();
refreshTimes();
followZone();
zoneButton(byId("zone"));
new SessionViewer().start();
