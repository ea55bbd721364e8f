// What is best told in rows: why steps ran, waste, growth, packages, materials, warnings.

const diff = (before, after) => [
  before !== null ? el("code", { class: "before" }, before) : el("span", { class: "nothing" }, "–"),
  el("span", { "aria-hidden": "true" }, " → "), el("span", { class: "unseen" }, " became "),
  after !== null ? el("code", { class: "after" }, after) : el("span", { class: "nothing" }, "–"),
];

function missesPart() {
  const own = data.misses.filter((miss) => miss.cause === null || !missed.has(miss.cause));
  own.sort((a, b) => b.took_ms + b.then_ms - (a.took_ms + a.then_ms));
  const changed = (miss) => {
    if (!miss.fields.length) return miss.why;
    const isTold = ([, before, after]) => before !== null || after !== null;
    const items = miss.fields.map((field) => el("li", {}, el("code", {}, field[0]), isTold(field) ? [": ", diff(field[1], field[2])] : " changed"));
    const more = miss.more ? el("li", {}, `and ${miss.more} more`) : null;
    return [el("span", {}, miss.why), items.length === 1 && !miss.fields.some(isTold) ? null : el("ul", { class: "fields" }, items, more)];
  };
  const then = (miss) => {
    if (!miss.then.length) return "–";
    return el("details", {}, el("summary", {}, `${count(miss.then.length, "step")}: ${duration(miss.then_ms)}`), el("ul", {}, miss.then.slice(0, 50).map((at) => el("li", {}, stepLink(at), " ", el("code", {}, steps[at].title), ` ${duration(ownTime(at))}`))));
  };
  const rows = own.map((miss) => [[stepLink(miss.step), " ", el("code", {}, steps[miss.step].title), el("br"), el("small", {}, lines(steps[miss.step].lines))], changed(miss), duration(miss.took_ms), then(miss), el("b", {}, duration(miss.took_ms + miss.then_ms))]);
  return [
    el("p", { class: "hint" }, view.last ? ["Compared with the last build of the same place, ", el("code", {}, view.last.id), ", ", when(view.last.started_ms), "."] : "Compared with what the cache had before."),
    table("Why steps ran again", [["Step", "text"], ["What changed", "text"], ["Took", "n"], ["Steps that ran because of it", "text"], ["Lost", "n"]], rows),
  ];
}

function wastePart() {
  const { score, wasted_bytes, paths } = image.efficiency;
  const rows = image.hidden.map((one) => [
    el("code", {}, layerName(one.by)), lines(image.layers[one.by].lines) || "–",
    [one.removed_bytes ? [`removes ${bytes(one.removed_bytes)}`] : null, one.removed_bytes && one.replaced_bytes ? ", " : "", one.replaced_bytes ? `replaces ${bytes(one.replaced_bytes)}` : null],
    [el("code", {}, layerName(one.of)), " ", el("small", {}, lines(image.layers[one.of].lines) || (image.layers[one.of].is_base ? "base" : ""))],
    el("ul", { class: "fields" }, one.examples.map(([path, size]) => el("li", {}, el("code", {}, `/${path}`), ` ${bytes(size)}`)), one.files > one.examples.length ? el("li", {}, count(one.files, "file")) : null),
  ]);
  const byLine = image.layers.map((layer, at) => [at, layer]).filter(([, layer]) => layer.wasted > 0).sort((a, b) => b[1].wasted - a[1].wasted);
  return [
    el("div", { class: "gauge" }, meter(score), el("p", {}, el("b", {}, `${(score * 100).toFixed(1)} %`), ` efficient, ${bytes(wasted_bytes)} wasted, as dive counts: all bytes of files that several layers have.`)),
    rows.length ? table("Bytes that ship and that nobody sees", [["Instruction", "text"], ["Dockerfile", ""], ["Hides", ""], ["What this brings", "text"], ["Mostly", "text"]], rows) : el("p", { class: "none" }, "No layer hides anything of another."),
    byLine.length ? inWords("What dive calls wasted, by instruction", () => table("Wasted by instruction", [["Instruction", "text"], ["Dockerfile", ""], ["Wasted", "n"]], byLine.map(([at, layer]) => [el("code", {}, layerName(at)), lines(layer.lines) || (layer.is_base ? "base" : "–"), bytes(layer.wasted)]))) : null,
    paths.length ? inWords(`The ${count(paths.length, "path")} that cost most`, () => table("Wasted paths", [["Path", "text"], ["All together", "n"], ["Layers", "text"]], paths.map((one) => [el("code", {}, `/${one.path}`), bytes(one.bytes), one.layers.map((at) => at + 1).join(", ")]))) : null,
  ];
}

function meter(share) {
  return svg("svg", { class: "meter", width: 160, height: 12, "aria-hidden": "true" }, svg("rect", { class: "rest", x: 0, y: 0, width: 160, height: 12, rx: 6 }), svg("rect", { class: "full", x: 0, y: 0, width: Math.max(0, Math.min(1, share)) * 160, height: 12, rx: 6 }));
}

// Lines over the builds of one place, this one last.
function trend(label, values, write) {
  const most = Math.max(...values, 1);
  const x = (at) => 6 + (188 * at) / Math.max(1, values.length - 1), y = (value) => 44 - (40 * value) / most;
  const path = values.map((value, at) => `${at ? "L" : "M"}${x(at)} ${y(value)}`).join("");
  const last = values.length - 1;
  return el("figure", { class: "trend" },
    svg("svg", { viewBox: "0 0 200 50", role: "img", "aria-label": `${label} of the last ${values.length} builds: ${values.map(write).join(", ")}` },
      svg("path", { class: "area", d: `${path}L${x(last)} 48L${x(0)} 48Z` }), svg("path", { class: "stroke", d: path }), svg("circle", { class: "dot", cx: x(last), cy: y(values[last]), r: 3 })),
    el("figcaption", {}, `${label}: ${write(values[last])}`, el("small", {}, ` ${values.length} builds, ${write(Math.min(...values))} to ${write(Math.max(...values))}`)));
}

function comparePart() {
  const last = view.last, made = target && target.made, took = record.took_ms;
  const ran = steps.map((_, at) => at).filter((at) => tookBefore.has(at) && Math.abs(ownTime(at) - tookBefore.get(at)) >= 50);
  ran.sort((a, b) => Math.abs(ownTime(b) - tookBefore.get(b)) - Math.abs(ownTime(a) - tookBefore.get(a)));
  const rows = [
    ["Time", last.took_ms !== null ? duration(last.took_ms) : "–", took !== null ? duration(took) : "–", took !== null && last.took_ms !== null ? change(took, last.took_ms, duration) : "–"],
    ["Steps that ran", String(last.ran), made ? String(made.ran) : "–", made ? change(made.ran, last.ran, whole) : "–"],
    ["Steps from the cache", String(last.cached), made ? String(made.cached) : "–", made ? change(made.cached, last.cached, whole) : "–"],
    ["Image, compressed", last.blob_bytes !== null ? bytes(last.blob_bytes) : "–", made ? bytes(made.layers_size) : "–", made && last.blob_bytes !== null ? change(made.layers_size, last.blob_bytes, bytes) : "–"],
  ];
  if (last.visible_bytes) rows.push(["Files that are seen", bytes(last.visible_bytes[0]), bytes(last.visible_bytes[1]), change(last.visible_bytes[1], last.visible_bytes[0], bytes)]);
  const all = [...view.earlier, { took_ms: took || 0, blob_bytes: made ? made.layers_size : null }];
  const sizes = all.map((one) => one.blob_bytes).filter((size) => size !== null);
  return [
    el("p", { class: "hint" }, "The last build of the same context, Dockerfile, stage and platforms that came to an end: ", el("code", {}, last.id), `, ${when(last.started_ms)}.`),
    all.length > 2 ? el("div", { class: "trends" }, trend("Time", all.map((one) => one.took_ms), duration), sizes.length > 1 ? trend("Image", sizes, bytes) : null) : null,
    table("This build and the last", [["", "text"], ["Before", "n"], ["Now", "n"], ["Change", "n"]], rows),
    last.growth.length ? [el("h3", {}, "Files that grew and shrank"), table("Files that grew and shrank", [["Where", "text"], ["Before", "n"], ["Now", "n"], ["Change", "n"], ["Brought by", "text"]],
      last.growth.map((one) => [el("code", {}, `/${one.path}${one.is_folder && one.path ? "/" : ""}`), bytes(one.before), bytes(one.after), el("b", { class: one.after > one.before ? "more" : "less" }, change(one.after, one.before, bytes)), one.layer !== null ? el("code", {}, layerName(one.layer)) : "–"]))]
      : el("p", { class: "none" }, last.no_growth ? `What changed in the files is not known: ${last.no_growth}.` : "No file has another size."),
    ran.length ? [el("h3", {}, "Steps that took longer or less"), table("Steps that took longer or less", [["Step", "text"], ["Before", "n"], ["Now", "n"], ["Change", "n"]], ran.slice(0, 30).map((at) => [[stepLink(at), " ", el("code", {}, steps[at].title)], duration(tookBefore.get(at)), duration(ownTime(at)), change(ownTime(at), tookBefore.get(at), duration)]))] : null,
  ];
}

function packagesPart() {
  return image.packages.map((one) => {
    const sums = [["+", one.added], ["~", one.changed], ["−", one.removed]].filter(([, n]) => n).map(([sign, n]) => `${sign}${n}`).join(" ");
    const box = inWords("", () => table("Packages", [["", ""], ["Name", "text"], ["Version", "text"], ["Was", "text"], ["Type", ""]], one.events.map(([sign, name, version, was, type]) => [el("b", { class: sign === "+" ? "more" : sign === "-" ? "less" : "" }, { "+": "added", "~": "changed", "-": "removed" }[sign]), el("code", {}, name), version, was || "–", type])));
    add(box.firstChild, [el("b", {}, sums), " ", el("code", {}, layerName(one.layer)), el("small", {}, ` ${lines(image.layers[one.layer].lines)}`)]);
    const left = one.added + one.changed + one.removed - one.events.length;
    if (left > 0) box.append(el("p", { class: "hint" }, `${left} more are not in this page: rbuild sbom --by-step`));
    return box;
  });
}

function materialsPart() {
  const kinds = { image: "image", "local-image": "local image", git: "git", http: "file" };
  return table("Materials", [["Kind", ""], ["Name", "text"], ["Digest", "text"], ["Platform", ""]], record.materials.map((one) => [kinds[one.kind] || one.kind, el("code", {}, one.name), one.digest ? el("code", { class: "whole" }, one.digest) : "–", one.platform || "–"]));
}

function message(one, kind) {
  const place = one.place;
  const file = place && record.targets.map((of) => of.dockerfile).find((of) => of && of.name === place.file && of.text);
  const mark = place && place.line === place.end_line ? [place.column, place.end_column - place.column] : null;
  return el("article", { class: `message ${kind}` },
    el("h3", {}, kind === "error" ? "error: " : "warning: ", prose(one.text), one.code ? el("small", {}, ` ${one.code}`) : null),
    place ? el("p", { class: "hint" }, `${place.file}:${place.line}:${place.column}`) : null,
    file ? snippet(file.text, place.line, place.end_line, 1, mark) : null,
    (one.notes || []).map((note) => el("p", {}, "note: ", prose(note))),
    (one.help || []).map((help) => el("p", {}, "help: ", prose(help))));
}

// The Dockerfile, with what each instruction took and brought beside it.
function dockerfilePart() {
  const text = target.dockerfile.text.split("\n");
  const cost = new Map(), needed = stepsOfTarget();
  // What targets of one Dockerfile share is done once, for the first of them.
  const isOfFile = (step) => record.targets[step.target - 1]?.dockerfile.digest === target.dockerfile.digest;
  steps.forEach((step, at) => {
    if (!step.lines || !needed.has(at) || !isOfFile(step) || step.title.startsWith("ONBUILD ")) return;
    const own = cost.get(step.lines[0]) || { ms: 0, size: 0, at, cached: true, end: step.lines[1] };
    own.ms += ranAtAll(at) ? ownTime(at) : 0;
    own.cached = own.cached && step.outcome === "cached";
    if (layerOf.has(at)) own.size += image.layers[layerOf.get(at)].bytes;
    cost.set(step.lines[0], own);
  });
  const most = { ms: Math.max(1, ...[...cost.values()].map((one) => one.ms)), size: Math.max(1, ...[...cost.values()].map((one) => one.size)) };
  const meterOf = (value, whole, kind, words) => el("span", { class: `cost ${kind}` }, value ? [svg("svg", { width: 40, height: 10, "aria-hidden": "true" }, svg("rect", { x: 0, y: 1, width: Math.max(1, (40 * value) / whole), height: 8, rx: 1 })), words] : "");
  const rows = text.slice(0, 3000).map((line, at) => {
    const own = cost.get(at + 1);
    return el("tr", { class: own ? "first" : "" },
      el("td", { class: "n" }, own ? stepLink(own.at, String(at + 1)) : String(at + 1)),
      el("td", {}, own ? meterOf(own.ms, most.ms, "ms", own.ms ? duration(own.ms) : "") : "", own && !own.ms && own.cached ? el("small", {}, "cached") : ""),
      el("td", {}, own ? meterOf(own.size, most.size, "size", bytes(own.size)) : ""),
      el("td", { class: "source" }, line || " "));
  });
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Dockerfile with costs" }, el("table", { class: "dockerfile" },
    el("thead", {}, el("tr", {}, ["Line", "Took", "Brought", target.dockerfile.name].map((name) => el("th", { scope: "col" }, name)))), el("tbody", {}, rows)));
}
