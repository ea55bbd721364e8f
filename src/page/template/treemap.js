// The files of an image as rectangles: layer, folder, file. Rectangles are as square as they go (Bruls, Huizing, van Wijk, "Squarified
// treemaps", 2000).

const MODES = [
  ["bytes", "Uncompressed", "Bytes of files, as they lie on disk"],
  ["blob", "Compressed", "The share of each file in the blob of its layer, by its size: what is pulled and pushed"],
  ["unique", "Only this image's", "Layers that neither the base nor another image in the store has"],
];

// Places `items` ({value}) in a rectangle; gives each with x, y, w, h.
function squarify(items, x, y, w, h) {
  const placed = [];
  let left = items.filter((item) => item.value > 0);
  let sum = left.reduce((total, item) => total + item.value, 0);
  while (left.length && w > 0 && h > 0) {
    const side = Math.min(w, h), scale = (w * h) / sum;
    let row = 1, used = left[0].value;
    const worst = (n, value) => {
      const thick = (value * scale) / side;
      const largest = (left[0].value * scale) / thick, smallest = (left[n - 1].value * scale) / thick;
      return Math.max(thick / smallest, smallest / thick, thick / largest, largest / thick);
    };
    while (row < left.length && worst(row + 1, used + left[row].value) <= worst(row, used)) used += left[row++].value;
    const thick = (used * scale) / side;
    let at = 0;
    for (const item of left.slice(0, row)) {
      const length = (item.value / used) * side;
      placed.push(w >= h ? { ...item, x, y: y + at, w: thick, h: length } : { ...item, x: x + at, y, w: length, h: thick });
      at += length;
    }
    if (w >= h) { x += thick; w -= thick; } else { y += thick; h -= thick; }
    sum -= used;
    left = left.slice(row);
  }
  return placed;
}

const hasTitle = (spot) => spot.w > 34 && spot.h > 34;

const treemap = {
  mode: "bytes",
  path: [],
  box: null,
  shapes: [],

  // The whole image, with what each layer weighs in each mode.
  root: null,
  grow() {
    const all = image.layers.map((layer, at) => {
      const ratio = layer.bytes > 0 ? layer.blob_bytes / layer.bytes : 0;
      const node = ([name, size, files, hidden, kind, children], above) => {
        const full = above + name + (kind === "d" && name ? "/" : "");
        return { name, full, bytes: size, blob: size * ratio, unique: layer.is_unique ? size : 0, files, hidden, kind, layer: at, children: children.map((child) => node(child, full)) };
      };
      if (layer.tree) {
        // Its root may be a folder that holds all there is.
        const [name, size, files, hidden, kind, children] = layer.tree;
        const tree = node(["", size, files, hidden, kind, children], name ? `/${name}/` : "/");
        // A layer of empty files still has a blob.
        return { ...tree, name: layerName(at), kind: "layer", blob: layer.blob_bytes };
      }
      return { name: layerName(at), full: "", bytes: 0, blob: layer.blob_bytes, unique: 0, files: 0, hidden: 0, kind: "layer", layer: at, children: [] };
    });
    const sum = (of) => all.reduce((total, node) => total + node[of], 0);
    treemap.root = { name: "all layers", full: "", kind: "image", bytes: sum("bytes"), blob: sum("blob"), unique: sum("unique"), files: sum("files"), hidden: sum("hidden"), children: all, layer: null };
  },

  part() {
    treemap.grow();
    treemap.path = [];
    treemap.mode = "bytes";
    const modes = MODES.filter(([mode]) => mode !== "unique" || image.layers.some((layer) => !layer.is_unique));
    treemap.box = el("div", { class: "map" });
    treemap.crumbs = el("nav", { class: "crumbs", "aria-label": "Folder that is shown" });
    treemap.words = el("div", {});
    const parts = [
      el("div", { class: "bar" }, choice("What sizes are", modes, "bytes", (mode) => { treemap.mode = mode; treemap.draw(); }), treemap.crumbs),
      treemap.box,
      el("p", { class: "hint" }, "A click or Enter opens a folder, Escape closes it; arrows go from one to the next, and in and out. Striped files ship, but a later layer hides them."),
      el("details", { class: "words" }, el("summary", {}, "This folder as a table"), treemap.words),
      treemap.legend(),
    ];
    new ResizeObserver(() => treemap.draw()).observe(treemap.box);
    return parts;
  },

  here() {
    return treemap.path.length ? treemap.path[treemap.path.length - 1] : treemap.root;
  },

  show(path) {
    treemap.path = path;
    treemap.draw();
    const first = treemap.box.querySelector("[tabindex='0']");
    if (first && treemap.box.contains(document.activeElement)) first.focus();
  },

  draw() {
    const width = treemap.box.clientWidth, height = width < 600 ? 340 : 460;
    if (width < 10) return;
    const focused = treemap.box.contains(document.activeElement);
    const here = treemap.here();
    treemap.shapes = [];
    const picture = svg("svg", { width, height, role: "group", "aria-label": `Treemap of ${here.kind === "layer" ? here.name : here.full || here.name}: ${bytes(here[treemap.mode])}` },
      svg("defs", {}, svg("pattern", { id: "gone", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" }, svg("rect", { class: "stripe", width: 2.5, height: 6 }))));
    treemap.place(here.children.length ? here.children : [here], 0, 0, width, height, picture, treemap.path, 0);
    treemap.box.replaceChildren(picture);
    if (here[treemap.mode] <= 0) treemap.box.append(el("p", { class: "none" }, "Nothing has a size here."));
    if (treemap.shapes.length) treemap.shapes[0].element.setAttribute("tabindex", "0");
    if (focused && treemap.shapes.length) treemap.shapes[0].element.focus();
    treemap.crumbs.replaceChildren(...treemap.trail());
    treemap.words.replaceChildren(treemap.table());
  },

  place(nodes, x, y, w, h, into, path, depth) {
    const items = nodes.map((node) => ({ node, value: node[treemap.mode] })).sort((a, b) => b.value - a.value);
    for (const spot of squarify(items, x, y, w, h)) {
      const { node } = spot;
      if (spot.w < 1.5 || spot.h < 1.5) continue;
      const isDeep = node.children.length > 0 && spot.w > 24 && spot.h > 26 && depth < 12;
      const group = treemap.shape(spot, isDeep, depth, path);
      into.append(group);
      if (isDeep) {
        const title = hasTitle(spot) ? 17 : 3;
        treemap.place(node.children, spot.x + 2, spot.y + title, spot.w - 4, spot.h - title - 2, into, [...path, node], depth + 1);
      }
    }
  },

  shape(spot, isDeep, depth, path) {
    const { node, x, y, w, h } = spot;
    const words = `${node.kind === "layer" ? node.name : node.kind === "r" ? `${count(node.files, "smaller file")} in ${node.full}` : node.full}, ${bytes(Math.round(node[treemap.mode]))}`;
    const name = node.kind === "r" ? "…" : node.kind === "d" ? `${node.name}/` : node.name;
    const group = svg("g", { class: `node ${layerColour(node.layer)} depth${Math.min(depth, 4)} ${node.kind}`, tabindex: "-1", role: "button", "aria-label": words },
      svg("rect", { class: "file", x: x + 0.5, y: y + 0.5, width: Math.max(0, w - 1), height: Math.max(0, h - 1), rx: 2 }));
    if (!isDeep && node.hidden > 0 && node.hidden >= node.bytes / 2) group.append(svg("rect", { class: "gone", x: x + 0.5, y: y + 0.5, width: Math.max(0, w - 1), height: Math.max(0, h - 1), fill: "url(#gone)" }));
    const room = Math.floor((w - 8) / 6.4);
    if (room >= 3 && h > 15 && (!isDeep || hasTitle(spot))) {
      const size = bytes(Math.round(node[treemap.mode]));
      const whole = `${name} ${size}`;
      const text = whole.length <= room ? whole : name.length <= room ? name : `${name.slice(0, room - 1)}…`;
      group.append(svg("text", { x: x + 5, y: y + 13 }, text));
    }
    const at = treemap.shapes.length;
    treemap.shapes.push({ element: group, node, depth, path });
    tip.on(group, () => treemap.tip(node));
    group.addEventListener("click", () => { group.focus(); treemap.enter(node, path); });
    group.addEventListener("keydown", (event) => treemap.key(event, at));
    return group;
  },

  tip(node) {
    const layer = image.layers[node.layer];
    const name = node.kind === "layer" ? `layer ${node.layer + 1}${node.full.length > 1 ? `, all in ${node.full}` : ""}` : node.kind === "r" ? `${node.full}…` : node.full;
    const parts = [`${bytes(node.bytes)}, compressed about ${bytes(Math.round(node.blob))}, ${count(node.files, "file")}`];
    if (node.hidden > 0) parts.push(`${bytes(node.hidden)} of it hidden by later layers`);
    if (layer.absent) parts.push(`its files are not known: ${layer.absent}`);
    return [el("b", {}, name), el("br"), parts.join("; "), el("br"), el("code", {}, `${layerName(node.layer)} ${layer.lines ? `(${lines(layer.lines)})` : ""}`)];
  },

  enter(node, path) {
    if (node.children.length) treemap.show([...path, node]);
    else if (path.length > treemap.path.length) treemap.show(path);
  },

  key(event, at) {
    const all = treemap.shapes, own = all[at];
    const near = (step) => {
      for (let n = at + step; n >= 0 && n < all.length; n += step) {
        if (all[n].depth < own.depth) return -1;
        if (all[n].depth === own.depth) return n;
      }
      return -1;
    };
    let next = -1;
    if (event.key === "ArrowRight") next = near(1);
    else if (event.key === "ArrowLeft") next = near(-1);
    else if (event.key === "ArrowDown") next = all[at + 1] && all[at + 1].depth > own.depth ? at + 1 : -1;
    else if (event.key === "ArrowUp") { for (let n = at - 1; n >= 0 && next < 0; n--) if (all[n].depth < own.depth) next = n; }
    else if (event.key === "Enter" || event.key === " ") treemap.enter(own.node, own.path);
    else if (event.key === "Escape") { if (treemap.path.length) treemap.show(treemap.path.slice(0, -1)); }
    else return;
    event.preventDefault();
    if (next >= 0) {
      own.element.setAttribute("tabindex", "-1");
      all[next].element.setAttribute("tabindex", "0");
      all[next].element.focus();
    }
  },

  trail() {
    const all = [treemap.root, ...treemap.path];
    return all.map((node, at) => {
      const name = node.kind === "layer" ? node.name.slice(0, 40) : node.name || "/";
      const path = treemap.path.slice(0, at);
      if (at === all.length - 1) return el("b", { "aria-current": "location" }, name, ` ${bytes(Math.round(node[treemap.mode]))}`);
      return el("span", {}, el("button", { type: "button", click: () => treemap.show(path) }, name), " › ");
    });
  },

  table() {
    const here = treemap.here(), whole = here[treemap.mode];
    const nodes = [...here.children].sort((a, b) => b[treemap.mode] - a[treemap.mode]).slice(0, 200);
    const name = (node) => {
      const text = node.kind === "r" ? count(node.files, "smaller file") : node.kind === "d" ? `${node.name}/` : node.name;
      return node.children.length ? el("button", { type: "button", class: "link", click: () => treemap.show([...treemap.path, node]) }, text) : el("code", {}, text);
    };
    const rows = nodes.map((node) => [name(node), bytes(Math.round(node[treemap.mode])), percent(node[treemap.mode], whole), node.files.toLocaleString("en"), node.hidden ? bytes(node.hidden) : "–"]);
    return table(`What is in ${here.full || here.name}`, [["Name", "text"], ["Size", "n"], ["Share", "n"], ["Files", "n"], ["Hidden later", "n"]], rows);
  },

  legend() {
    const rows = image.layers.map((layer, at) => [
      [svg("svg", { class: `swatch ${layerColour(at)}`, width: 14, height: 12, "aria-hidden": "true" }, svg("rect", { class: "file", x: 0, y: 1, width: 14, height: 10, rx: 2 })), ` ${at + 1}`],
      el("button", { type: "button", class: "link", click: () => { treemap.show([treemap.root.children[at]]); treemap.box.scrollIntoView({ block: "center" }); } }, layerName(at)),
      lines(layer.lines),
      layer.absent ? el("span", { title: layer.absent }, "not here") : bytes(layer.bytes),
      bytes(layer.blob_bytes),
      layer.files.toLocaleString("en"),
      layer.hidden ? bytes(layer.hidden) : "–",
      layer.is_base ? "base" : layer.shared_with.length ? layer.shared_with.join(", ") : "–",
    ]);
    return el("div", {}, el("h3", {}, "Layers"), table("Layers", [["", ""], ["Instruction", "text"], ["Dockerfile", ""], ["Uncompressed", "n"], ["Compressed", "n"], ["Files", "n"], ["Hidden later", "n"], ["Shared with", "text"]], rows));
  },
};
