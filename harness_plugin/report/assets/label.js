// The page that people vote on: one battle at a time, votes kept in this browser and saved to a file. Which model wrote
// an answer is in the data, for the file that is saved, and is never shown.

const data = JSON.parse($("#data").textContent);
const CHOICES = { // what is kept -> the key, the button, and how the end counts it
  left: { key: "a", text: "A is better", kind: "A or B is better" },
  tie: { key: "t", text: "Tie", kind: "Tie" },
  bad: { key: "n", text: "Both are bad", kind: "Both are bad" },
  right: { key: "b", text: "B is better", kind: "A or B is better" },
  skip: { key: "s", text: "Skip", kind: "Skipped" },
};
const LAST = `arena-rm label ${data.design}`; // where the browser keeps who voted last
const state = { name: "", votes: {}, at: 0, asWritten: false };

// Some browsers keep nothing for files, and say so with an exception.
function kept(key) {
  try { return localStorage.getItem(key); } catch { return null; }
}

function keep(key, value) {
  try {
    localStorage.setItem(key, value);
    return true;
  } catch {
    say("This browser does not keep your votes: save them to a file before you close the page.");
    return false;
  }
}

const votesKey = () => `${LAST} ${state.name}`;

// The votes that are kept under the name; what is not a vote on a battle of this page is left out.
function keptVotes() {
  let found = {};
  try { found = JSON.parse(kept(votesKey()) ?? "{}") ?? {}; } catch { /* a damaged entry is as good as none */ }
  return Object.fromEntries(data.battles.filter(({ id }) => Object.hasOwn(found, id) && Object.hasOwn(CHOICES, found[id])).map(({ id }) => [id, found[id]]));
}

// Whether there is a vote on the battle; its id may be any text, also the name of what every object has.
const voted = ({ id }) => Object.hasOwn(state.votes, id);

function say(text) {
  $("#message").hidden = !text;
  $("#message").replaceChildren(...(text ? [name(text)] : []));
}

function begin(who) {
  state.name = who;
  state.votes = keptVotes();
  keep(LAST, who);
  say("");
  const first = data.battles.findIndex((b) => !voted(b));
  show(first < 0 ? data.battles.length : first);
}

// Shows the battle with this number, or the end behind the last.
function show(k) {
  state.at = k;
  const over = k >= data.battles.length;
  $("#start").hidden = true;
  $("#battle").hidden = over;
  $("#end").hidden = !over;
  $("#votes").hidden = false;
  tools();
  progress();
  if (over) end();
  else $("#battle").replaceChildren(...rounds(data.battles[k], state.votes[data.battles[k].id]));
  voteBar(over);
  scrollTo(0, 0);
  $("main").focus({ preventScroll: true });
}

const other = { a: "b", b: "a" };
const sides = (b) => ({ left: b.first, right: other[b.first] }); // place on the page -> side in the data

// A conversation is shown turn by turn, each with the two answers to it; earlier turns without answers stand first.
function rounds(b, choice) {
  const [prompt, answers] = [[b.prompt].flat(), { a: [b.response_a].flat(), b: [b.response_b].flat() }];
  const turns = answers.a.length;
  const together = prompt.length === turns ? prompt.map((text) => [text]) : [prompt, ...Array(turns - 1).fill([])];
  const body = (text) => el("div", { class: "text" }, text === "" ? el("span", { class: "meta" }, "(empty)") : rendered(text, state.asWritten));
  const side = (place, letter, n) => el("div", { class: `side${choice === place ? " chosen" : ""}` }, el("h2", {}, letter), body(answers[sides(b)[place]][n]));
  return together.map((before, n) => el("div", { class: "round" },
    before.length ? el("div", { class: "prompt" }, el("p", { class: "meta" }, turns > 1 ? `Prompt ${n + 1}` : "Prompt"),
      before.map((text) => el("div", { class: before.length > 1 ? "turn" : null }, body(text)))) : null,
    el("div", { class: "sides" }, side("left", "A", n), side("right", "B", n))));
}

const button = (text, key, click, attributes = {}) => el("button", { type: "button", click, ...attributes }, text, key ? [" ", el("kbd", {}, key.toUpperCase())] : null);

function tools() {
  const pressed = String(state.asWritten);
  $("#tools").replaceChildren(el("span", { class: "who" }, name(state.name)), button("Change", "", start),
    button("As written", "m", toggle, { "aria-pressed": pressed }), button("Save votes", "", save), button("Open votes", "", () => $("#file").click()));
}

function progress() {
  const [done, all] = [Object.keys(state.votes).length, data.battles.length];
  $("#progress").hidden = false;
  Object.assign($("progress"), { max: all, value: done });
  $("#progress span").textContent = state.at < all ? `Battle ${count(state.at + 1)} of ${count(all)}, ${count(done)} done` : `${count(done)} of ${count(all)} done`;
}

function voteBar(over) {
  const current = over ? null : state.votes[data.battles[state.at].id];
  const choices = over ? [] : Object.entries(CHOICES).map(([choice, { key, text }]) =>
    button(text, key, () => vote(choice), { "data-choice": choice, "aria-pressed": String(choice === current), class: choice === "skip" ? "apart" : null }));
  $("#votes").replaceChildren(...choices, button("Back", "u", back, { disabled: state.at === 0 }));
}

function vote(choice) {
  const { id } = data.battles[state.at];
  state.votes = { ...state.votes, ...keptVotes(), [id]: choice }; // another tab may have voted meanwhile
  keep(votesKey(), JSON.stringify(state.votes));
  const open = data.battles.map((b, k) => (voted(b) ? -1 : k)).filter((k) => k >= 0);
  show(open.find((k) => k > state.at) ?? open[0] ?? data.battles.length);
}

function back() {
  if (state.at > 0) show(state.at - 1);
}

function toggle() {
  state.asWritten = !state.asWritten;
  show(state.at);
}

function end() {
  const counted = {};
  for (const choice of Object.values(state.votes)) counted[CHOICES[choice].kind] = (counted[CHOICES[choice].kind] ?? 0) + 1;
  const skipped = data.battles.findIndex(({ id }) => state.votes[id] === "skip");
  $("#end").replaceChildren(el("h2", {}, "That was the last one"), el("p", {}, "Save your votes to a file, and send the file to whoever gave you this page. Thank you!"),
    el("dl", {}, Object.entries(counted).map(([kind, n]) => [el("dt", {}, kind), el("dd", {}, count(n))])),
    el("p", { class: "buttons" }, button("Save votes", "", save, { class: "main" }), skipped < 0 ? null : button("Look at a skipped one again", "", () => show(skipped))));
}

// The line of one battle in the file: a pair as every command reads it, and what an estimate must know of the draw.
function line(b, choice) {
  const { first, prompt, response_a, response_b, stratum, sampling_probability, ...names } = b;
  const side = sides(b)[choice];
  const winner = choice === "skip" ? null : side ? `model_${side}` : "tie";
  const { id, ...models } = names;
  return { id, prompt, response_a, response_b, winner, ...models, annotator: state.name, both_bad: choice === "bad", skipped: choice === "skip",
    sampling_probability, stratum, design: data.design, design_kind: data.kind, design_seed: data.seed, first };
}

function save() {
  const rows = data.battles.filter(voted).map((b) => JSON.stringify(line(b, state.votes[b.id])) + "\n");
  const address = URL.createObjectURL(new Blob(rows, { type: "application/jsonl" }));
  el("a", { href: address, download: `votes-${data.design}-${state.name.replace(/[^\p{L}\p{N}-]+/gu, "_")}.jsonl` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
}

const choiceOf = (b, row) => (row.skipped ? "skip" : row.winner === "tie" ? (row.both_bad ? "bad" : "tie")
  : { [`model_${sides(b).left}`]: "left", [`model_${sides(b).right}`]: "right" }[row.winner]);

// Votes of a saved file; where this browser has a vote on the same battle, its own stays.
async function open(file) {
  let rows;
  try {
    rows = (await file.text()).split("\n").filter((text) => text.trim()).map((text) => JSON.parse(text));
  } catch {
    return say(`${file.name} is not a file that this page saved.`);
  }
  const who = rows[0]?.annotator;
  if (!rows.length || rows.some((row) => row?.design !== data.design || row.annotator !== who) || typeof who !== "string" || !who.trim())
    return say(`${file.name} holds no votes on the battles of this page.`);
  if (state.name && who !== state.name) return say(`${file.name} holds the votes of ${who}, and you are ${state.name}.`);
  if (!state.name) begin(who);
  const byId = new Map(rows.map((row) => [row.id, row]));
  const read = data.battles.filter((b) => byId.has(b.id)).map((b) => [b.id, choiceOf(b, byId.get(b.id))]).filter(([, choice]) => Object.hasOwn(CHOICES, choice));
  state.votes = { ...Object.fromEntries(read), ...state.votes };
  keep(votesKey(), JSON.stringify(state.votes));
  begin(who);
  say(`${count(read.length)} votes were read from ${file.name}.`);
}

function start() {
  for (const part of ["#battle", "#end", "#votes", "#progress"]) $(part).hidden = true;
  $("#start").hidden = false;
  $("#tools").replaceChildren(button("Open votes", "", () => $("#file").click()));
  $("#name").value = state.name;
  state.name = "";
  $("#name").focus();
}

const KEYS = { u: back, Backspace: back, m: toggle, ...Object.fromEntries(Object.entries(CHOICES).map(([choice, { key }]) => [key, () => vote(choice)])) };

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, textarea, select");
  if (typing || event.repeat || event.ctrlKey || event.metaKey || event.altKey || $("#votes").hidden) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const action = Object.hasOwn(KEYS, key) ? KEYS[key] : null;
  const votes = Object.values(CHOICES).some((choice) => choice.key === key);
  if (!action || (votes && state.at >= data.battles.length)) return;
  event.preventDefault();
  action();
});
$("#start form").addEventListener("submit", (event) => {
  event.preventDefault();
  const who = $("#name").value.trim();
  if (who) begin(who);
});
$("#file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  if (file) open(file);
  event.target.value = "";
});
$("footer").append(`${count(data.battles.length)} battles, design ${data.design}. Made by arena-rm ${data.version}. This page sends nothing anywhere.`);
const last = kept(LAST);
if (last) begin(last);
else start();
