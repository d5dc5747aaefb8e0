// The fleet page: filters with a clean address, and whether the rows are fresh.

const freshness = document.getElementById("freshness");

function say(state, text) {
  if (freshness.dataset.state === state) return;
  freshness.dataset.state = state;
  freshness.querySelector("[data-text]").textContent = text;
}

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
  else say("broken", "reconnecting…");
});
