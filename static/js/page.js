// What every page has: times, the user menu, copy buttons, and a notice when a request fails.
import { showTimes } from "./times.js";

function prepare(root) {
  showTimes(root);
  for (const button of root.querySelectorAll(":is([data-copy], [data-download])[hidden]")) button.hidden = false;
}

async function copy(button) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = "Copied";
  } catch {
    // Only a secure origin may write to the clipboard; selecting works everywhere.
    getSelection().selectAllChildren(document.getElementById(button.dataset.copy));
    button.textContent = "Selected";
  }
  setTimeout(() => { button.textContent = label; }, 2000);
}

function download(button) {
  const text = document.getElementById(button.dataset.download).textContent;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/octet-stream" }));
  link.download = button.dataset.name;
  link.click();
  URL.revokeObjectURL(link.href);
}

let hiding;
export function notify(text) {
  const notice = document.getElementById("notice");
  notice.textContent = text;
  notice.hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => { notice.hidden = true; }, 8000);
}

function explain(status) {
  if (status === 403) return "You do not have permission to do this.";
  if (status === 404) return "It no longer exists. Reload the page.";
  return `The server answered ${status}.`;
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) copy(button);
  const saved = event.target.closest("[data-download]");
  if (saved) download(saved);
  for (const menu of document.querySelectorAll("[data-menu][open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});

document.addEventListener("keydown", (event) => {
  const menu = document.querySelector("[data-menu][open]");
  if (event.key !== "Escape" || !menu) return;
  menu.open = false;
  menu.querySelector("summary").focus();
});

document.addEventListener("htmx:afterSwap", () => prepare(document));

// Whether a person made the request, not a timer.
const isPersons = (event) => event.detail.requestConfig.triggeringEvent?.isTrusted;

// A person's request that failed; a failed poll shows in the freshness of the page.
document.addEventListener("htmx:responseError", (event) => {
  if (isPersons(event)) notify(explain(event.detail.xhr.status));
});
document.addEventListener("htmx:sendError", (event) => {
  if (isPersons(event)) notify("The server cannot be reached.");
});

// A click is lost when its target is replaced between pressing and releasing the button.
let pressed = false;
addEventListener("pointerdown", (event) => { pressed = event.button === 0; });
for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => { pressed = false; });

// Swapping in an equal answer would only lose the selection and the focus.
const latest = new WeakMap();
document.addEventListener("htmx:beforeSwap", (event) => {
  const { target, xhr } = event.detail;
  if (!("steady" in target.dataset)) return;
  if (pressed || latest.get(target) === xhr.responseText) event.detail.shouldSwap = false;
  else if (event.detail.shouldSwap) latest.set(target, xhr.responseText);
});

prepare(document);
setInterval(() => showTimes(), 1000);
