// A small line chart for each metric. All show the same window, which follows the device's clock and
// grows with the points to ten minutes.
import { FORMATS } from "./quantities.js";
import { spell } from "./times.js";

// Widths in milliseconds, each with the distance of its ticks.
const WINDOWS = [
  [60_000, 15_000],
  [180_000, 60_000],
  [600_000, 120_000],
];
const MOST_POINTS = 300;
// Agents send every two seconds; after a pause this long the chart says so.
const SILENT_AFTER = 10_000;
// No line joins points that are this many times further apart than usual.
const GAP = 4;

Chart.defaults.font.family = "Inter, system-ui, sans-serif";

const clock = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const clockWithSeconds = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

// The narrowest window that shows everything from `first` to `edge`.
export function windowFor(first, edge) {
  return WINDOWS.find(([width]) => edge - first <= width) ?? WINDOWS.at(-1);
}

// The longest distance in milliseconds over which a line is drawn.
function longestStep(points) {
  const steps = points.slice(1).map((point, index) => point.x - points[index].x).sort((a, b) => a - b);
  return steps.length ? GAP * steps[Math.floor(steps.length / 2)] : false;
}

// Labels of close values would be equal, so a repeated one is left empty.
function tickLabel(format) {
  const label = (value) => format(value).replace(".0 ", " ");
  return (value, index, ticks) =>
    index > 0 && label(ticks[index - 1].value) === label(value) ? "" : label(value);
}

export class MetricChart {
  constructor(figure) {
    this.figure = figure;
    this.format = FORMATS[figure.dataset.unit];
    this.points = [];
    // When the newest point arrived, by the browser's clock.
    this.arrived = null;
    this.tick = WINDOWS.at(-1)[1];
    this.chart = new Chart(figure.querySelector("canvas"), this.configuration());
    this.paint();
  }

  configuration() {
    const { format } = this;
    const maximum = Number(this.figure.dataset.maximum) || undefined;
    return {
      type: "line",
      data: { datasets: [{ data: this.points, fill: "start", borderWidth: 1.5, pointRadius: 0, pointHitRadius: 8 }] },
      options: {
        animation: false,
        parsing: false,
        normalized: true,
        responsive: true,
        maintainAspectRatio: false,
        interaction: { mode: "nearest", axis: "x", intersect: false },
        plugins: {
          legend: { display: false },
          tooltip: {
            displayColors: false,
            callbacks: {
              title: (items) => clockWithSeconds.format(items[0].parsed.x),
              label: (item) => format(item.parsed.y),
            },
          },
        },
        scales: {
          x: {
            type: "linear",
            afterBuildTicks: (axis) => {
              const { tick } = this;
              const first = Math.ceil(axis.min / tick) * tick;
              axis.ticks = [];
              for (let value = first; value <= axis.max; value += tick) axis.ticks.push({ value });
            },
            ticks: { callback: (value) => (this.tick < 60_000 ? clockWithSeconds : clock).format(value), maxRotation: 0, font: { size: 10 } },
            border: { display: false },
            grid: { display: false },
          },
          y: {
            min: this.figure.dataset.unit === "seconds" ? undefined : 0,
            max: maximum,
            suggestedMax: maximum || this.figure.dataset.unit === "seconds" ? undefined : 1000,
            ticks: { callback: tickLabel(format), maxTicksLimit: 4, font: { size: 10 } },
            border: { display: false },
          },
        },
      },
    };
  }

  // Chart.js paints on a canvas, so the colours have to be read from the stylesheet.
  paint() {
    const { color, outlineColor, borderTopColor } = getComputedStyle(this.figure.querySelector("canvas"));
    const [dataset] = this.chart.data.datasets;
    dataset.borderColor = color;
    dataset.backgroundColor = color.replace(/rgb\((.*)\)/, "rgba($1, 0.12)");
    const { x, y } = this.chart.options.scales;
    x.ticks.color = y.ticks.color = outlineColor;
    y.grid.color = borderTopColor;
    this.chart.update();
  }

  // points: [{timestamp, value}, ...]; age: milliseconds since the newest of them.
  replace(points, age) {
    const newest = this.newest;
    this.points.length = 0;
    this.insertAll(points);
    if (this.newest !== newest) this.arrived = Date.now() - age;
  }

  add(points) {
    const newest = this.newest;
    this.insertAll(points);
    if (newest === undefined || this.newest > newest) this.arrived = Date.now();
  }

  get newest() {
    return this.points.at(-1)?.x;
  }

  insertAll(points) {
    for (const { timestamp, value } of points) this.insert({ x: timestamp, y: value });
    this.points.splice(0, this.points.length - MOST_POINTS);
  }

  insert(point) {
    let index = this.points.length;
    while (index > 0 && this.points[index - 1].x > point.x) index -= 1;
    if (index > 0 && this.points[index - 1].x === point.x) this.points[index - 1] = point;
    else this.points.splice(index, 0, point);
  }

  // The device's clock now, estimated from its newest point.
  get edge() {
    return this.points.length ? this.newest + (Date.now() - this.arrived) : Date.now();
  }

  // A point that no line joins is drawn as a dot.
  breakAtGaps() {
    const { points } = this;
    const [dataset] = this.chart.data.datasets;
    const longest = longestStep(points);
    const joined = (index) => points[index]?.x - points[index - 1]?.x <= longest;
    dataset.spanGaps = longest;
    dataset.pointRadius = points.map((_, index) => (joined(index) || joined(index + 1) ? 0 : 1.5));
  }

  draw(edge, [width, tick]) {
    const { x, y } = this.chart.options.scales;
    // Without points there are no scales, since their figures would be made up.
    x.display = y.display = this.points.length > 0;
    this.breakAtGaps();
    this.tick = tick;
    x.max = edge;
    x.min = edge - width;
    this.chart.update("none");
    this.figure.dataset.points = this.points.length;
    this.describe();
  }

  describe() {
    const last = this.points.at(-1);
    const silence = this.figure.querySelector("[data-silence]");
    silence.hidden = Boolean(last) && Date.now() - this.arrived < SILENT_AFTER;
    if (!silence.hidden) {
      silence.textContent = last ? `no data for ${spell(Date.now() - this.arrived)}` : "no data yet";
    }
    if (last) this.figure.querySelector("[data-value]").textContent = this.format(last.y);
  }
}
