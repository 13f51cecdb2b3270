// Line icons on a 20 x 20 grid, drawn as SVG elements; decorative unless a label is given.

const PATHS = {
  alert: "M10 3 2.5 16.5h15L10 3Z M10 8.2v3.6 M10 14.2v.1",
  agent: "M10 3v2 M5.5 5h9A1.5 1.5 0 0 1 16 6.500v7a1.5 1.5 0 0 1-1.5 1.500h-9A1.5 1.5 0 0 1 4 13.500v-7A1.5 1.5 0 0 1 5.5 5Z M7.7 9v1.4 M12.3 9v1.4 M8 12.700h4 M2.3 9v3 M17.7 9v3",
  arrowDown: "M10 4v12 M5 11l5 5 5-5",
  arrowLeft: "M16 10H4 M9 5l-5 5 5 5",
  attach: "M15.5 9.500l-5.6 5.600a3.5 3.5 0 0 1-5-5l6-6a2.3 2.3 0 0 1 3.3 3.300l-6 6a1.1 1.1 0 0 1-1.6-1.600l5.2-5.200",
  bolt: "M11 2.5 4.5 11.500H9.500L9 17.500l6.5-9H10.500L11 2.500Z",
  branch: "M6 6.500v7 M6 6.500a1.7 1.7 0 1 1 0-3.400 1.7 1.7 0 0 1 0 3.400Z M6 16.900a1.7 1.7 0 1 1 0-3.400 1.7 1.7 0 0 1 0 3.400Z M14 9.200a1.7 1.7 0 1 1 0-3.400 1.7 1.7 0 0 1 0 3.400Z M14 9.200c0 2.500-2.500 2.600-8 4.300",
  chart: "M3.5 3.500v13h13 M7 13v-3 M10.5 13V7 M14 13V9",
  chat: "M4.5 4h11A1.5 1.5 0 0 1 17 5.500v7a1.5 1.5 0 0 1-1.5 1.500H9l-4 3.500V14h-.500A1.5 1.5 0 0 1 3 12.500v-7A1.5 1.5 0 0 1 4.5 4Z",
  check: "M4 10.500l4 4 8-9",
  chevron: "M7.5 5l5 5-5 5",
  chevronDown: "M5 7.500l5 5 5-5",
  clock: "M10 3a7 7 0 1 1 0 14 7 7 0 0 1 0-14Z M10 6v4.300l2.8 1.7",
  close: "M5 5l10 10 M15 5 5 15",
  code: "M7 6 3 10l4 4 M13 6l4 4-4 4",
  copy: "M7.5 7.500h8v9h-8Z M12.5 7.500v-4h-8v9h3",
  download: "M10 3v9.5 M6 9l4 4 4-4 M3.5 16.500h13",
  edit: "M4 16l.8-3.500L13.5 3.800a1.4 1.4 0 0 1 2 0l.7.7a1.4 1.4 0 0 1 0 2L7.5 15.2 4 16Z",
  expand: "M5 8l5-5 5 5 M5 12l5 5 5-5",
  collapse: "M5 3l5 5 5-5 M5 17l5-5 5 5",
  eye: "M2.5 10S5.2 5 10 5s7.5 5 7.5 5-2.7 5-7.5 5-7.5-5-7.5-5Z M10 7.800a2.2 2.2 0 1 1 0 4.4 2.2 2.2 0 0 1 0-4.400Z",
  file: "M5.5 2.500h6l3.5 3.500v11.500h-9.500Z M11.5 2.500v3.500H15",
  filter: "M3 5h14 M5.5 10h9 M8 15h4",
  image: "M3.5 4h13v12h-13Z M3.5 13.500l3.5-3.5 3 3 2.5-2 4 4 M12.7 7.500v.1",
  inbox: "M3 11l2.5-7h9L17 11v5.500H3V11Z M3 11h4l1 2h4l1-2h4",
  info: "M10 3a7 7 0 1 1 0 14 7 7 0 0 1 0-14Z M10 9.500v4 M10 6.600v.1",
  key: "M12.5 3.500a4 4 0 1 1-2.9 6.800L4 16H3v-2.500l1-1h1.500V11l2.3-2.300A4 4 0 0 1 12.5 3.500Z M13.5 6.500v.1",
  link: "M8.5 11.500a3 3 0 0 0 4.3 0l2.7-2.700a3 3 0 0 0-4.3-4.300L10 5.7 M11.5 8.500a3 3 0 0 0-4.3 0l-2.7 2.700a3 3 0 0 0 4.3 4.300L10 14.3",
  list: "M4 5.500h12 M4 10h12 M4 14.500h12",
  lock: "M5 9h10v7.500H5Z M7 9V6.500a3 3 0 0 1 6 0V9",
  logout: "M8 3.500H4v13h4 M12.5 6.5 16 10l-3.5 3.5 M16 10H8",
  moon: "M16 11.800A6.5 6.5 0 0 1 8.2 4a6.5 6.5 0 1 0 7.8 7.800Z",
  more: "M4 10a.8.8 0 1 0 1.600 0 .8.8 0 0 0-1.600 0Z M9.200 10a.8.8 0 1 0 1.600 0 .8.8 0 0 0-1.600 0Z M14.400 10a.8.8 0 1 0 1.600 0 .8.8 0 0 0-1.600 0Z",
  monitor: "M3 4h14v9.500H3Z M7.5 16.500h5 M10 13.500v3",
  play: "M6.5 4.500v11l9-5.5-9-5.500Z",
  plus: "M10 4v12 M4 10h12",
  refresh: "M16 8.500A6.3 6.3 0 0 0 4.6 7 M4 3.500v4h4 M4 11.500A6.3 6.3 0 0 0 15.4 13 M16 16.500v-4h-4",
  search: "M8.8 3.500a5.3 5.3 0 1 1 0 10.6 5.3 5.3 0 0 1 0-10.600Z M12.8 12.800l3.9 3.9",
  send: "M3.5 10 16.5 3.500l-4 13-3-5.5-6-1Z M9.5 11l7-7.5",
  shield: "M10 2.800l6 2.200v4.500c0 3.8-2.5 6.4-6 7.7-3.5-1.3-6-3.9-6-7.700V5l6-2.200Z M10 7v3.5 M10 13v.1",
  stack: "M10 3l7 3.5-7 3.5-7-3.500L10 3Z M3 10l7 3.5 7-3.5 M3 13.5 10 17l7-3.5",
  sliders: "M3.500 6h7 M14.500 6h2 M12.500 4v4 M3.500 14h2 M9.500 14h7 M7.500 12v4",
  stop: "M5.5 5.500h9v9h-9Z",
  sun: "M10 6.700a3.3 3.3 0 1 1 0 6.6 3.3 3.3 0 0 1 0-6.600Z M10 2.200v1.5 M10 16.300v1.5 M2.2 10h1.5 M16.3 10h1.5 M4.5 4.500l1 1 M14.5 14.500l1 1 M15.5 4.500l-1 1 M5.5 14.500l-1 1",
  tag: "M3.5 3.500h6l7 7-6 6-7-7v-6Z M7 7v.1",
  thumbDown: "M6.5 4v7l3 5.500c1.3 0 2-.8 2-2v-3h3.300a1.5 1.5 0 0 0 1.5-1.800l-.8-4.200A1.8 1.8 0 0 0 13.7 4H6.500Z M6.5 4h-3v7h3",
  thumbUp: "M6.5 16V9l3-5.500c1.3 0 2 .8 2 2v3h3.300a1.5 1.5 0 0 1 1.5 1.800l-.8 4.200a1.8 1.8 0 0 1-1.8 1.500H6.500Z M6.5 16h-3V9h3",
  tool: "M12.2 3.300a4 4 0 0 0-3.6 5.600L3.5 14a1.8 1.8 0 0 0 2.5 2.500l5.1-5.100a4 4 0 0 0 5.3-4.900l-2.5 2.4-2.4-.4-.4-2.4 2.4-2.500a4 4 0 0 0-1.3-.3Z",
  trash: "M3.5 5.500h13 M8 5.500V3.500h4v2 M5 5.500l.8 11h8.400l.8-11 M8.5 8.500v5 M11.5 8.500v5",
  user: "M10 3.500a3 3 0 1 1 0 6 3 3 0 0 1 0-6Z M4 16.500c.5-3 3-4.5 6-4.500s5.5 1.5 6 4.5",
};

const SVG = "http://www.w3.org/2000/svg";

/** @param {keyof PATHS} name @param {string} [label] what it says where no text does */
export function icon(name, label) {
  const path = PATHS[name];
  if (!path) throw new Error(`no icon named ${name}`);
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 20 20");
  svg.setAttribute("class", name === "chevron" ? "icon chevron" : "icon");
  if (label) {
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", label);
  } else {
    svg.setAttribute("aria-hidden", "true");
  }
  const shape = document.createElementNS(SVG, "path");
  shape.setAttribute("d", path);
  svg.append(shape);
  return svg;
}
