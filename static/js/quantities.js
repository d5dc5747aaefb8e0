// Numbers as people read them; devices/templatetags/reports.py does the same on the server.

function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let power = 0;
  while (Math.abs(value) >= 1000 && power < units.length - 1) {
    value /= 1000;
    power += 1;
  }
  return `${power ? value.toFixed(1) : value.toFixed(0)} ${units[power]}`;
}

function duration(seconds) {
  const days = Math.floor(seconds / 86400);
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.floor(seconds / 60);
  if (days) return `${days} d ${hours % 24} h`;
  if (hours) return `${hours} h ${minutes % 60} min`;
  return minutes ? `${minutes} min` : `${seconds.toFixed(0)} s`;
}

export const FORMATS = {
  percent: (value) => `${value.toFixed(1)} %`,
  "bytes per second": (value) => `${bytes(value)}/s`,
  seconds: duration,
};
