// Building the page from text. Somebody's text becomes text nodes and attribute values, never markup.

function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (name === "style") for (const [key, v] of Object.entries(value)) node.style.setProperty(key, v);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(3)) if (child !== null && child !== undefined) node.append(child); // maybe 100,000
  return node;
}

const $ = (selector, within = document) => within.querySelector(selector);

// A name or a sentence with names in it: whatever direction its letters run, what stands beside it stays in place.
const name = (text) => el("bdi", {}, visible(text));

// Characters that print nothing or turn the text around are named (see .control in page.css); the text keeps them.
const CONTROLS = /([\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069])\1*/g;

function visible(text) {
  const parts = [];
  let at = 0;
  for (const found of text.matchAll(CONTROLS)) {
    const code = `U+${found[1].charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
    const times = found[0].length > 1 ? ` ×${found[0].length}` : "";
    parts.push(text.slice(at, found.index), el("span", { class: "control", "data-code": code + times }, found[0]));
    at = found.index + found[0].length;
  }
  return [...parts, text.slice(at)].filter((part) => part !== "");
}

const count = (n) => n.toLocaleString("en");
const fixed = (value, digits) => (value === null || value === undefined ? "–" : (value + 0).toFixed(digits).replace(/^-(0(\.0*)?)$/, "$1").replace("-", "−"));

// "0.54 [0.45, 0.62]"; the interval is left out where it is not known.
function interval(value, low, high, digits) {
  const ends = low === null || high === null || low === high ? "" : ` [${fixed(low, digits)}, ${fixed(high, digits)}]`;
  return fixed(value, digits) + ends;
}

// About `most` round numbers from low to high.
function ticks(low, high, most) {
  const rough = (high - low || 1) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) found.push(k * step);
  return { step, found, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

// Draws again whenever the width changes, so that text keeps its size on every screen.
function responsive(node, draw) {
  let width = 0;
  const redraw = () => {
    const now = Math.floor(node.clientWidth);
    if (now && now !== width) node.replaceChildren(draw((width = now)));
  };
  new ResizeObserver(redraw).observe(node);
  redraw();
}
