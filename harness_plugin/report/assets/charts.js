// Charts: what is drawn, given numbers. They know no leaderboard.

// The range that all dots and intervals need, with a little air, kept within `bounds`.
function range(rows, bounds = [-Infinity, Infinity], also = []) {
  const values = [...rows.flatMap((r) => [r.value, r.low, r.high]), ...also].filter((v) => v !== null && v !== undefined);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const air = (high - low || 1) * 0.06;
  return [Math.max(bounds[0], low - air), Math.min(bounds[1], high + air)];
}

// A dot with its interval on the scale [low, high], as a cell of a table; percentages follow any width.
function dot(row, [low, high], grid, reference) {
  const at = (v) => `${(100 * (v - low)) / (high - low)}%`;
  const line = (v, kind) => svg("line", { class: kind, x1: at(v), x2: at(v), y1: 0, y2: "100%" });
  const known = row.value !== null;
  const whisker = known && row.low !== null && row.high !== null && row.low !== row.high;
  return svg("svg", { "aria-hidden": "true", class: row.warm ? "warm" : null },
    grid.map((v) => line(v, "grid")), line(reference, "reference"),
    row.beside && row.beside.value !== null ? svg("line", { class: "beside", x1: at(row.beside.value), x2: at(row.beside.value), y1: "22%", y2: "78%" }) : null,
    whisker ? svg("line", { class: "whisker", x1: at(row.low), x2: at(row.high), y1: "50%", y2: "50%" }) : null,
    known ? svg("circle", { class: whisker || row.exact ? "dot" : "dot hollow", cx: at(row.value), cy: "50%", r: 5 }) : null);
}

// The number of a row, and under it its interval.
function estimate(row, digits) {
  const ends = interval(row.value, row.low, row.high, digits).slice(fixed(row.value, digits).length).trim();
  return [fixed(row.value, digits), ends ? el("span", { class: "ends" }, ends) : null];
}

function axis([low, high], grid, digits, label) {
  return el("div", { class: "axis", "aria-hidden": "true" }, grid.map((v) =>
    el("span", { style: { left: `${(100 * (v - low)) / (high - low)}%` } }, fixed(v, digits))), el("p", {}, label));
}

// One cell of a heat map: a share from 0 to 1, blue above one half, red below, stronger the further away.
function shareCell(share, attributes = {}, ends = null) {
  const kind = share >= 0.5 ? "wins" : "loses";
  return el("td", { ...attributes, class: `${kind} ${attributes.class || ""}`,
    style: { "--strength": Math.abs(2 * share - 1).toFixed(3) } }, fixed(100 * share, 0), ends ? el("small", {}, ends) : null);
}

function ramp(low, high) {
  const steps = [0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1];
  const table = el("table", { class: "heat ramp" }, el("tr", {}, steps.map((s) => {
    const cell = shareCell(s);
    cell.replaceChildren();
    return cell;
  })));
  return el("span", {}, low, " ", table, " ", high);
}

// Axes of a chart of a given width: `x` and `y` map values to pixels; the frame is what to draw first.
function frame(width, height, xs, ys, labels) {
  const [left, right, top, bottom] = [46, 12, 28, 42];
  const x = (v) => left + ((v - xs.low) / (xs.high - xs.low)) * (width - left - right);
  const y = (v) => height - bottom - ((v - ys.low) / (ys.high - ys.low)) * (height - bottom - top);
  const across = ticks(xs.low, xs.high, Math.max(3, Math.min(9, width / 90)));
  const up = ticks(ys.low, ys.high, 5);
  const floor = height - bottom;
  const drawn = [
    up.found.map((v) => [svg("line", { class: "grid", x1: left, x2: width - right, y1: y(v), y2: y(v) }),
      svg("text", { x: left - 8, y: y(v) + 4, "text-anchor": "end" }, ys.text ? ys.text(v) : fixed(v, up.digits))]),
    svg("line", { class: "axis-line", x1: left, x2: width - right, y1: floor, y2: floor }),
    across.found.map((v) => svg("text", { x: x(v), y: floor + 17, "text-anchor": "middle" }, fixed(v, across.digits))),
    svg("text", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, labels.x),
    svg("text", { x: 0, y: 12 }, labels.y),
  ];
  return { x, y, floor, left, right: width - right, top, drawn };
}

function picture(width, height, title, ...drawn) {
  return svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title }, ...drawn);
}

// Counts in equal bins; `mark` is drawn as a line over them.
function histogram({ low, high, counts }, { label, title, mark = null, zero = false }) {
  return (width) => {
    const height = 230;
    const f = frame(width, height, { low, high }, { low: 0, high: Math.max(...counts, 1) * 1.05 }, { x: label, y: "battles" });
    const step = (high - low) / counts.length;
    const bars = counts.map((n, k) => n && svg("rect", { class: "bar", x: f.x(low + k * step) + 0.5, y: f.y(n),
      width: Math.max(f.x(low + step) - f.x(low) - 1, 1), height: f.floor - f.y(n) },
    svg("title", {}, `${fixed(low + k * step, 2)} to ${fixed(low + (k + 1) * step, 2)}: ${count(n)} battles`)));
    const line = (v, kind) => svg("line", { class: kind, x1: f.x(v), x2: f.x(v), y1: f.top, y2: f.floor });
    return picture(width, height, title, f.drawn, bars.filter(Boolean), zero ? line(0, "reference") : null,
      mark === null ? null : line(mark, "mean"));
  };
}

// Predicted probability against the share that people gave, with intervals.
function reliabilityChart(bins, title) {
  return (width) => {
    const height = 260;
    const f = frame(width, height, { low: 0, high: 1 }, { low: 0, high: 1 }, { x: "predicted: P(B preferred)", y: "share for B that people gave" });
    return picture(width, height, title, f.drawn,
      svg("line", { class: "reference", x1: f.x(0), y1: f.y(0), x2: f.x(1), y2: f.y(1) }),
      bins.map((b) => [
        b.observed_low === null ? null : svg("line", { class: "whisker", x1: f.x(b.predicted), x2: f.x(b.predicted),
          y1: f.y(b.observed_low), y2: f.y(b.observed_high) }),
        svg("circle", { class: "dot", cx: f.x(b.predicted), cy: f.y(b.observed), r: 4.5 }, svg("title", {},
          `predicted ${fixed(b.predicted, 2)}, people ${interval(b.observed, b.observed_low, b.observed_high, 2)}, ${b.n} battles`))]));
  };
}

// Named points with vertical intervals. A label stands where it covers nothing; one that finds no place is left to the
// point's title.
function scatter(points, labels, title) {
  return (width) => {
    const height = Math.max(300, Math.min(430, width * 0.5));
    const [xLow, xHigh] = range(points.map((p) => ({ value: p.x })));
    const [yLow, yHigh] = range(points.map((p) => ({ value: p.y, low: p.low, high: p.high })));
    const f = frame(width, height, { low: Math.max(0, xLow), high: xHigh }, { low: yLow, high: yHigh }, labels);
    const taken = points.map((p) => ({ x: f.x(p.x) - 6, y: f.y(p.y) - 6, w: 12, h: 12 }));
    const named = points.map((p) => placed(p.name, f.x(p.x), f.y(p.y), taken, f));
    return picture(width, height, title, f.drawn,
      points.map((p) => p.low === null ? null : svg("line", { class: "whisker", x1: f.x(p.x), x2: f.x(p.x), y1: f.y(p.low), y2: f.y(p.high) })),
      points.map((p) => svg("circle", { class: p.low === null ? "dot hollow" : "dot", cx: f.x(p.x), cy: f.y(p.y), r: 5 },
        svg("title", {}, `${p.name}: ${labels.y} ${interval(p.y, p.low, p.high, 0)}, ${labels.x} ${fixed(p.x, 0)}`))),
      named);
  };
}

function placed(text, x, y, taken, f) {
  const shown = text.length > 24 ? `${text.slice(0, 23)}…` : text;
  const w = shown.length * 6.6 + 4;
  for (const [left, top, anchor] of [[x + 9, y - 8, "start"], [x - 9 - w, y - 8, "end"], [x - w / 2, y - 26, "middle"], [x - w / 2, y + 10, "middle"]]) {
    const box = { x: left, y: top, w, h: 16 };
    const inside = left >= f.left && left + w <= f.right && top >= f.top && top + 16 <= f.floor;
    const free = taken.every((t) => box.x > t.x + t.w || t.x > box.x + box.w || box.y > t.y + t.h || t.y > box.y + box.h);
    if (inside && free) {
      taken.push(box);
      const at = { start: left, end: left + w, middle: left + w / 2 }[anchor];
      return svg("text", { class: "label", x: at, y: top + 12, "text-anchor": anchor }, shown);
    }
  }
  return null;
}
