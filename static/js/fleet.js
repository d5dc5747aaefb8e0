// The fleet page: filters with a clean address, rows that refresh as devices connect and disconnect,
// and a note on whether they are fresh.
import { Live } from "./live.js";

const freshness = document.getElementById("freshness");

function say(state, text) {
  if (freshness.dataset.state === state) return;
  freshness.dataset.state = state;
  freshness.querySelector("[data-text]").textContent = text;
}

// Refresh at once when a device connects or disconnects, but at most every second.
const fleet = document.getElementById("fleet");
const REFRESH_EVERY = 1000;
let refreshed = 0;
let waiting = null;

function refresh() {
  waiting ??= setTimeout(() => {
    waiting = null;
    refreshed = Date.now();
    htmx.trigger(fleet, "refresh");
  }, Math.max(50, refreshed + REFRESH_EVERY - Date.now()));
}

new Live(fleet.dataset.socket, { fleet: refresh, state() {} });

document.addEventListener("htmx:configRequest", (event) => {
  for (const [name, value] of [...event.detail.formData]) {
    if (value === "") event.detail.formData.delete(name);
  }
});

document.addEventListener("htmx:beforeRequest", (event) => {
  if (document.hidden) event.preventDefault();
});

document.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.successful) say("live", "live");
});

// Not when a newer request has replaced it.
for (const failure of ["htmx:sendError", "htmx:responseError", "htmx:timeout"]) {
  document.addEventListener(failure, () => say("broken", "reconnecting…"));
}
