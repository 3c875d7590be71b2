// Markdown as chatbots write it -> nodes of the page. Texts are somebody's: they become text nodes, never markup. HTML in
// them stays text, links and images are shown with their address and lead nowhere. Work grows with the length of the
// text, and nesting is bounded, whatever the text is.

const DEEPEST = 8; // lists and quotes within each other
const HIGHEST = 16; // bold, italics and links within each other
const MOST_COLUMNS = 40;
const LONGEST_MARKDOWN = 60000; // characters; a longer text is shown as it is written

// A text as `text` nodes: rendered, or as it is written.
function rendered(text, asWritten = false) {
  if (asWritten || text.length > LONGEST_MARKDOWN) return el("div", { class: "raw", dir: "auto" }, visible(text));
  const lines = text.split(/\r\n|\r|\n/).map((line) => line.replace(/^[ \t]+/, (space) => space.replaceAll("\t", "    ")));
  return el("div", { class: "markdown" }, blocks(lines, 0));
}

const FENCE = /^ {0,3}(`{3,}|~{3,})([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?: |$)/;
const RULE = /^ {0,3}([-*_])(?: *\1){2,} *$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,7})([-*+]|\d{1,9}[.)])( {1,4}|$)/;

function blocks(lines, depth) {
  const found = [];
  for (let k = 0; k < lines.length; ) {
    if (!lines[k].trim()) { k++; continue; }
    const deeper = depth < DEEPEST ? quote(lines, k, depth) ?? list(lines, k, depth) : null;
    const block = fence(lines, k) ?? rule(lines, k) ?? heading(lines, k) ?? deeper ?? table(lines, k) ?? paragraph(lines, k);
    found.push(block.node);
    k = block.next;
  }
  return found;
}

// Whether a line ends the paragraph before it.
function interrupts(lines, k) {
  const line = lines[k];
  const item = ITEM.exec(line);
  const begins = item && item[3] && (!/\d/.test(item[2]) || parseInt(item[2], 10) === 1);
  return FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line) || begins || aligned(lines, k) !== null;
}

function fence(lines, k) {
  const open = FENCE.exec(lines[k]);
  if (!open) return null;
  const indent = lines[k].search(/[`~]/);
  const closes = (line) => {
    const mark = line.trim();
    return mark.length >= open[1].length && mark === open[1][0].repeat(mark.length);
  };
  const code = [];
  let next = k + 1;
  for (; next < lines.length && !closes(lines[next]); next++) code.push(lines[next].replace(/^ {0,3}/, (s) => s.slice(indent)));
  const language = open[2].trim();
  const label = language ? el("span", { class: "language" }, visible(language.slice(0, 40))) : null;
  return { node: el("div", { class: "code" }, label, el("pre", { tabindex: 0, dir: "ltr" }, el("code", {}, visible(code.join("\n"))))), next: next + 1 };
}

function rule(lines, k) {
  return RULE.test(lines[k]) ? { node: el("hr"), next: k + 1 } : null;
}

function heading(lines, k) {
  const found = HEADING.exec(lines[k]);
  if (!found) return null;
  const text = lines[k].slice(found[0].length).trim();
  let end = text.length;
  while (text[end - 1] === "#") end--;
  const shown = end === 0 || text[end - 1] === " " ? text.slice(0, end).trimEnd() : text;
  const level = found[1].length;
  return { node: el("div", { class: `h h${level}`, role: "heading", "aria-level": Math.min(level + 3, 6), dir: "auto" }, inline(shown)), next: k + 1 };
}

function quote(lines, k, depth) {
  if (!QUOTE.test(lines[k])) return null;
  const inside = [];
  let next = k;
  for (; next < lines.length && lines[next].trim(); next++) {
    if (!QUOTE.test(lines[next]) && interrupts(lines, next)) break;
    inside.push(lines[next].replace(QUOTE, ""));
  }
  return { node: el("blockquote", { dir: "auto" }, blocks(inside, depth + 1)), next };
}

const indentOf = (line) => line.length - line.trimStart().length;

function list(lines, k, depth) {
  const first = ITEM.exec(lines[k]);
  if (!first) return null;
  const kind = first[2].slice(-1);
  const same = (line) => { const found = ITEM.exec(line); return found && found[2].slice(-1) === kind ? found : null; };
  const items = [];
  let next = k;
  for (let found = first; found; ) {
    const item = listItem(lines, next, found);
    items.push(el("li", { dir: "auto" }, blocks(item.inside, depth + 1)));
    next = item.next;
    found = next < lines.length && !RULE.test(lines[next]) ? same(lines[next]) : null;
  }
  const ordered = /\d/.test(first[2]);
  return { node: el(ordered ? "ol" : "ul", { start: ordered ? parseInt(first[2], 10) : null, dir: "auto" }, items), next };
}

// The lines of one item without their indent; a line that is not indented belongs to it where it goes on a paragraph.
function listItem(lines, k, found) {
  const width = found[0].length;
  const least = Math.min(width, found[1].length + 2);
  const inside = [lines[k].slice(width)];
  let next = k + 1;
  for (let blank = false; next < lines.length; ) {
    let following = next;
    while (following < lines.length && !lines[following].trim()) following++;
    if (following > next) {
      if (following === lines.length) return { inside, next: following };
      const goesOn = indentOf(lines[following]) >= least;
      if (!goesOn) return { inside, next: following };
      inside.push("");
      blank = true;
      next = following;
    }
    const indented = indentOf(lines[next]) >= least;
    if (!indented && (blank || ITEM.test(lines[next]) || interrupts(lines, next))) break;
    inside.push(lines[next].slice(Math.min(indentOf(lines[next]), width)));
    blank = false;
    next++;
  }
  return { inside, next };
}

function cellsOf(line) {
  const cells = line.trim().replace(/\\\|/g, "\u0000").split("|").map((cell) => cell.replaceAll("\u0000", "|").trim());
  if (cells[0] === "") cells.shift();
  if (cells[cells.length - 1] === "") cells.pop();
  return cells;
}

// The alignments of a table that begins at a line; null where none does.
function aligned(lines, k) {
  const under = lines[k + 1];
  if (under === undefined || !lines[k].includes("|") || !under.includes("-") || !/^[ |:-]+$/.test(under)) return null;
  const marks = cellsOf(under);
  if (marks.length > MOST_COLUMNS || marks.length !== cellsOf(lines[k]).length || !marks.every((mark) => /^:?-+:?$/.test(mark))) return null;
  return marks.map((mark) => (mark.endsWith(":") ? (mark.startsWith(":") ? "center" : "right") : null));
}

function table(lines, k) {
  const sides = aligned(lines, k);
  if (!sides) return null;
  const row = (line, tag) => el("tr", {}, cellsOf(line).slice(0, sides.length).map((cell, n) => el(tag, { class: sides[n], dir: "auto" }, inline(cell))));
  const body = [];
  let next = k + 2;
  for (; next < lines.length && lines[next].trim() && lines[next].includes("|"); next++) body.push(row(lines[next], "td"));
  return { node: el("div", { class: "table", tabindex: 0 }, el("table", {}, el("thead", {}, row(lines[k], "th")), el("tbody", {}, body))), next };
}

function paragraph(lines, k) {
  let next = k + 1;
  while (next < lines.length && lines[next].trim() && !interrupts(lines, next)) next++;
  return { node: el("p", { dir: "auto" }, inline(lines.slice(k, next).join("\n").trimEnd())), next };
}

const SPECIAL = /[\\`*_~[\]!<]/g;
const ESCAPED = /\\([*_`~#+\-.!|<>])/y; // a backslash before brackets or another one is LaTeX's and stays
const TARGET = /\]\(\s{0,9}<?([^\s<>()]{0,2000}(?:\([^\s<>()]{0,200}\)[^\s<>()]{0,2000}){0,3})>?(?:\s{1,9}(?:"[^"]{0,300}"|'[^']{0,300}'))?\s{0,9}\)/y;
const BREAK = /<br {0,3}\/?>/iy;
const WORD = /[\p{L}\p{N}]/u;
const TAGS = { "*": "em", "_": "em", "**": "strong", "__": "strong", "~~": "del" };

const at = (pattern, text, k) => { pattern.lastIndex = k; return pattern.exec(text); };

function inline(text) {
  const line = new Inline();
  let k = 0;
  for (let found; (found = at(SPECIAL, text, k)); ) {
    line.text(text.slice(k, found.index));
    k = found.index + special(line, text, found.index);
  }
  line.text(text.slice(k));
  return nodesOf(line.parts);
}

// Puts what begins at a special character on the line; returns how many characters it takes.
function special(line, text, k) {
  const c = text[k];
  if (c === "\\") {
    const escaped = at(ESCAPED, text, k);
    line.text(escaped ? escaped[1] : "\\");
    return escaped ? 2 : 1;
  }
  if (c === "`") return codeSpan(line, text, k);
  if (c === "<") {
    const found = at(BREAK, text, k);
    if (found) line.put(el("br"));
    else line.text("<");
    return found ? found[0].length : 1;
  }
  if (c === "[" || (c === "!" && text[k + 1] === "[")) {
    const mark = c === "[" ? "[" : "![";
    line.open(mark);
    return mark.length;
  }
  if (c === "]") return link(line, text, k);
  if (c === "!") { line.text("!"); return 1; }
  return emphasis(line, text, k);
}

function codeSpan(line, text, k) {
  const [ticks] = at(/`+/y, text, k);
  const runs = /`+/g;
  runs.lastIndex = k + ticks.length;
  for (let run; !line.unclosed.has(ticks.length) && (run = runs.exec(text)); ) {
    if (run[0].length !== ticks.length) continue;
    const code = text.slice(k + ticks.length, run.index).replaceAll("\n", " ");
    line.put(el("code", { dir: "auto" }, visible(code.startsWith(" ") && code.endsWith(" ") && code.trim() ? code.slice(1, -1) : code)));
    return runs.lastIndex - k;
  }
  line.unclosed.add(ticks.length);
  line.text(ticks);
  return ticks.length;
}

function link(line, text, k) {
  const target = at(TARGET, text, k);
  const mark = target && line.nearest(["[", "!["]);
  if (!mark) { line.text("]"); return 1; }
  const address = el("bdi", { class: "address" }, visible(` (${target[1]})`));
  const kind = mark === "[" ? "link" : "image";
  line.close(mark, (inside) => el("span", { class: kind }, kind === "image" ? "image: " : null, el("span", {}, inside), address), target[0]);
  return target[0].length;
}

function emphasis(line, text, k) {
  const c = text[k];
  let length = 1;
  while (text[k + length] === c) length++;
  const [before, after] = [text[k - 1] ?? " ", text[k + length] ?? " "];
  const opens = after.trim() !== "" && (c !== "_" || !WORD.test(before));
  const closes = before.trim() !== "" && (c !== "_" || !WORD.test(after));
  let left = length > 3 || (c === "~" && length !== 2) ? 0 : length;
  if (!left) { line.text(text.slice(k, k + length)); return length; }
  while (closes && left) {
    const mark = line.nearest([c, c + c].filter((m) => m in TAGS && m.length <= left));
    if (!mark) break;
    line.close(mark, (inside) => el(TAGS[mark], {}, inside), mark);
    left -= mark.length;
  }
  for (; left; ) {
    const mark = c.repeat(Math.min(left, 2));
    if (opens && mark in TAGS) line.open(mark);
    else line.text(mark);
    left -= mark.length;
  }
  return length;
}

const nodesOf = (parts) => parts.map((part) => part.node ?? visible(part.text));

// The parts of a line so far, and the marks among them that may yet be closed.
class Inline {
  parts = []; // { node, height } or { text, height: 0 }
  openers = []; // { mark, place among the parts }
  waiting = new Map(); // mark -> how many of the openers have it
  unclosed = new Set(); // lengths of backtick runs that nothing closes

  put(node, height = 0) { this.parts.push({ node, height }); }

  text(text) {
    const last = this.parts[this.parts.length - 1];
    if (last && !last.node && !last.mark) last.text += text;
    else if (text) this.parts.push({ text, height: 0 });
  }

  open(mark) {
    this.openers.push({ mark, place: this.parts.length });
    this.waiting.set(mark, (this.waiting.get(mark) ?? 0) + 1);
    this.parts.push({ text: mark, height: 0, mark: true });
  }

  // The last of the marks that is open; null without one.
  nearest(marks) {
    if (!marks.some((mark) => this.waiting.get(mark))) return null;
    for (let k = this.openers.length - 1; k >= 0; k--) if (marks.includes(this.openers[k].mark)) return this.openers[k].mark;
    return null;
  }

  // Makes one part of everything since the last opener with the mark; those after it stay text. Where that is too high,
  // all openers stay text, and `closer` is written.
  close(mark, make, closer) {
    let opener;
    do {
      opener = this.openers.pop();
      this.waiting.set(opener.mark, this.waiting.get(opener.mark) - 1);
    } while (opener.mark !== mark);
    const inside = this.parts.slice(opener.place + 1);
    const height = 1 + inside.reduce((most, part) => Math.max(most, part.height), 0);
    if (height > HIGHEST) {
      this.openers = [];
      this.waiting.clear();
      this.text(closer);
      return;
    }
    this.parts.length = opener.place;
    this.put(make(nodesOf(inside)), height);
  }
}
