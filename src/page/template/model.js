// What the page is made of: the data, and what several parts of the page ask of it.

const data = JSON.parse(document.getElementById("data").textContent);
const record = data.record;
const steps = record ? record.steps : [];
const bars = new Map(data.timeline.bars.map((bar) => [bar[0], { step: bar[0], ready: bar[1], start: bar[2], work: bar[3], end: bar[4] }]));
const critical = new Map(data.timeline.critical.map((link) => [link.step, link]));
const missed = new Map(data.misses.map((miss) => [miss.step, miss]));

// The target that is shown, of several: its image, the layer that each step made, what it is compared with.
let view, image, target, layerOf, tookBefore;

function choose(at) {
  view = data.views[at];
  image = view.image;
  target = record ? record.targets[view.target] : null;
  layerOf = new Map();
  if (image) image.layers.forEach((layer, at) => layer.step !== null && !layerOf.has(layer.step) && layerOf.set(layer.step, at));
  tookBefore = new Map(view.last ? view.last.steps : []);
  layerColour = colours();
}

// The steps that the target was made by: its own, those that made its layers, and all that these needed, whatever target they count as.
function stepsOfTarget() {
  const found = new Set(), next = steps.map((_, at) => at).filter((at) => steps[at].target === view.target + 1 || layerOf.has(at));
  while (next.length) {
    const at = next.pop();
    if (found.has(at) || !steps[at]) continue;
    found.add(at);
    next.push(...(steps[at].needs || []).map((number) => number - 1));
  }
  return found;
}

const stepName = (at) => {
  const step = steps[at];
  return step ? `#${step.number} ${step.place || ""} ${step.title}`.replace(/\s+/g, " ") : `#${at + 1}`;
};
const outcome = (at) => OUTCOMES[steps[at].outcome] || "not ended";
const ownTime = (at) => (bars.has(at) ? bars.get(at).end - bars.get(at).work : 0);
const ranAtAll = (at) => ["ran", "failed", "cancelled"].includes(steps[at].outcome);

// A place in the Dockerfile, in words.
function lines(pair) {
  if (!pair) return "";
  return pair[0] === pair[1] ? `line ${pair[0]}` : `lines ${pair[0]}–${pair[1]}`;
}

// What brought a layer.
function layerName(at) {
  const layer = image.layers[at];
  if (!layer) return `layer ${at + 1}`;
  const number = layer.step !== null && steps[layer.step] ? `#${steps[layer.step].number} ` : "";
  return layer.instruction ? number + layer.instruction : `layer ${at + 1}`;
}

// Layers of the base have one colour, others have one each as long as there are any.
const COLOURS = 10;
let layerColour;

function colours() {
  let next = 0;
  const all = image ? image.layers.map((layer) => (layer.is_base === true ? "base" : `c${next++ % COLOURS}`)) : [];
  return (at) => all[at] || "base";
}

// A link to what is told of a step.
function stepLink(at, text) {
  return el("a", { href: `#step-${at}`, click: (event) => { event.preventDefault(); openStep(at); } }, text || `#${steps[at] ? steps[at].number : at + 1}`);
}

const dockerfileOf = (step) => {
  const of = record && record.targets[(step.target || 1) - 1];
  return of && of.dockerfile ? of.dockerfile : null;
};

// Lines of a Dockerfile with their numbers, those from `from` to `to` marked.
function snippet(text, from, to, around, mark) {
  const all = text.split("\n");
  const first = Math.max(1, from - around), last = Math.min(all.length, to + around, from + 60);
  const rows = [];
  for (let at = first; at <= last; at++) {
    const isMeant = at >= from && at <= to;
    rows.push(el("span", { class: isMeant ? "line meant" : "line" }, el("i", { "aria-hidden": "true" }, String(at)), all[at - 1] + "\n"));
    if (mark && at === from) rows.push(el("span", { class: "line mark", "aria-hidden": "true" }, el("i", {}, ""), " ".repeat(Math.min(200, mark[0] - 1)) + "^".repeat(Math.max(1, Math.min(200, mark[1]))) + "\n"));
  }
  return el("pre", { class: "snippet", tabindex: "0" }, rows);
}
