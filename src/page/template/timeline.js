// When steps ran: a row for each, with what it waited for, and below it all that is known of the step.

const ticks = (total) => {
  const wanted = total / 6;
  const power = 10 ** Math.floor(Math.log10(Math.max(1, wanted)));
  const unit = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= wanted) || power;
  const found = [];
  for (let at = 0; at <= total && found.length < 20; at += unit) found.push(at);
  return found;
};

const timeline = {
  rows: new Map(),
  list: null,
  shown: "ran",

  part() {
    const total = Math.max(1, data.timeline.total_ms);
    const ran = steps.filter((_, at) => ranAtAll(at)).length;
    timeline.shown = ran === 0 ? "all" : "ran";
    timeline.list = el("ol", { class: "rows" });
    const options = [["critical", "Critical path", "The chain of steps that the build waited for"], ["ran", `Those that ran (${ran})`, ""], ["all", `All (${steps.length})`, ""]];
    timeline.fill(total);
    return [
      choice("Steps that are shown", options, timeline.shown, (value) => { timeline.shown = value; timeline.fill(total); }),
      el("p", { class: "key" },
        [["critical", "critical path"], ["ran", "ran"], ["cached", "cached"], ["failed", "failed"], ["waiting", "waited"]].map(([kind, text]) => el("span", {}, swatch(kind), text))),
      el("div", { class: "axis", "aria-hidden": "true" }, el("span", { class: "label" }), timeline.axis(total), el("span", { class: "time" })),
      timeline.list,
      timeline.path(),
      slots.part(total),
      inWords("All steps as a table", timeline.table),
    ];
  },

  axis(total) {
    return svg("svg", { class: "track", height: 16 }, ticks(total).map((at) => svg("text", { x: `${(100 * at) / total}%`, y: 12, "text-anchor": at === 0 ? "start" : at / total > 0.95 ? "end" : "middle" }, duration(at))));
  },

  isShown(at) {
    if (!bars.has(at)) return timeline.shown === "all" && steps.length <= 60 && steps[at].outcome !== "config-only";
    if (timeline.shown === "critical") return critical.has(at);
    return timeline.shown === "all" || ranAtAll(at);
  },

  fill(total) {
    timeline.rows.clear();
    const order = steps.map((_, at) => at).filter((at) => timeline.isShown(at));
    order.sort((a, b) => (bars.get(a) ? bars.get(a).start : Infinity) - (bars.get(b) ? bars.get(b).start : Infinity) || a - b);
    timeline.list.replaceChildren(...order.map((at) => timeline.row(at, total)));
    if (order.length === 0) timeline.list.append(el("li", { class: "none" }, "No step had begun."));
  },

  row(at, total) {
    const step = steps[at], bar = bars.get(at);
    const panel = el("div", { class: "panel", id: `panel-${at}`, hidden: true });
    const words = bar ? duration(bar.end - bar.work) : outcome(at);
    const button = el("button", { type: "button", class: "row", id: `step-${at}`, "aria-expanded": "false", "aria-controls": `panel-${at}` },
      el("span", { class: "label" }, el("b", {}, `#${step.number}`), " ", step.place ? el("i", {}, step.place) : null, " ", step.title),
      timeline.track(at, total),
      el("span", { class: "time" }, words, el("span", { class: "unseen" }, ` ${outcome(at)}${critical.has(at) ? ", on the critical path" : ""}`)));
    const toggle = (open) => {
      panel.hidden = !open;
      button.setAttribute("aria-expanded", String(open));
      if (open && !panel.firstChild) add(panel, [stepFacts(at)]);
    };
    button.addEventListener("click", () => toggle(panel.hidden));
    tip.on(button, () => [el("b", {}, stepName(at)), el("br"), timeline.summary(at)]);
    const item = el("li", {}, button, panel);
    timeline.rows.set(at, { item, toggle, button });
    return item;
  },

  summary(at) {
    const bar = bars.get(at);
    if (!bar) return "It was not begun.";
    const parts = [outcome(at), `from ${duration(bar.start)} to ${duration(bar.end)}`];
    const waited = waits(at).map(([what, ms]) => `waited ${duration(ms)} for ${what}`);
    return [...parts, ...waited].join(" · ");
  },

  track(at, total) {
    const bar = bars.get(at);
    const x = (value) => `${(100 * Math.min(value, total)) / total}%`;
    const width = (from, to) => `${(100 * Math.max(0, Math.min(to, total) - from)) / total}%`;
    const shapes = ticks(total).map((tick) => svg("line", { class: "grid", x1: x(tick), x2: x(tick), y1: 0, y2: 20 }));
    if (bar) {
      const kind = steps[at].outcome === "failed" ? "failed" : critical.has(at) && steps[at].outcome === "ran" ? "critical" : steps[at].outcome || "cancelled";
      if (bar.work > bar.ready && ranAtAll(at)) shapes.push(svg("rect", { class: "waiting", x: x(bar.ready), y: 7, width: width(bar.ready, bar.work), height: 6, rx: 1 }));
      // However short it was, it is to be seen.
      shapes.push(svg("rect", { class: kind, x: x(bar.work), y: 3, width: width(bar.work, bar.end), height: 14, rx: 2 }));
      shapes.push(svg("rect", { class: kind, x: x(bar.work), y: 3, width: 2, height: 14, rx: 1 }));
    }
    return svg("svg", { class: "track", height: 20, "aria-hidden": "true" }, shapes);
  },

  path() {
    const links = data.timeline.critical.filter((link) => link.took_ms > 0 || link.waited_ms > 0);
    if (links.length === 0) return null;
    const total = data.timeline.total_ms;
    const rows = links.map((link) => [stepLink(link.step), steps[link.step].title, outcome(link.step), duration(link.waited_ms), duration(link.took_ms), percent(link.took_ms, total), link.saves_ms ? duration(link.saves_ms) : "–"]);
    return el("details", { class: "words", open: links.length <= 8 }, el("summary", {}, `The critical path: ${count(links.length, "step")} worked ${duration(data.timeline.critical_ms)} of ${duration(total)}`),
      el("p", { class: "hint" }, "Each of these began because the one before it had ended. Whatever makes one of them shorter makes the build shorter, until another chain is the longest: “sooner” says by how much, had the cache had it."),
      table("Critical path", [["#", ""], ["Step", "text"], ["", ""], ["Waited", "n"], ["Took", "n"], ["Of the build", "n"], ["Sooner", "n"]], rows));
  },

  table() {
    const rows = steps.map((step, at) => {
      const bar = bars.get(at);
      const waited = waits(at).reduce((sum, [, ms]) => sum + ms, 0);
      return [stepLink(at), el("code", {}, `${step.place || ""} ${step.title}`.trim()), lines(step.lines), outcome(at), bar ? duration(bar.start) : "–", waited ? duration(waited) : "–", bar ? duration(ownTime(at)) : "–", step.usage ? duration(step.usage.user_ms + step.usage.system_ms) : "–", step.usage ? bytes(step.usage.peak_memory) : "–"];
    });
    return table("All steps", [["#", ""], ["Step", "text"], ["Dockerfile", ""], ["", ""], ["Began at", "n"], ["Waited", "n"], ["Took", "n"], ["Processor", "n"], ["Memory", "n"]], rows);
  },
};

function swatch(kind) {
  return svg("svg", { class: "swatch", width: 14, height: 12, "aria-hidden": "true" }, svg("rect", { class: kind, x: 0, y: 1, width: 14, height: 10, rx: 2 }));
}

// What a step waited for when all that it needed was done, with milliseconds.
function waits(at) {
  const { slot_ms = 0, lock_ms = 0, transfer_ms = 0 } = steps[at].waited || {};
  return [["a free slot", slot_ms], ["what it stands on to be fetched and unpacked", transfer_ms], ["a cache mount that another step held", lock_ms]].filter(([, ms]) => ms > 0);
}

// Shows a step in the timeline, wherever somebody asked for it.
function openStep(at) {
  if (!timeline.rows.has(at) && timeline.list) {
    timeline.shown = "all";
    timeline.fill(Math.max(1, data.timeline.total_ms));
    document.querySelectorAll("#time .choice button").forEach((button, n) => button.setAttribute("aria-pressed", n === 2 ? "true" : "false"));
  }
  const row = timeline.rows.get(at);
  if (!row) return;
  row.toggle(true);
  row.button.focus({ preventScroll: true });
  row.item.scrollIntoView({ block: "center" });
}

// All that is known of a step.
function stepFacts(at) {
  const step = steps[at], bar = bars.get(at), facts = [];
  const fact = (name, ...value) => facts.push(el("dt", {}, name), el("dd", {}, value));
  const needed = (step.needs || []).map((number) => number - 1).filter((n) => steps[n]);
  fact("Outcome", outcome(at), step.platform ? ` · ${step.platform}` : "");
  if (bar) fact("Time", `${duration(ownTime(at))} of its own, from ${duration(bar.work)} to ${duration(bar.end)}`, tookBefore.has(at) ? ` (${change(ownTime(at), tookBefore.get(at), duration)} against the last build)` : "");
  const last = needed.filter((n) => bars.has(n)).sort((a, b) => bars.get(b).end - bars.get(a).end)[0];
  const waited = waits(at).map(([what, ms]) => el("li", {}, `${duration(ms)} for ${what}`));
  if (last !== undefined) waited.unshift(el("li", {}, "for ", stepLink(last), ` until ${duration(bars.get(last).end)}`));
  if (waited.length) fact("Waited", el("ul", {}, waited));
  if (needed.length) fact("Needed", needed.slice(0, 30).map((n) => [stepLink(n), " "]), needed.length > 30 ? `and ${needed.length - 30} more` : "");
  const link = critical.get(at);
  if (link) fact("Critical path", link.saves_ms ? `yes: cached, the build would have ended ${duration(link.saves_ms)} sooner` : "yes");
  if (step.missed) fact("Ran again", `because ${step.missed}`);
  if (step.usage) {
    const { user_ms, system_ms, peak_memory, read, written, network } = step.usage;
    fact("Command", `${duration(user_ms + system_ms)} of processors · ${bytes(peak_memory)} of memory · ${bytes(read)} read from and ${bytes(written)} written to disks${network ? ` · ${bytes(network.received)} from the network, ${bytes(network.sent)} to it` : ""}`);
  }
  if (step.files) fact("Files", `${step.files.added} added, ${step.files.changed} changed, ${step.files.removed} removed`);
  if (step.layer) fact("Layer", bytes(step.layer.size), " compressed, ", digest(step.layer.digest));
  const moved = step.transfers || [];
  if (moved.length) fact("Transfers", el("ul", {}, moved.slice(0, 20).map((one) => el("li", {}, `${one.what}: ${bytes(one.bytes)}, ${duration(one.started_ms)} to ${duration(one.ended_ms)}`))), moved.length > 20 ? `and ${moved.length - 20} more` : "");
  if (step.key) fact("Key", el("code", { class: "digest", title: step.key }, step.key.slice(0, 12)));
  const file = dockerfileOf(step);
  const place = step.lines && file && file.text && !step.title.startsWith("ONBUILD ") ? snippet(file.text, step.lines[0], step.lines[1], 1) : el("pre", { class: "snippet", tabindex: "0" }, step.title);
  return [place, el("dl", { class: "facts" }, facts)];
}
