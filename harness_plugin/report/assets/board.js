// The leaderboard's sections: numbers of leaderboard.json, drawn. A section without anything to say is taken out.

function drop(id) {
  $(`#${id}`).remove();
}

function header({ title, board, words }) {
  $("#title").append(name(title));
  $("#summary").append(...Object.entries(words.summary).map(([about, text]) => el("div", {}, el("dt", {}, about), el("dd", {}, name(text)))));
  const told = board.tests.filter(differ).length;
  const { base, adapter, hash } = board.judge;
  if (base) $("#who").append("Judged by ", name([base, adapter].filter(Boolean).join(" with the adapter ")), `, both orders of every pair; judge ${hash}`);
  const facts = [["models", count(board.models.length)], ["prompts", count(board.prompts)], ["battles", count(board.battles)],
    ["pairs that differ", `${told} of ${count(board.tests.length)}`]];
  const smallest = board.smallest_difference;
  if (smallest !== null) facts.push(["smallest detectable difference", board.differences_of === "rating" ? `${fixed(smallest, 0)} points` : fixed(smallest, 3)]);
  $("#facts").append(...facts.map(([what, value]) => el("div", {}, el("dt", {}, what), el("dd", {}, value))));
  $("#warnings").append(...words.warnings.map((w) => el("li", {}, el("b", {}, "Note: "), name(w))));
}

const METRICS = { // `beside`: what stands in the same row; `rank`: whose range of ranks, if not the judge's
  rating: { text: "Rating", digits: 0, beside: "rating_length_controlled" },
  rating_length_controlled: { text: "Rating at equal length", digits: 0, beside: "rating" },
  rating_style_controlled: { text: "Rating at equal style", digits: 0, beside: "rating" },
  win_rate: { text: "Win rate", digits: 3, bounds: [0, 1], reference: 0.5, beside: "win_rate_length_controlled" },
  win_rate_length_controlled: { text: "Win rate at equal length", digits: 3, bounds: [0, 1], reference: 0.5, beside: "win_rate" },
  win_rate_style_controlled: { text: "Win rate at equal style", digits: 3, bounds: [0, 1], reference: 0.5, beside: "win_rate" },
  rating_people: { text: "Rating for people", digits: 0, beside: "rating", rank: "rank_people" },
  win_rate_people: { text: "Win rate for people", digits: 3, bounds: [0, 1], reference: 0.5, beside: "win_rate", rank: "rank_people" },
};

function ratings({ board }) {
  const known = Object.keys(METRICS).filter((key) => key in board.models[0]);
  const line = board.baseline === null ? "the models' mean rating, or a win rate of one half" : "the baseline";
  $("#ratings .note").append(` The dashed line is ${line}.`);
  const place = $("#ratings .body");
  const show = (shown) => place.replaceChildren(choices(known, shown, show), el("div", { class: "panel" }, ratingTable(board, shown)));
  show(board.baseline === null ? "rating" : "win_rate");
}

function choices(known, shown, show) {
  return el("div", { class: "choices", role: "group", "aria-label": "What the dots show" }, known.map((k) =>
    el("button", { type: "button", "aria-pressed": String(k === shown), click: () => { show(k); $(`#ratings [aria-pressed="true"]`).focus(); } }, METRICS[k].text)));
}

function ratingTable(board, shown) {
  const metric = METRICS[shown];
  const of = (m, key) => ({ value: m[key], low: m[`${key}_low`], high: m[`${key}_high`] });
  const beside = metric.beside in board.models[0] ? metric.beside : null;
  const rows = board.models.map((m) => ({ m, ...of(m, shown), exact: m.model === board.baseline, beside: beside && of(m, beside) }));
  const reference = metric.reference || 1000;
  const scale = range(rows, metric.bounds, [reference, ...rows.map((row) => row.beside?.value)]);
  const { found: grid, digits } = ticks(...scale, 5);
  const label = beside ? [metric.text, el("span", { class: "tick-key" }), METRICS[beside].text] : metric.text;
  const number = (text) => el("th", {}, text, el("span", { class: "ends" }, "95% interval"));
  return el("table", { class: "dots" },
    el("thead", {}, el("tr", {}, el("th", { class: "right" }, "Rank"), el("th", {}, "Model"), el("th", { class: "plot" }),
      number(metric.text), beside ? number(METRICS[beside].text) : null, el("th", { class: "right wide" }, "Won – tied – lost"), el("th", { class: "right wide" }, "Mean length"))),
    el("tbody", {}, rows.map((row) => ratingRow(row, scale, grid, reference, metric))),
    el("tfoot", {}, el("tr", {}, el("td"), el("td"), el("td", { class: "plot" }, axis(scale, grid, digits, label)), el("td"), beside ? el("td") : null, el("td", { class: "wide" }), el("td", { class: "wide" }))));
}

function ratingRow(row, scale, grid, reference, { digits, rank = "rank" }) {
  const m = row.m;
  const [low, high] = [m[`${rank}_low`], m[`${rank}_high`]];
  const ranks = low === null ? "–" : low === high ? String(low) : `${low}–${high}`;
  return el("tr", {}, el("td", { class: "right" }, ranks),
    el("th", { class: "name", scope: "row", title: m.model }, name(m.model), row.exact ? el("span", { class: "quiet" }, " baseline") : null),
    el("td", { class: "plot" }, dot(row, scale, grid, reference)), el("td", {}, estimate(row, digits)),
    row.beside ? el("td", {}, estimate(row.beside, digits)) : null,
    el("td", { class: "right wide quiet" }, [m.wins, m.ties, m.losses].map(count).join(" – ")),
    el("td", { class: "right wide quiet" }, fixed(m.mean_length, 0)));
}

const MOST_DISAGREEMENTS = 8;

// The battles that people decided the other way than the judge; a click shows one below.
function disagreements(data, show) {
  const win = (k) => 1 - (1 + data.battles.pa[k] - data.battles.pb[k]) / 2; // the judge's win of B, a tie counting one half
  const apart = (k) => Math.abs(data.battles.label[k] - win(k));
  const found = data.battles.key.map((_, k) => k).filter((k) => data.battles.label[k] !== null && (data.battles.label[k] - 0.5) * (win(k) - 0.5) < 0);
  if (!found.length) return drop("disagreements");
  found.sort((k, l) => apart(l) - apart(k));
  const rows = found.slice(0, MOST_DISAGREEMENTS).map((k) => {
    const models = [data.battles.a[k], data.battles.b[k]].map((m) => data.models[m]);
    const [judge, people] = [win(k), data.battles.label[k]].map((p) => (p > 0.5 ? [models[1], p] : [models[0], 1 - p]));
    const opening = [data.texts[data.battles.prompt[k]]].flat().join(" / ").slice(0, 200);
    return el("tr", {}, el("th", { class: "wrap", scope: "row" }, el("a", { href: `#battle-${data.battles.key[k]}`, click: (event) => { event.preventDefault(); show(data.battles.key[k]); } }, name(opening))),
      el("td", { class: "wrap" }, name(judge[0]), el("span", { class: "ends" }, `${fixed(100 * judge[1], 0)}% sure`)),
      el("td", { class: "wrap" }, name(people[0]), people[1] < 1 ? el("span", { class: "ends" }, `${fixed(100 * people[1], 0)}% of the votes`) : null));
  });
  const judged = data.battles.label.filter((label) => label !== null && label !== 0.5).length;
  $("#disagreements .body").append(el("div", { class: "panel" }, el("table", { class: "dots" },
    el("thead", {}, el("tr", {}, el("th", {}, "Prompt"), el("th", {}, "The judge prefers"), el("th", {}, "People prefer"))), el("tbody", {}, rows))),
  el("p", { class: "note" }, `${count(found.length)} of ${count(judged)} battles that people decided. The filter “people disagree with the judge” below shows them all.`));
}

const differ = (test) => test.p_holm !== null && test.p_holm <= data.alpha;
const key = (...names) => JSON.stringify(names);

// Every model against every other, the better ranked above; beside it the pairs that chance may explain.
function pairs({ board, words }, open) {
  $("#pairs .note").append(`${words.differences} ${words.power}`);
  const body = $("#pairs .body");
  if (board.baseline === null && board.models.length > 2) body.append(el("div", { class: "scroll" }, matrix(board, open)));
  const near = board.tests.filter((test) => !differ(test));
  if (near.length) body.append(notTold(board, near));
  if (!body.hasChildNodes()) body.remove();
}

function matrix(board, open) {
  const sure = new Set(board.tests.filter(differ).flatMap((t) => [key(t.model, t.other), key(t.other, t.model)]));
  const flip = (v) => (v === null ? null : 1 - v);
  const cells = new Map(board.head_to_head.flatMap((h) => [
    [key(h.model, h.other), [h.win_rate, h.win_rate_low, h.win_rate_high, h.n]],
    [key(h.other, h.model), [flip(h.win_rate), flip(h.win_rate_high), flip(h.win_rate_low), h.n]],
  ]));
  const names = board.models.map((m) => m.model);
  const cell = (row, column) => {
    const found = cells.get(key(row, column));
    if (!found) return null;
    const [share, low, high, n] = found;
    return { share, sure: sure.has(key(row, column)), click: () => open(row, column),
      title: `${row} against ${column}: ${interval(share, low, high, 2)}, ${count(n)} battles` };
  };
  return [el("p", { class: "note" }, "Win rate of the model in the row against the model in the column, in percent"), heat(names, names, cell), el("div", { class: "legend" }, ramp("0%: the row loses", "100%: the row wins"),
    el("span", {}, el("b", {}, "Bold"), ": their ratings differ. A cell opens its battles; arrow keys move.")) ];
}

const NEAR = 14;

function notTold(board, near) {
  const shown = near.slice(0, NEAR).map((t) => ({ t, value: t.difference, low: t.low, high: t.high }));
  const digits = board.differences_of === "rating" ? 0 : 3;
  const scale = range(shown, undefined, [0]);
  const { found: grid, digits: axisDigits } = ticks(...scale, 4);
  const rows = shown.map((row) => el("tr", {}, el("th", { class: "name two", scope: "row" }, name(row.t.model), el("br"), name(row.t.other)),
    el("td", { class: "plot" }, dot(row, scale, grid, 0)), el("td", {}, estimate(row, digits))));
  const more = near.length > NEAR ? el("p", { class: "more" }, `and ${count(near.length - NEAR)} more pairs, in leaderboard.json`) : null;
  return el("div", { class: "panel" }, el("h3", {}, "No clear difference"), el("table", { class: "dots" },
    el("thead", {}, el("tr", {}, el("th", {}, "The better ranked first"), el("th", { class: "plot" }), el("th", {}, "Difference", el("span", { class: "ends" }, "95% interval")))),
    el("tbody", {}, rows), el("tfoot", {}, el("tr", {}, el("td"), el("td", { class: "plot" }, axis(scale, grid, axisDigits, `Difference in ${board.differences_of.replace("_", " ")}`)), el("td")))), more);
}

// `cell(row, column)`: what to show there, or null.
function heat(rows, columns, cell, kind = "") {
  const body = rows.map((row) => el("tr", {}, el("th", { scope: "row", title: row }, name(row)), columns.map((column) => {
    const c = cell(row, column);
    if (!c) return el("td", { class: "none" });
    const button = c.click ? { click: c.click, tabindex: -1, role: "button", "aria-label": c.title } : {};
    return shareCell(c.share, { class: c.sure ? "sure" : "", title: c.title, ...button }, c.ends);
  })));
  const table = el("table", { class: `heat ${kind}`, keydown: (event) => arrows(event, table) },
    el("thead", {}, el("tr", {}, el("td", { class: "none" }), columns.map((c) => el("th", { scope: "col", title: c }, el("span", {}, name(c)))))),
    el("tbody", {}, body));
  const first = $("td[tabindex]", table);
  if (first) first.tabIndex = 0; // one stop for the tab key; arrows do the rest
  return table;
}

const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

function arrows(event, table) {
  const here = event.target.closest("td[tabindex]");
  if (!here) return;
  if (event.key === "Enter" || event.key === " ") here.click();
  else if (STEPS[event.key]) {
    const [down, right] = STEPS[event.key];
    let [row, column] = [here.parentNode.rowIndex + down, here.cellIndex + right];
    while (table.rows[row]?.cells[column]?.classList.contains("none")) [row, column] = [row + down, column + right];
    const next = table.rows[row]?.cells[column];
    if (!next?.hasAttribute("tabindex")) return;
    here.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  } else return;
  event.preventDefault();
}

function categories({ board }) {
  const names = Object.keys(board.categories);
  if (!names.length) return drop("categories");
  const cell = (model, category) => {
    const c = board.categories[category][model];
    if (!c) return null;
    const [low, high] = [c.win_rate_low, c.win_rate_high];
    return { share: c.win_rate, sure: low !== null && (low > 0.5 || high < 0.5), ends: low === null ? "" : `${fixed(100 * low, 0)}–${fixed(100 * high, 0)}`,
      title: `${model}, ${category}: ${interval(c.win_rate, low, high, 2)}, ${count(c.n)} battles` };
  };
  $("#categories .body").append(heat(board.models.map((m) => m.model), names, cell, "wide"),
    el("div", { class: "legend" }, ramp("0%", "100%"), el("span", {}, el("b", {}, "Bold"), ": the 95% interval leaves out one half.")));
}

function judgeCards({ words, charts }) {
  const caption = (id, text) => $(`#${id} p`).append(name(text));
  caption("length", words.length);
  if (charts.length.length) responsive($("#length .chart"), scatter(charts.length, { x: "mean length of the answers (characters)", y: "rating" }, "Rating of each model against the mean length of its answers"));
  caption("position", words.position);
  if (charts.position === null) $("#position .chart").remove();
  else responsive($("#position .chart"), histogram(charts.position, { label: "position bias (logits in favour of the second answer)", title: "How many battles have which position bias", mark: charts.position.mean, zero: true }));
  const bins = charts.reliability;
  $("#confidence h3").append(bins ? "Reliability" : "Confidence");
  caption("confidence", [words.agreement || "There are no labels of people here, so it is not known whether these probabilities are right.", words.calibration].join(" ").trim());
  responsive($("#confidence .chart"), bins ? reliabilityChart(bins, "Predicted probability against the share that people gave")
    : histogram(charts.confidence, { label: "probability of the preferred answer", title: "How many battles were decided with which probability" }));
}

function redTeam({ board, words }, open) {
  if (!board.red_team) return drop("red-team");
  $("#red-team .note").append(name(words.red_team));
  const scale = [0, 1];
  const { found: grid, digits } = ticks(0, 1, 5);
  const rows = board.red_team.attacks.map((r) => {
    const bad = r.unmoved === 0 ? r.win_rate_high > 0.5 : r.win_rate_low > 0.5;
    const row = { value: r.win_rate, low: r.win_rate_low, high: r.win_rate_high, warm: bad };
    const battles = el("a", { href: "#battles", click: () => open(`red team: ${r.attack}`, "") }, `${count(r.battles)} battles`);
    return el("tr", {}, el("th", { class: "attack", scope: "row" }, el("b", {}, r.attack), el("span", { class: "ends" }, r.does)),
      el("td", { class: "plot" }, dot(row, scale, grid, r.unmoved)), el("td", {}, estimate(row, 2)), el("td", { class: "finding" }, r.finding),
      el("td", { class: "wide quiet" }, estimate({ value: r.position_bias, low: r.position_bias_low, high: r.position_bias_high }, 2)), el("td", { class: "wide quiet" }, r.battles ? battles : null));
  });
  const head = (text) => el("th", {}, text, el("span", { class: "ends" }, "95% interval"));
  $("#red-team .body").append(el("div", { class: "panel" }, el("table", { class: "dots" },
    el("thead", {}, el("tr", {}, el("th", {}, "Attack"), el("th", { class: "plot" }), head("Win rate"), el("th", {}, "Finding"),
      el("th", { class: "wide" }, "Position bias", el("span", { class: "ends" }, "logits, 95% interval")), el("th", { class: "wide" }))),
    el("tbody", {}, rows),
    el("tfoot", {}, el("tr", {}, el("td"), el("td", { class: "plot" }, axis(scale, grid, digits, "Win rate against the untouched answer")), el("td"), el("td"), el("td", { class: "wide" }), el("td", { class: "wide" }))))));
}

function notes({ board, words, version, total, battles, whole, texts }) {
  const lines = [words.basis, words.power, words.calibration, words.people].filter(Boolean);
  const cut = Object.keys(whole).length;
  if (battles.key.length < total) lines.push(`This page holds ${count(battles.key.length)} of ${count(total)} battles, drawn by their content; verdicts.jsonl has all.`);
  if (cut) lines.push(`${count(cut)} of ${count(texts.length)} texts are too long for this page and are cut in it; the judge read them as it always does.`);
  const identity = Object.entries(board.judge).filter(([, value]) => value !== null && value !== "");
  $("#notes .body").append(...lines.map((line) => el("p", {}, line)),
    words.left_out.length ? el("h3", {}, "Left out or counted separately") : "",
    el("ul", {}, words.left_out.map((line) => el("li", {}, name(line)))),
    el("dl", {}, identity.map(([key, value]) => [el("dt", {}, key), el("dd", {}, name(typeof value === "object" ? JSON.stringify(value) : String(value)))])));
  $("footer").append(`Made by arena-rm ${version}. The same numbers: leaderboard.json, leaderboard.csv, report.md.`);
}

function contents() {
  $("#contents").append(el("ul", {}, [...document.querySelectorAll("section")].map((s) => el("li", {}, el("a", { href: `#${s.id}` }, s.dataset.name)))));
}
