// The device page: charts and history fed by the websocket; without it, the page still polls.
import { MetricChart, windowFor } from "./charts.js";
import { History } from "./history.js";
import { Live } from "./live.js";

const device = document.getElementById("device");
const freshness = document.getElementById("freshness");
const history = new History(document.getElementById("history"), device.dataset.commands);
const charts = new Map(
  [...device.querySelectorAll("[data-metric]")].map((figure) => [figure.dataset.metric, new MetricChart(figure)]),
);

function draw() {
  if (document.hidden) return;
  const drawn = [...charts.values()].filter((chart) => chart.points.length);
  const edge = drawn.length ? Math.max(...drawn.map((chart) => chart.edge)) : Date.now();
  const first = drawn.length ? Math.min(...drawn.map((chart) => chart.points[0].x)) : edge;
  for (const chart of charts.values()) chart.draw(edge, windowFor(first, edge));
}

function showSnapshot(series, now) {
  for (const [metric, points] of Object.entries(series)) {
    const chart = charts.get(metric);
    if (!chart || !points.length) continue;
    chart.replace(points, Math.max(0, now - points.at(-1).timestamp));
  }
  draw();
}

function showMetrics(series) {
  for (const [metric, points] of Object.entries(series)) charts.get(metric)?.add(points);
  draw();
}

function showState(state, text) {
  freshness.dataset.state = state;
  const words = freshness.querySelector("[data-text]");
  if (words.textContent !== text) words.textContent = text;
}

const refreshStatus = () => htmx.trigger("#status", "refresh");

const first = JSON.parse(document.getElementById("snapshot").textContent);
showSnapshot(first.metrics, first.now);

const live = new Live(device.dataset.socket, {
  state: showState,
  snapshot(frame) {
    showSnapshot(frame.metrics, Date.now());
    history.compare(frame.commands);
  },
  metrics: (frame) => showMetrics(frame.metrics),
  connectivity: refreshStatus,
  command: (frame) => history.mark(frame.command.command_id),
});

document.addEventListener("htmx:afterSwap", (event) => {
  const issued = event.detail.target.querySelector?.("[data-issued]");
  if (issued) history.mark(issued.dataset.issued);
});
document.addEventListener("themechange", () => charts.forEach((chart) => chart.paint()));
document.addEventListener("visibilitychange", draw);
setInterval(draw, 1000);
// Frames say when a command changes; while there are none, look.
setInterval(() => live.connected || history.markOpen(), 3000);
