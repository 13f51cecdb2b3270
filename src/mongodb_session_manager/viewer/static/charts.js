// Line charts over the answers of a conversation, on uPlot: thousands of points without a stutter.

import uPlot from "../shared/vendor/uplot/uPlot.js";
import { UNKNOWN, number } from "../shared/format.js";

const HEIGHT = 200;

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
 * @param {(index: number) => string} [name] what a point is called; else its number
 * @returns {{destroy: () => void}}
 */
export function lineChart(holder, points, series, format, name = null) {
  const grid = { stroke: colour("--line"), width: 1 };
  const axis = { stroke: colour("--text-faint"), font: `12px ${getComputedStyle(document.body).fontFamily}`, grid, ticks: { show: false } };
  const data = [points.map((_, index) => index + 1), ...series.map(({ key }) => points.map((point) => point[key] ?? null))];
  const options = {
    width: holder.clientWidth || 600,
    height: HEIGHT,
    padding: [12, 8, 0, 0],
    scales: { x: { time: false }, y: { range: (_chart, _low, high) => [0, high > 0 ? high * 1.1 : 1] } },
    axes: [
      { ...axis, size: 32, grid: { show: false }, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500], values: (_chart, ticks) => ticks.map(number) },
      { ...axis, size: 64, values: (_chart, ticks) => ticks.map((tick) => format(tick)) },
    ],
    series: [
      { label: name ? "From" : "Answer", value: (_chart, value) => (value === null ? UNKNOWN : name ? name(value - 1) : number(value)) },
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
