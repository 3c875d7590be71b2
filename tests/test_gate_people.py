"""With people's labels the gate decides whether new answers are worse for people, from answers that changed."""

import json
import random
from dataclasses import replace
from functools import partial

import pytest
from commands import code_of
from tournament_rows import alpaca, judged_by_length

from harness_plugin.cli import judge as judge_command
from harness_plugin.errors import DataError, UsageError
from harness_plugin.gate import Reading, Rules, State, baseline_text, gate_runs, run_gate
from harness_plugin.gate.duel import duel_answers, duel_runs
from harness_plugin.gate.people import read_votes
from harness_plugin.gate.readers.any_run import read_run
from harness_plugin.report.gate_text import document, markdown, terminal
from harness_plugin.report.junit import junit
from harness_plugin.tournament import battles, gather, leaderboard, summary

PROMPTS = [f"Question {n}?" for n in range(300)]


@pytest.fixture
def duel(tmp_path):
    """duel(changed) -> (runs, battles): the old and the new answers of one chatbot, judged by a judge of length."""

    def make(changed=120):
        rng = random.Random(0)
        old = {p: "word " * rng.randint(3, 30) for p in PROMPTS}
        new = {p: f"{a}more " * rng.randint(1, 2) if n < changed else a for n, (p, a) in enumerate(old.items())}
        files = [alpaca(tmp_path, None, answers, f"{name}.json") for name, answers in (("old", old), ("new", new))]
        found = battles(duel_answers(*files), None, None)
        return duel_runs(found, judged_by_length(found).verdicts), found

    return make


def labelled(path, found, better=0.5, count=100, seed=0, **more):
    """A file of votes on battles that changed, of which this share says that the new answer is better."""
    rng, rows = random.Random(seed), []
    for k, pair in enumerate(sorted(found.pairs, key=lambda p: rng.random())[:count]):
        new = "model_a" if pair.model_a == "new" else "model_b"
        old = "model_b" if new == "model_a" else "model_a"
        row = {**pair.to_dict(), "winner": new if k < better * count else old, **more}
        rows.append(json.dumps({name: value for name, value in row.items() if name not in ("meta", "id")}))
    path.write_text("\n".join(rows) + "\n", "utf-8")
    return str(path)


def decided(runs, labels, **rules):
    rules = Rules(**{"margin": 0.1} | rules)
    votes = partial(read_votes, labels, rules)
    return gate_runs(lambda: runs, rules, Reading(), ("old", "new"), votes=votes)


def test_a_duel_of_a_file_with_itself_is_refused_by_whatever_path_it_is_named(tmp_path):
    file = alpaca(tmp_path, None, {"Hi": "Hello."}, "old.json")
    (tmp_path / "link.json").symlink_to(file)
    for again in (file, f"{tmp_path}/../{tmp_path.name}/old.json", f"{tmp_path}/link.json", f"{tmp_path}/"):
        with pytest.raises(UsageError, match="share a file; a duel has two sides"):
            duel_answers(file, again)


def test_people_decide_and_the_judge_stands_beside_them(duel, tmp_path):
    runs, found = duel()
    same, worse = (labelled(tmp_path / f"{share}.jsonl", found, share) for share in (0.5, 0.1))
    judge = gate_runs(lambda: runs, Rules(margin=0.1), Reading(), ("old", "new"))
    passed = decided(runs, same)
    assert passed.state == State.PASS and passed.exit_code == 0
    first, second = passed.decision.measured[:2]
    assert (first.name, second.name, second.role) == ("win_rate_people", "win_rate", "secondary")
    assert second.difference == judge.decision.deciding[0].difference and second.margin is None
    assert first.test.n == 300 and abs(first.difference) < 0.03 and first.before == 0.5
    assert passed.worst == judge.worst
    failed = decided(runs, worse)
    assert failed.state == State.REGRESSION and failed.exit_code == 1
    assert failed.decision.deciding[0].difference == pytest.approx(0.4 * (0.1 - 0.5), abs=0.03)


def test_people_decide_where_every_answer_changed(duel, tmp_path):
    runs, found = duel(len(PROMPTS))
    assert not found.identical
    result = decided(runs, labelled(tmp_path / "l.jsonl", found, better=1.0))
    assert result.state == State.PASS and result.decision.deciding[0].name == "win_rate_people"


def test_labels_of_what_changed_say_more_than_as_many_of_everything(duel, tmp_path):
    runs, found = duel()
    result = decided(runs, labelled(tmp_path / "l.jsonl", found, 0.5))
    by_people = result.decision.by_people
    assert (by_people.labels, by_people.changed) == (100, 120) and by_people.equal
    half = (result.decision.deciding[0].high - result.decision.deciding[0].low) / 2
    assert half < 0.04, "of 100 labels of any prompts it would be 0.08"


def test_what_is_printed_says_what_it_rests_on(duel, tmp_path):
    runs, found = duel()
    result = decided(runs, labelled(tmp_path / "l.jsonl", found, annotator="ann"))
    said = terminal(result)
    assert said.startswith("pass: a drop of 0.1 or more in win_rate_people is ruled out")
    assert "people judged 100 of the 120 answers that changed" in said and "no column sampling_probability" in said
    told = document(result)
    assert told["people"]["labels"] == 100 and told["people"]["probabilities"] == "equal"
    assert told["people"]["annotators"] == 1 and told["metrics"][0]["name"] == "win_rate_people"
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert "win\\_rate\\_people" in markdown(result) or "win_rate_people" in markdown(result)
    assert "win_rate_people" in junit(result)
    plain = gate_runs(lambda: runs, Rules(margin=0.1), Reading(), ("old", "new"))
    assert document(plain)["people"] is None and "people judged" not in terminal(plain)


def test_votes_on_an_older_version_of_an_answer_are_counted_and_said(duel, tmp_path):
    runs, found = duel()
    labels = tmp_path / "l.jsonl"
    labelled(labels, found, count=50)
    rows = [json.loads(line) for line in labels.read_text("utf-8").splitlines()]
    older = [{**row, "response_a": "An earlier answer.", "annotator": "ann"} for row in rows[:7]]
    swapped = {"response_a": rows[9]["response_b"], "response_b": rows[9]["response_a"], "winner": "tie"}
    more = [*older, older[0], {**rows[9], **swapped}]
    labels.write_text("".join(json.dumps(row) + "\n" for row in (*rows, *more)), "utf-8")
    result = decided(runs, str(labels))
    by_people = result.decision.by_people
    assert (by_people.labels, by_people.voted, by_people.unused) == (50, 57, 7)
    assert "7 of 57 battles with votes do not count" in terminal(result)
    assert document(result)["people"]["battles_unused"] == 7
    labelled(labels, found, count=50)
    assert "do not count" not in terminal(decided(runs, str(labels)))


def test_a_read_of_votes_names_their_columns_as_used(duel, tmp_path, caplog):
    caplog.set_level("INFO", "lm_eval.arena_rm")
    votes = labelled(tmp_path / "l.jsonl", duel()[1], annotator="ann", sampling_probability=0.5)
    read_votes(votes, Rules())
    assert "sampling_probability, annotator" in (said := caplog.messages[-1]).partition("columns not used")[0], said


def test_few_labels_are_bounded_safely_and_say_how_many_are_needed(duel, tmp_path):
    runs, found = duel()
    result = decided(runs, labelled(tmp_path / "l.jsonl", found, 0.5, 8), margin=0.05)
    measured, by_people = result.decision.deciding[0], result.decision.by_people
    assert result.state == State.INCONCLUSIVE and measured.low < -0.05 and by_people.judge_weight == 0
    assert 50 < by_people.needed <= 120
    assert f"about {by_people.needed} labels would be enough" in terminal(result)
    assert "the labels alone decide" in terminal(result)
    hopeless = decided(runs, labelled(tmp_path / "l.jsonl", found, 0.5, 8), margin=0.005)
    assert hopeless.decision.by_people.needed is None and "not even all answers" in terminal(hopeless)
    all_worse = decided(runs, labelled(tmp_path / "w.jsonl", found, 0.0, 8), margin=0.05)
    assert all_worse.state == State.REGRESSION and all_worse.decision.deciding[0].test.p == 2**-8


@pytest.mark.parametrize(("better", "count"), [(1.0, 1), (1.0, 12), (0.0, 50)])
def test_one_label_and_labels_that_are_all_the_same_do_not_say_how_many_are_needed(duel, tmp_path, better, count):
    runs, found = duel()
    result = decided(runs, labelled(tmp_path / "l.jsonl", found, better, count), margin=0.05)
    assert result.decision.by_people.needed is None and "do not say how many" in terminal(result)
    told = document(result)
    assert json.loads(json.dumps(told, allow_nan=False)) == told and "nan" not in terminal(result)
    assert result.decision.deciding[0].test.p <= 1


def test_the_test_of_few_labels_undoes_unequal_probabilities_too(duel, tmp_path):
    runs, found = duel()
    rows = []
    for k, pair in enumerate(sorted(found.pairs, key=lambda p: p.id)[:30]):
        worse = k < 20  # drawn far more often: they stand for fewer answers than the other ten
        new = "model_a" if pair.model_a == "new" else "model_b"
        old = "model_b" if new == "model_a" else "model_a"
        row = {**pair.to_dict(), "winner": old if worse else new, "sampling_probability": 0.9 if worse else 0.1}
        rows.append(json.dumps({name: value for name, value in row.items() if name not in ("meta", "id")}))
    path = tmp_path / "l.jsonl"
    path.write_text("\n".join(rows) + "\n", "utf-8")
    test = decided(runs, str(path)).decision.deciding[0].test
    assert test.difference > 0 and test.p > 0.5


def test_unequal_probabilities_are_undone(duel, tmp_path):
    runs, found = duel(200)
    path, rng, rows = tmp_path / "l.jsonl", random.Random(1), []
    for pair in found.pairs:
        better = rng.random() < 0.5
        chance = 0.9 if better else 0.3  # who draws knows what people like
        if rng.random() < chance:
            new = "model_a" if pair.model_a == "new" else "model_b"
            old = "model_b" if new == "model_a" else "model_a"
            row = {**pair.to_dict(), "winner": new if better else old, "sampling_probability": chance}
            rows.append(json.dumps({name: value for name, value in row.items() if name not in ("meta", "id")}))
    path.write_text("\n".join(rows) + "\n", "utf-8")
    weighed = decided(runs, str(path)).decision
    assert abs(weighed.deciding[0].difference) < 0.06 and not weighed.by_people.equal
    path.write_text(path.read_text("utf-8").replace("sampling_probability", "else"), "utf-8")
    assert decided(runs, str(path)).decision.deciding[0].difference > 0.1


def test_nothing_that_changed_is_nothing_to_label_and_labels_of_nothing_that_changed_are_an_error(duel, tmp_path):
    _, found = duel(40)
    labels = labelled(tmp_path / "l.jsonl", found)
    runs, _ = duel(0)
    result = decided(runs, labels)
    assert result.state == State.PASS and "no answer changed, so there is nothing to label" in terminal(result)
    runs, _ = duel(40)
    other = tmp_path / "other.jsonl"
    other.write_text('{"prompt": "Bye", "response_a": "a", "response_b": "b", "winner": "tie"}\n', "utf-8")
    result = decided(runs, str(other))
    assert result.exit_code == 3 and "none of the votes in" in result.reason
    with pytest.raises(UsageError, match="--metric with --labels"):
        decided(runs, labels, metrics=("win_rate",))


# -- two judged runs ---------------------------------------------------------------------------------------------------


@pytest.fixture
def judged(tmp_path):
    """judged(name, answers) -> the folder of a run of these answers of a chatbot against those of a rival."""
    rng = random.Random(5)
    rival = {p: "word " * rng.randint(3, 30) for p in PROMPTS}

    def make(name, answers):
        folder = tmp_path / name
        folder.mkdir()
        files = [alpaca(folder, model, given, f"{model}.json") for model, given in (("it", answers), ("rival", rival))]
        found = battles(gather(files), "rival")
        verdicts = judged_by_length(found).verdicts
        (folder / "verdicts.jsonl").write_text("".join(json.dumps(v.to_row()) + "\n" for v in verdicts), "utf-8")
        board = summary(leaderboard(verdicts, "rival", found.models), found, {"hash": "0123456789abcdef"})
        (folder / "leaderboard.json").write_text(json.dumps(board), "utf-8")
        return str(folder), found

    return make


def test_two_judged_runs_need_votes_on_both_battles_of_an_answer_that_changed(judged, tmp_path):
    rng = random.Random(6)
    old = {p: "word " * rng.randint(3, 30) for p in PROMPTS}
    new = {p: f"{a}more" if n < 80 else a for n, (p, a) in enumerate(old.items())}
    (before, first), (after, second) = judged("before", old), judged("after", new)
    rows = []
    for found, wins in ((first, 0.8), (second, 0.3)):
        for pair in sorted(found.pairs, key=lambda p: p.prompt):
            won = rng.random() < wins
            winner = "model_b" if won == (pair.model_b == "it") else "model_a"
            rows.append(json.dumps({**replace(pair, meta={}).to_dict(), "winner": winner, "id": f"{len(rows)}"}))
    labels = tmp_path / "votes.jsonl"
    labels.write_text("\n".join(rows) + "\n", "utf-8")
    result = run_gate(before, after, Rules(margin=0.05), Reading(model="it", labels=str(labels)))
    assert result.state == State.REGRESSION, result.reason
    measured = result.decision.deciding[0]
    assert measured.difference == pytest.approx(80 / 300 * -0.5, abs=0.04) and result.decision.by_people.labels == 80
    said = terminal(result)
    assert said.splitlines()[0].startswith("regression: win_rate_people got worse by 0.1") and "nan" not in said
    by_people = result.decision.by_people
    assert by_people.voted == len({min(p.key, p.swap().key) for p in (*first.pairs, *second.pairs)})
    assert 150 < by_people.voted - by_people.unused <= 160, "two battles of each answer that changed"
    assert document(result)["metrics"][0]["baseline"] is None
    half = tmp_path / "half.jsonl"
    half.write_text("\n".join(rows[: len(first.pairs)]) + "\n", "utf-8")
    alone = run_gate(before, after, Rules(margin=0.05), Reading(model="it", labels=str(half)))
    assert alone.exit_code == 3 and "none of the votes" in alone.reason


def test_the_command_reads_labels_and_refuses_them_with_an_early_stop(judged, tmp_path, capsys):
    old = dict.fromkeys(PROMPTS, "a b")
    (before, _), (after, second) = judged("before", old), judged("after", {p: f"{a} c" for p, a in old.items()})
    labels = labelled(tmp_path / "l.jsonl", second)
    assert code_of(["gate", before, after, "--model", "it", "--labels", labels]) == 3
    assert "none of the votes in" in capsys.readouterr().out
    assert code_of(["gate", "duel", "a", "b", "--labels", labels, "--stop-when", "clear"]) == 2
    assert "--labels with --stop-when" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        ('{"prompt": "Question 1?", "response_a": "a", "response_b": "b"}', 3, "has a winner"),
        ('{"prompt": "Bye", "response_a": "a", "response_b": "b", "winner": "tie"}', 3, "none of the votes in"),
        ("no rows", 3, "is not JSON"),
        (None, 3, "votes.jsonl"),
    ],
)
def test_a_duel_reads_the_votes_before_anything_is_judged(tmp_path, monkeypatch, capsys, content, code, said):
    monkeypatch.setattr(judge_command, "judging", lambda *arguments: pytest.fail("the judge was opened"))
    files = [alpaca(tmp_path, None, dict.fromkeys(PROMPTS[:9], text), f"{text}.json") for text in ("old", "new")]
    labels = tmp_path / "votes.jsonl"
    if content is not None:
        labels.write_text(content + "\n", "utf-8")
    assert code_of(["gate", "duel", *files, "--labels", str(labels)]) == code
    assert said in capsys.readouterr().err
    for arguments in (["--labels", str(labels), "--metric", "win_rate"], ["--metric", "acc"]):
        assert code_of(["gate", "duel", *files, *arguments]) == 2


def test_a_judged_run_has_no_scored_pairs_and_a_baseline_one_chatbot(judged, tmp_path, capsys):
    before, _ = judged("before", dict.fromkeys(PROMPTS, "a b"))
    blessed = str(tmp_path / "blessed.jsonl")
    assert code_of(["gate", "bless", before, "-o", blessed, "--model", "it"]) == 0
    for named in (["--baseline-model", "it"], []):
        assert code_of(["gate", blessed, before, "--model", "it", *named, "--margin", "0.05"]) == 0
    for wrong, said in (
        (["--baseline-model", "other"], "its chatbot is 'it'"),
        (["--pairs", "pairs.jsonl"], "it gives the texts of a file of `arena-rm score`"),
        (["--task", "arena_pairs"], "it chooses a task in results of lm-eval"),
    ):
        capsys.readouterr()
        assert code_of(["gate", blessed, before, "--model", "it", *wrong]) == 2
        assert said in capsys.readouterr().err


def test_a_baseline_file_has_no_battles(judged, tmp_path):
    old = dict.fromkeys(PROMPTS, "a b")
    before, _ = judged("before", old)
    after, found = judged("after", {**old, PROMPTS[0]: "c"})
    blessed = tmp_path / "blessed.jsonl"
    blessed.write_text(baseline_text(read_run(before, None, "it"), False), "utf-8")
    labels = labelled(tmp_path / "l.jsonl", found)
    with pytest.raises(UsageError, match="only judged answers have battles"):
        run_gate(str(blessed), after, Rules(), Reading(model="it", labels=labels))


def test_labels_may_have_other_columns_and_words(duel, tmp_path):
    runs, found = duel()
    path = tmp_path / "l.jsonl"
    plain = decided(runs, labelled(path, found, 0.1))
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    words = {"model_a": "A", "model_b": "B"}
    own = [{"verdict": words[row.pop("winner")], **row} for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in own), "utf-8")
    votes = read_votes(str(path), Rules(), {"winner": "verdict"}, {"A": "model_a", "B": "model_b"})
    again = gate_runs(lambda: runs, Rules(margin=0.1), Reading(), ("old", "new"), votes=lambda: votes)
    assert terminal(again) == terminal(plain)


def test_an_error_in_labels_speaks_only_of_options_that_the_commands_have(tmp_path):
    path = tmp_path / "l.jsonl"
    path.write_text('{"prompt": "q", "response_a": "x", "response_b": "y", "winner": "L"}\n', "utf-8")
    with pytest.raises(DataError, match=r"--winner-map.*correct the row$"):
        read_votes(str(path), Rules())


def test_how_labels_are_read_needs_labels(capsys):
    for option in (("--field", "winner=verdict"), ("--winner-map", "A=model_a")):
        for command in (("gate", "check"), ("gate", "duel")):
            assert code_of([*command, "old", "new", *option]) == 2
            assert f"{option[0]} without --labels" in capsys.readouterr().err
