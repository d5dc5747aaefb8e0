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

// A frame says that there is news of the device's connectivity; the status line says what.
const status = document.getElementById("status");
const presence = document.getElementById("presence");
const readStatus = () => ({ ...status.querySelector("[data-status]").dataset });
let known = readStatus();

function followStatus() {
  const before = known;
  known = readStatus();
  // The rows of open commands say whether the device is offline.
  if (known.status !== before.status) history.markOpen();
  // A person who looks at another range or page of the history keeps it.
  const first = !presence.querySelector("[rel=prev]") && presence.querySelector("#range-1[aria-current]");
  if (known.presence !== before.presence && first) htmx.trigger(presence, "refresh");
}

const refreshStatus = () => htmx.trigger(status, "refresh");
document.addEventListener("htmx:afterSwap", (event) => event.detail.target === status && followStatus());

const first = JSON.parse(document.getElementById("snapshot").textContent);
showSnapshot(first.metrics, first.now);

const live = new Live(device.dataset.socket, {
  state: showState,
  snapshot(frame) {
    showSnapshot(frame.metrics, Date.now());
    refreshStatus();
    history.compare(frame.commands);
  },
  metrics: (frame) => showMetrics(frame.metrics),
  connectivity: refreshStatus,
  details() {
    htmx.trigger("#details", "refresh");
    refreshStatus();
  },
  commands: (frame) => history.markAll(frame.commands),
});

// The note on the last command stays until it has ended or another one is sent.
const commandBox = document.getElementById("command-box");
const lastIssued = () => commandBox.querySelector("[data-issued]");

document.addEventListener("htmx:beforeRequest", (event) => {
  if (commandBox.contains(event.detail.elt)) lastIssued()?.remove();
});
document.addEventListener("htmx:afterSwap", (event) => {
  const issued = lastIssued();
  if (!issued) return;
  if (event.detail.target === commandBox) history.mark(issued.dataset.issued);
  else if (history.hasEnded(issued.dataset.issued)) issued.remove();
});
document.addEventListener("themechange", () => charts.forEach((chart) => chart.paint()));
document.addEventListener("visibilitychange", draw);
setInterval(draw, 1000);
// Frames say when a command changes; while there is no connection, poll.
setInterval(() => live.connected || history.markOpen(), 3000);
document.addEventListener("issued", (event) => history.mark(event.detail.command));
