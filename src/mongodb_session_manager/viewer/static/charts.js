// Line charts over the answers of a conversation, on uPlot: thousands of points without a stutter.

import uPlot from "../shared/vendor/uplot/uPlot.js";
import { UNKNOWN, number } from "../shared/format.js";

const HEIGHT = 200;
/** Steps of the axes: counts and milliseconds have no halves. */
const STEPS = Array.from({ length: 13 }, (_, power) => [1, 2, 5].map((step) => step * 10 ** power)).flat();

/** The colour that a token stands for now; canvases know no custom properties. */
function colour(token) {
  const probe = document.createElement("span");
  probe.style.color = `var(${token})`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}

const faded = (rgb) => rgb.replace(/^rgb\((.+)\)$/, "rgba($1, 0.12)");

/**
 * Draw a chart that keeps the width of its place.
 *
 * @param {HTMLElement} holder
 * @param {object[]} points
 * @param {{key: string, label: string, token: string}[]} series
 * @param {(value: number) => string} format
 * @param {{name: (index: number) => string, short: (index: number) => string}} [named] what points are called, and in
 *   short below the axis; else their numbers
 * @returns {{destroy: () => void}}
 */
export function lineChart(holder, points, series, format, named = null) {
  const grid = { stroke: colour("--line"), width: 1 };
  const axis = { stroke: colour("--text-faint"), font: `12px ${getComputedStyle(document.body).fontFamily}`, grid, ticks: { show: false } };
  const data = [points.map((_, index) => index + 1), ...series.map(({ key }) => points.map((point) => point[key] ?? null))];
  const options = {
    width: holder.clientWidth || 600,
    height: HEIGHT,
    padding: [12, 8, 0, 0],
    scales: { x: { time: false }, y: { range: (_chart, _low, high) => [0, high > 0 ? high * 1.1 : 1] } },
    axes: [
      { ...axis, size: 32, grid: { show: false }, incrs: STEPS, space: named ? 72 : 50, values: (_chart, ticks) => ticks.map((tick) => (named ? (points[tick - 1] ? named.short(tick - 1) : "") : number(tick))) },
      { ...axis, size: 64, incrs: STEPS, values: (_chart, ticks) => ticks.map((tick) => format(tick)) },
    ],
    series: [
      { label: named ? "From" : "Answer", value: (_chart, value) => (value === null ? UNKNOWN : named ? named.name(value - 1) : number(value)) },
      ...series.map(({ label, token }, index) => ({
        label,
        stroke: colour(token),
        fill: index === 0 ? faded(colour(token)) : undefined,
        width: 2,
        spanGaps: true,
        points: { show: points.length <= 60, size: 6 },
        value: (_chart, value) => (value === null ? UNKNOWN : format(value)),
      })),
    ],
    cursor: { drag: { x: false, y: false } },
  };
  const chart = new uPlot(options, data, holder);
  const watcher = new ResizeObserver(() => {
    if (holder.clientWidth > 0 && holder.clientWidth !== chart.width) chart.setSize({ width: holder.clientWidth, height: HEIGHT });
  });
  watcher.observe(holder);
  return {
    destroy: () => {
      watcher.disconnect();
      chart.destroy();
    },
  };
}
