// Shows each <time> in the browser's zone: relative ("12 s ago", exact in the title) or exact.

const serverTime = document.querySelector("meta[name=server-time]");
const skew = serverTime ? Date.parse(serverTime.content) - Date.now() : 0;
// Below this it is the way from the server to here, not a wrong clock.
const TOLERATED_SKEW = 5000;

const exactFormat = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

// The server's clock, in epoch milliseconds.
export function now() {
  return Date.now() + (Math.abs(skew) > TOLERATED_SKEW ? skew : 0);
}

export function spell(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

function relative(at) {
  const age = now() - at;
  if (age < 1000) return age < -60_000 ? `in ${spell(-age)}` : "just now";
  return `${spell(age)} ago`;
}

export function showTimes(root = document) {
  for (const element of root.querySelectorAll("time[datetime]")) {
    const at = Date.parse(element.dateTime);
    const exact = exactFormat.format(at);
    const text = element.dataset.style === "exact" ? exact : relative(at);
    if (element.textContent !== text) element.textContent = text;
    if (element.title !== exact) element.title = exact;
  }
}
