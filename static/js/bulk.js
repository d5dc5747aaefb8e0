// The page of a bulk command: refreshes every second while commands are open and the page is visible.
const box = document.getElementById("bulk");
const freshness = document.getElementById("freshness");

function say(state, text) {
  if (!freshness || freshness.dataset.state === state) return;
  freshness.dataset.state = state;
  freshness.querySelector("[data-text]").textContent = text;
}

document.addEventListener("htmx:beforeRequest", (event) => {
  if (document.hidden) event.preventDefault();
});

document.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.elt !== box) return;
  if (!event.detail.successful) say("broken", "reconnecting…");
  else if (event.detail.xhr.status === 286) say("ended", "all ended");
  else say("live", "live");
});
