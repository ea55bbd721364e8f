// Makes elements. Whatever builds and images say becomes text nodes and attributes, never markup; characters that show nothing, or turn
// the direction of writing, are written out.

const SVG = "http://www.w3.org/2000/svg";
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

function seen(text) {
  return String(text).replace(UNSEEN, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);
}

function make(space, name, attributes, children) {
  const element = space ? document.createElementNS(space, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(key, value);
    else element.setAttribute(key, value === true ? "" : seen(value));
  }
  add(element, children);
  return element;
}

function add(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(seen(child)));
  }
  return element;
}

const el = (name, attributes, ...children) => make(null, name, attributes, children);
const svg = (name, attributes, ...children) => make(SVG, name, attributes, children);

// Text with what stands in backticks set as code.
function prose(text) {
  return String(text).split("`").map((part, at) => (at % 2 ? el("code", {}, part) : part));
}

// A table: columns are [heading, class], rows are lists of cells.
function table(caption, columns, rows, attributes) {
  const head = el("tr", {}, columns.map(([name, kind]) => el("th", { scope: "col", class: kind }, name)));
  const line = (cells) => el("tr", {}, cells.map((cell, at) => el("td", { class: columns[at][1] }, cell)));
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", attributes, el("caption", { class: "unseen" }, caption), el("thead", {}, head), el("tbody", {}, rows.map(line))));
}

// A table that says what a picture shows; it is made when it is opened.
function inWords(summary, build) {
  const box = el("details", { class: "words" }, el("summary", {}, summary));
  box.addEventListener("toggle", () => {
    if (box.open && !box.dataset.made) {
      box.dataset.made = "yes";
      add(box, [build()]);
    }
  });
  return box;
}

// Buttons of which one is pressed.
function choice(label, options, chosen, change) {
  const group = el("div", { class: "choice", role: "group", "aria-label": label });
  for (const [value, text, title] of options) {
    const button = el("button", { type: "button", title, "aria-pressed": value === chosen ? "true" : "false" }, text);
    button.addEventListener("click", () => {
      for (const other of group.children) other.setAttribute("aria-pressed", other === button ? "true" : "false");
      change(value);
    });
    group.append(button);
  }
  return group;
}

// A few words beside the pointer, or below what has the focus.
const tip = {
  box: null,
  show(words, x, y) {
    tip.box = tip.box || document.getElementById("tip");
    tip.box.replaceChildren(...words);
    tip.box.hidden = false;
    const { width, height } = tip.box.getBoundingClientRect();
    tip.box.style.left = `${Math.max(4, Math.min(x + 14, window.innerWidth - width - 8))}px`;
    tip.box.style.top = `${y + 18 + height > window.innerHeight ? Math.max(4, y - height - 10) : y + 18}px`;
  },
  hide() {
    if (tip.box) tip.box.hidden = true;
  },
  // What is said of an element when somebody points at it.
  on(element, words) {
    element.addEventListener("pointermove", (event) => tip.show(words(), event.clientX, event.clientY));
    element.addEventListener("pointerleave", tip.hide);
    element.addEventListener("focus", () => {
      const { left, bottom } = element.getBoundingClientRect();
      if (element.matches(":focus-visible")) tip.show(words(), left, bottom - 12);
    });
    element.addEventListener("blur", tip.hide);
  },
};
