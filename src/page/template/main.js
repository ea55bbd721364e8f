// Puts the page together.

const statusWords = { completed: "completed", failed: "failed", canceled: "stopped", killed: "killed", running: "not ended" };

function head() {
  const about = [];
  if (record) {
    about.push(el("span", { class: `status ${record.status}` }, statusWords[record.status] || record.status), when(record.started_ms), ["build ", el("code", {}, record.id)]);
    if (target && target.platforms.length) about.push(target.platforms.join(", "));
  } else if (image && image.created) about.push(`created ${image.created.slice(0, 16).replace("T", " ")}`);
  if (image) about.push(["image ", digest(image.digest)]);
  if (image && !record) about.push(image.platform);
  if (image && image.names.length) about.push(image.names.slice(0, 5).join(", "));
  const theme = el("button", { type: "button", class: "quiet" }, "Dark or light");
  theme.addEventListener("click", () => {
    const root = document.documentElement;
    const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = isDark ? "light" : "dark";
  });
  const tools = el("div", { class: "tools" }, theme, record ? el("button", { type: "button", class: "quiet", id: "save", click: save }, "Save record as JSON") : null);
  const names = data.views.map((one, at) => [at, (record && record.targets[one.target] && record.targets[one.target].name) || `target ${one.target + 1}`]);
  const others = names.length < 2 ? null : el("div", { class: "targets" }, el("span", {}, "Image of target"), choice("Target whose image is shown", names, data.views.indexOf(view), (at) => { choose(at); show(); document.querySelector(".targets [aria-pressed=true]").focus(); }));
  document.getElementById("head").replaceChildren();
  add(document.getElementById("head"), [
    el("div", { class: "brand" }, "rbuild ", record ? "build report" : "image report"), tools,
    el("h1", {}, data.title || (record ? record.id : short(image && image.digest))),
    el("p", { class: "about" }, about.map((part, at) => [at ? " · " : "", part])),
    others,
    figures(),
  ]);
}

function figure(name, value, small, kind) {
  return el("div", { class: `figure ${kind || ""}` }, el("dt", {}, name), el("dd", {}, el("b", {}, value), small ? el("small", {}, small) : null));
}

const since = (now, before, write) => (now === before ? "as the last build" : `${change(now, before, write)} since the last build`);

function figures() {
  const all = [], last = view.last, made = target && target.made;
  if (record) {
    const before = last && last.took_ms !== null && record.took_ms !== null ? since(record.took_ms, last.took_ms, duration) : "";
    all.push(figure("Time", record.took_ms !== null ? duration(record.took_ms) : "not ended", before, "time"));
    const done = (kind) => steps.filter((step) => step.outcome === kind).length;
    const cached = made ? made.cached : done("cached"), ran = made ? made.ran : done("ran") + done("failed");
    all.push(figure("Steps", `${ran} ran`, `${cached} from the cache${data.views.length > 1 ? ", for this target" : ""}`));
  }
  if (image) {
    const before = last && last.blob_bytes !== null && made ? since(made.layers_size, last.blob_bytes, bytes) : `${count(image.layers.length, "layer")}`;
    all.push(figure("Image, compressed", bytes(image.blob_bytes), before, "size"));
    const unknown = image.layers.some((layer) => layer.absent);
    all.push(figure("Uncompressed", (unknown ? "≥ " : "") + bytes(image.bytes), count(image.visible_files, "file")));
    all.push(figure("Wasted", bytes(image.efficiency.wasted_bytes), `${(image.efficiency.score * 100).toFixed(1)} % efficient`));
  }
  return el("dl", { class: "figures" }, all);
}

function save() {
  const url = URL.createObjectURL(new Blob([JSON.stringify(record, null, 2) + "\n"], { type: "application/json" }));
  el("a", { href: url, download: `rbuild-${record.id.replace(/[^a-z0-9]/gi, "")}.json` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}

function findingsPart() {
  const names = { failure: "Failed", time: "Time", cache: "Cache", size: "Size", waste: "Waste" };
  return el("ul", { class: "findings" }, view.findings.map((one) => el("li", { class: one.kind },
    el("span", { class: "kind" }, names[one.kind] || one.kind),
    el("div", {}, el("p", {}, prose(one.what), "."), one.advice ? el("p", { class: "advice" }, "→ ", prose(one.advice), ".") : null),
    one.step !== null && steps[one.step] ? stepLink(one.step, [el("span", { class: "unseen" }, "Show "), "step ", String(steps[one.step].number)]) : null)));
}

function aboutPart() {
  const facts = [], fact = (name, value) => value && facts.push(el("dt", {}, name), el("dd", {}, value));
  if (record) {
    const { platform, kernel, processors, memory_bytes } = record.machine;
    fact("Machine", `${platform}, Linux ${kernel}, ${count(processors, "processor")}, ${bytes(memory_bytes)} of memory`);
    fact("rbuild", record.rbuild);
    fact("Commands ran as", record.runs_as);
    for (const one of record.targets) {
      const of = record.targets.length > 1 ? ` of ${one.name}` : "";
      fact(`Context${of}`, one.context.at ? el("code", {}, one.context.at) : one.context.kind);
      const repository = one.context.repository;
      if (one.context.commit || (repository && repository.commit)) fact(`Commit${of}`, el("code", {}, one.context.commit || repository.commit));
      fact(`Dockerfile${of}`, [el("code", {}, one.dockerfile.path || one.dockerfile.name), " ", one.dockerfile.digest ? digest(one.dockerfile.digest) : ""]);
      fact(`Stage${of}`, one.stage);
      fact(`Build arguments${of}`, (one.arguments || []).map((argument) => (argument.value !== undefined && argument.value !== null ? `${argument.name}=${argument.value}` : argument.name)).join(", "));
      fact(`Secrets${of}`, (one.secrets || []).join(", "));
      fact(`Options${of}`, Object.entries(one.attributes || {}).map(([name, value]) => (value ? `${name}=${value}` : name)).join(", "));
      fact(`Names${of}`, (one.names || []).join(", "));
      fact(`Outputs${of}`, (one.outputs || []).join(", "));
      if (one.made) fact(`Digest${of}`, el("code", { class: "whole" }, one.made.digest));
    }
    if (record.notes && record.notes.length) fact("Notes", el("ul", {}, record.notes.map((note) => el("li", {}, prose(note)))));
  }
  if (image) {
    fact("Manifest", el("code", { class: "whole" }, image.digest));
    fact("Platform", image.platform + (image.other_platforms.length ? ` (also ${image.other_platforms.join(", ")}: --platform shows these)` : ""));
    if (image.empty_steps.length && !record) fact("Configuration", el("ul", { class: "fields" }, image.empty_steps.map(([, text]) => el("li", {}, el("code", {}, text)))));
  }
  return el("dl", { class: "facts" }, facts);
}

function parts() {
  const all = [];
  const part = (id, title, build, note) => all.push({ id, title, build, note });
  if (view.findings.length) part("findings", "What stands out", findingsPart);
  if (record && record.errors && record.errors.length) part("errors", "Why it failed", () => record.errors.map((one) => message(one, "error")));
  if (steps.length) part("time", "Time", timeline.part);
  if (data.misses.length) part("cache", "Why steps ran again", missesPart);
  if (target && target.dockerfile.text) part("dockerfile", "Dockerfile", dockerfilePart);
  if (image) {
    part("size", "What makes the image big", treemap.part);
    part("waste", "What ships and nobody sees", wastePart);
  } else if (view.no_image && (!record || record.status === "completed")) part("size", "What makes the image big", () => el("p", { class: "none" }, `Nothing is known of the files: ${view.no_image}.`));
  if (view.last) part("compare", "Since the last build", comparePart);
  if (image && image.packages.length) part("packages", "Packages by step", packagesPart);
  else if (image && image.no_packages) part("packages", "Packages by step", () => el("p", { class: "none" }, `Packages are not known: ${image.no_packages}.`));
  if (record && record.materials.length) part("materials", "Materials", materialsPart);
  const warnings = (record && record.warnings) || [];
  if (warnings.length) part("warnings", `Warnings (${warnings.length})`, () => warnings.map((one) => message(one, "warning")));
  part("about", "About", aboutPart);
  return all;
}

// The page, of the target that was chosen.
function show() {
  head();
  const main = document.getElementById("main"), list = el("ul", {});
  main.replaceChildren();
  for (const { id, title, build } of parts()) {
    const section = el("section", { id, "aria-labelledby": `${id}-title` }, el("h2", { id: `${id}-title` }, title));
    main.append(section);
    list.append(el("li", {}, el("a", { href: `#${id}` }, title)));
    // A record may say what nobody thought of: then one part is missing, and not the page.
    try {
      add(section, [build()]);
    } catch (error) {
      console.error(error);
      add(section, [el("p", { class: "none" }, "This part cannot be shown.")]);
    }
  }
  document.getElementById("nav").replaceChildren(list);
}

choose(data.shown);
show();
add(document.getElementById("foot"), [`Made by rbuild ${data.rbuild}. This page asks nothing of any server.`]);
document.addEventListener("keydown", (event) => event.key === "Escape" && tip.hide());
