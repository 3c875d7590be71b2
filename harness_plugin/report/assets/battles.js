// The browser of battles: filters, a page of the list, one battle in full. Only what is shown is built.

const PAGE = 25;
const [TRUNCATED, IDENTICAL] = [1, 2];
const CLOSE = 0.6;

const SHOW = {
  all: ["all battles", () => true],
  close: [`close: nobody above ${CLOSE}`, (b) => Math.max(b.pa, b.pb) + b.tie / 2 <= CLOSE],
  orders: ["the two orders disagree", (b) => b.bias !== null && Math.abs(b.score) < Math.abs(b.bias)],
  people: ["people disagree with the judge", (b) => b.label !== null && (b.label - 0.5) * b.score < 0],
  truncated: ["a text was cut for the judge", (b) => b.flags & TRUNCATED],
  identical: ["identical answers", (b) => b.flags & IDENTICAL],
};
const SORT = {
  listed: ["by prompt", (b) => b.prompt],
  close: ["closest first", (b) => Math.abs(b.pa - b.pb)],
  clear: ["clearest first", (b) => -Math.abs(b.pa - b.pb)],
  bias: ["largest position bias first", (b) => -Math.abs(b.bias)],
};
const OUTCOME = { any: "any", won: "won", lost: "lost" };

const START = { model: "", other: "", category: "", outcome: "any", show: "all", sort: "listed", find: "" };
const reading = { asWritten: false };

function browser(data) {
  const names = [...data.models, ...data.attacks];
  const columns = Object.keys(data.battles);
  const all = data.battles.key.map((_, k) => {
    const b = Object.fromEntries(columns.map((column) => [column, data.battles[column][k]]));
    return { ...b, tie: Math.max(0, 1 - b.pa - b.pb), attacked: b.b >= data.models.length };
  });
  const state = { ...START, page: 0 };
  let found = all;
  let current = null;

  const lower = new Map(); // texts in small letters, made when somebody searches
  const small = (k) => lower.get(k) ?? lower.set(k, [data.texts[k]].flat().join("\n").toLowerCase()).get(k);

  const indexOf = (text) => (text === "" ? -1 : names.indexOf(text));
  function matches(b, model, other, category, needle) {
    const [m, o] = [indexOf(model), indexOf(other)];
    if (b.attacked ? b.b !== m && b.b !== o : false) return false; // the red team's battles are shown when asked for
    if (m >= 0 && b.a !== m && b.b !== m) return false;
    if (o >= 0 && b.a !== o && b.b !== o) return false;
    if (category !== "" && data.categories[b.category] !== category) return false;
    if (state.outcome !== "any" && m >= 0 && (b.b === m ? b.pb > b.pa : b.pa > b.pb) !== (state.outcome === "won")) return false;
    return !needle || [b.prompt, b.ra, b.rb].some((k) => small(k).includes(needle));
  }

  function search() {
    const needle = state.find.toLowerCase();
    const [, keep] = SHOW[state.show];
    const [, key] = SORT[state.sort];
    found = all.filter((b) => keep(b) && matches(b, state.model, state.other, state.category, needle));
    found = found.map((b) => [key(b), b]).sort((x, y) => x[0] - y[0]).map(([, b]) => b);
    state.page = 0;
    list();
  }

  function list() {
    const shown = found.slice(state.page * PAGE, (state.page + 1) * PAGE);
    const last = Math.max(0, Math.ceil(found.length / PAGE) - 1);
    $("#battles ol").replaceChildren(...(shown.length ? shown.map(item) : [el("li", { class: "empty" }, "No battle fits these filters.")]));
    $("#battles ol").scrollTop = 0;
    const step = (by, text, off) => el("button", { type: "button", disabled: off, click: () => { state.page += by; list(); } }, text);
    const from = found.length ? state.page * PAGE + 1 : 0;
    $("#battles .pager").replaceChildren(step(-1, "Previous", state.page === 0),
      el("span", { role: "status" }, `${count(from)}–${count(state.page * PAGE + shown.length)} of ${count(found.length)}`), step(1, "Next", state.page >= last));
  }

  function item(b) {
    const opening = [data.texts[b.prompt]].flat().join(" / ").slice(0, 160);
    return el("li", {}, el("button", { type: "button", "data-key": b.key, "aria-current": b === current ? "true" : null, click: () => open(b) },
      el("span", { class: "who" }, name(names[b.a]), el("span", {}, " vs "), name(names[b.b])),
      el("span", { class: "what" }, name(opening)), share(b)));
  }

  function open(b, focus = false) {
    current = b;
    for (const button of document.querySelectorAll("#battles li button")) {
      if (button.dataset.key === b.key) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
    $("#battles article").replaceChildren(...detail(b, data, names));
    history.replaceState(null, "", `#battle-${b.key}`);
    if (focus || matchMedia("(max-width: 760px)").matches) $("#battles article").scrollIntoView({ block: "start" });
  }

  function only(model, other) {
    Object.assign(state, { model, other, category: "", outcome: "any", show: "all", find: "" });
    form(data, state, search);
    search();
    $("#battles").scrollIntoView();
    $("#battles").focus({ preventScroll: true });
    if (found.length) open(found[0]);
  }

  $("#battles ol").addEventListener("keydown", (event) => {
    const button = event.target.closest("button");
    const li = button && { ArrowDown: button.parentNode.nextElementSibling, ArrowUp: button.parentNode.previousElementSibling }[event.key];
    if (!li) return;
    event.preventDefault();
    $("button", li).focus();
    $("button", li).click();
  });
  form(data, state, search);
  search();
  const linked = all.find((b) => location.hash === `#battle-${b.key}`);
  if (linked) open(linked, true);
  else if (found.length) {
    current = found[0];
    list();
    $("#battles article").replaceChildren(...detail(current, data, names));
  }
  // The battle with this key, whatever the filters are.
  function show(key) {
    Object.assign(state, START);
    form(data, state, search);
    search();
    open(all.find((b) => b.key === key), true);
  }
  return { only, show };
}

function form(data, state, search) {
  const change = (key) => (event) => { state[key] = event.target.value; search(); };
  const option = (value, text) => el("option", { value }, text);
  const select = (key, text, options) => {
    const node = el("select", { change: change(key) }, options);
    node.value = state[key];
    return el("label", {}, text, node);
  };
  const models = () => [data.models.map((m) => option(m, m)), data.attacks.length ? el("optgroup", { label: "Red team" }, data.attacks.map((m) => option(m, m))) : null];
  const labelled = data.battles.label.some((label) => label !== null);
  const shows = Object.entries(SHOW).filter(([key]) => labelled || key !== "people");
  let waiting = 0;
  const find = el("input", { type: "search", value: state.find, placeholder: "in prompts and answers", input: (event) => {
    clearTimeout(waiting);
    const text = event.target.value;
    waiting = setTimeout(() => { state.find = text; search(); }, 150);
  } });
  $("#battles .filters").replaceChildren(
    select("model", "Model", [option("", "any"), models()]), select("outcome", "Result", Object.entries(OUTCOME).map(([k, text]) => option(k, text))),
    select("other", "Against", [option("", "any"), models()]),
    ...(data.categories.length ? [select("category", "Category", [option("", "any"), data.categories.map((c) => option(c, c))])] : []),
    select("show", "Show", shows.map(([k, [text]]) => option(k, text))), select("sort", "Order", Object.entries(SORT).map(([k, [text]]) => option(k, text))),
    el("label", {}, "Search", find),
    el("button", { type: "button", click: () => { Object.assign(state, START); form(data, state, search); search(); } }, "Reset"));
  $("#battles .filters").onsubmit = (event) => event.preventDefault();
}

function share(b) {
  const part = (kind, p) => el("i", { class: kind, style: { "--part": String(p) } });
  return el("span", { class: "share", "aria-hidden": "true" }, part("a", b.pa), b.tie > 0.0005 ? part("tie", b.tie) : null, part("b", b.pb));
}

function detail(b, data, names) {
  const [a, c] = [names[b.a], names[b.b]];
  const percent = (p) => `${fixed(100 * p, 0)}%`;
  const won = b.pa === b.pb ? "" : b.pa > b.pb ? "a" : "b";
  const side = (kind, who, k) => el("div", { class: `side ${kind}` }, el("h4", {}, name(who)),
    el("p", { class: "meta" }, [kind.toUpperCase(), `${count(lengthOf(k, data))} characters`, ...(won === kind ? ["preferred"] : [])].join(" · ")), textOf(k, data));
  return [
    el("h3", {}, name(a), " vs ", name(c)), share(b),
    el("div", { class: "parts" }, el("span", {}, `A ${percent(b.pa)}`), b.tie > 0.0005 ? el("span", {}, `tie ${percent(b.tie)}`) : null, el("span", {}, `B ${percent(b.pb)}`)),
    el("p", { class: "tags" }, tags(b, data), toggle(b, data, names)),
    el("div", { class: "prompt" }, el("p", { class: "meta" }, "Prompt"), textOf(b.prompt, data)),
    el("div", { class: "sides" }, side("a", a, b.ra), side("b", c, b.rb)),
  ];
}

function toggle(b, data, names) {
  const press = () => {
    reading.asWritten = !reading.asWritten;
    $("#battles article").replaceChildren(...detail(b, data, names));
    $("#battles .tags button").focus();
  };
  return el("button", { type: "button", "aria-pressed": String(reading.asWritten), click: press }, "As written");
}

function tags(b, data) {
  const tag = (text, loud) => el("span", { class: loud ? "loud" : null }, name(text));
  const found = [];
  if (b.category >= 0) found.push(tag(data.categories[b.category]));
  if (b.flags & IDENTICAL) return [...found, tag("identical answers: a tie, not judged")];
  if (b.bias !== null) {
    const first = b.score + b.bias > 0 ? "B" : "A"; // z_ab = score + bias, and z_ba = bias - score
    const second = b.bias - b.score > 0 ? "A" : "B";
    found.push(first === second ? tag(`both orders prefer ${first}`) : tag(`A first: ${first} preferred, B first: ${second} preferred`, true));
    found.push(tag(`${fixed(Math.abs(b.score), 2)} logits for ${b.score > 0 ? "B" : "A"}`), tag(`position bias ${fixed(b.bias, 2)}`));
  }
  if (b.label !== null) found.push(tag(`people: ${b.label > 0.5 ? "B" : b.label < 0.5 ? "A" : "tie"}`, (b.label - 0.5) * b.score < 0));
  if (b.flags & TRUNCATED) found.push(tag("cut to the judge's length", true));
  return found;
}

function lengthOf(k, data) {
  return data.whole[k] ?? [data.texts[k]].flat().reduce((sum, turn) => sum + [...turn].length, 0);
}

function textOf(k, data) {
  const turns = [data.texts[k]].flat();
  const shown = turns.reduce((sum, turn) => sum + [...turn].length, 0);
  const cut = data.whole[k] ? el("p", { class: "cut" }, `Cut here: the first ${count(shown)} of ${count(data.whole[k])} characters.`) : null;
  const body = turns.map((turn) => el("div", { class: turns.length > 1 ? "turn" : null, dir: "auto" }, turn === "" ? el("span", { class: "meta" }, "(empty)") : rendered(turn, reading.asWritten)));
  return el("div", { class: "text", tabindex: 0 }, body, cut);
}
