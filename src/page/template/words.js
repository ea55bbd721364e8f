// Numbers as people read them.

function bytes(count) {
  const sign = count < 0 ? "−" : "";
  let value = Math.abs(count);
  if (value < 1000) return `${sign}${value} B`;
  const units = ["kB", "MB", "GB", "TB", "PB"];
  let unit = -1;
  do {
    value /= 1000;
    unit += 1;
  } while (value >= 999.95 && unit + 1 < units.length);
  return `${sign}${value.toFixed(1)} ${units[unit]}`;
}

function duration(milliseconds) {
  const sign = milliseconds < 0 ? "−" : "";
  const seconds = Math.abs(milliseconds) / 1000;
  if (seconds < 0.0005) return "0 s";
  if (seconds < 1) return `${sign}${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${sign}${seconds.toFixed(2)} s`;
  if (seconds < 60) return `${sign}${seconds.toFixed(1)} s`;
  const minutes = Math.floor(seconds / 60);
  const rest = String(Math.floor(seconds % 60)).padStart(2, "0");
  if (minutes < 60) return `${sign}${minutes} min ${rest} s`;
  return `${sign}${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

function change(now, before, write) {
  const by = now - before;
  if (by === 0) return "as before";
  return (by > 0 ? "+" : "") + write(by);
}

const whole = (number) => (number < 0 ? "−" : "") + Math.abs(number);
const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
const percent = (part, whole) => (whole > 0 ? `${((100 * part) / whole).toFixed(part / whole < 0.1 ? 1 : 0)} %` : "0 %");
const short = (digest) => String(digest || "").replace(/^sha(1|256):/, "").slice(0, 12);

// A date that cannot be one, as records of broken clocks may have, is none.
function when(milliseconds) {
  const date = new Date(milliseconds);
  if (Number.isNaN(date.getTime())) return "an unknown time";
  return `${date.toISOString().slice(0, 16).replace("T", " ")} UTC`;
}

// A digest that shows its beginning, and is copied whole.
function digest(text) {
  return el("code", { class: "digest", title: text }, short(text));
}

const OUTCOMES = {
  ran: "ran",
  cached: "cached",
  "config-only": "configuration",
  failed: "failed",
  cancelled: "cancelled",
};
