"""The one record of what a judge said: written and read back, refused where it was edited, and the same as before."""

import json
import math
import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness_plugin import harness
from harness_plugin.cli.score import table
from harness_plugin.errors import DataError
from harness_plugin.files.rows import whole_rows
from harness_plugin.gate import Reading, Rules, run_gate
from harness_plugin.judges import open_judge
from harness_plugin.model.calibration import Calibration
from harness_plugin.pairs import Pair, Winner, pairs_from_rows, write_pairs
from harness_plugin.report.gate_text import document
from harness_plugin.scoring import Judgement
from harness_plugin.scoring import judgement as judgement_file
from harness_plugin.scoring.judge_metrics import accuracies_by, judge_metrics
from harness_plugin.scoring.judgement import joined, judged, judged_identical, read_judgements, sound_judgements
from harness_plugin.scoring.judgement_arrays import judgement_arrays
from harness_plugin.scoring.judgement_rows import SCHEMA, row_checksum
from harness_plugin.tournament import leaderboard

BEFORE = Path(__file__).parent / "before"
CALIBRATION = Calibration(1.5, 0.5)


def made(count=40, head=1, orders="both", seed=0, calibration=CALIBRATION) -> list[Judgement]:
    """Judgements of made-up pairs from logits that are drawn."""
    rng = random.Random(seed)
    winners = [*Winner, None]
    pairs = [
        Pair(
            f"ask {n // 2}", f"one {n}", "two" * n, id=f"p{n}", winner=winners[n % 4], model_a="heron", model_b="stork"
        )
        for n in range(count)
    ]
    z = [[tuple(rng.gauss(0, 2) for _ in range(head)) for _ in pairs] for _ in range(2)]
    reading = [{"tokens": n, "truncated": n % 3 == 0, "kept": {"prompt": (n, n + 1)}} for n in range(count)]
    first = None if orders == "ba" else z[0]
    second = None if orders == "ab" else z[1]
    return judged(pairs, first, second, calibration, "0123456789abcdef", reading)


def stored(name: str) -> list[Judgement]:
    return list(read_judgements(whole_rows(BEFORE / name)))


# -- the record -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said", [{"category": "", "model_a": ""}, {"prompt_id": 5}, {"prompt_id": ""}, {"prompt_id": ["a"]}, {"key": 1}]
)
def test_whatever_a_file_says_of_a_pair_its_judgement_is_read_back(said):
    (pair,) = pairs_from_rows([{"prompt": "Hi", "response_a": "a", "response_b": "b", **said}]).pairs
    (judgement,) = judged([pair], [(0.5,)], [(-1.0,)], CALIBRATION, "0123456789abcdef")
    assert Judgement.from_row(json.loads(json.dumps(judgement.to_row()))) == judgement
    assert (judgement.prompt_id, judgement.category, judgement.model_a) == (pair.prompt_key, None, None)


@pytest.mark.parametrize("orders", ["both", "ab", "ba"])
@pytest.mark.parametrize("head", [1, 3])
def test_what_is_written_is_read_back_as_it_was(head, orders):
    for judgement in made(head=head, orders=orders):
        row = json.loads(json.dumps(judgement.to_row(), allow_nan=False))
        assert row["schema"] == SCHEMA and Judgement.from_row(row) == judgement
        assert judgement.orders == orders and sum(judgement.p) == pytest.approx(1)
        assert np.exp(judgement.log_p).tolist() == pytest.approx(judgement.p)


def test_a_row_leaves_out_what_is_not_known():
    (judgement,) = judged([Pair("ask", "one", "two")], [(1.0,)], None, Calibration(), "x")
    row = judgement.to_row()
    assert row["z_ba"] is None and row["position_bias"] is None and row["p_tie"] == 0
    assert not {"winner", "category", "model_a", "model_b", "prompt_id", "identical"} & set(row)
    assert list(row)[:3] == ["schema", "id", "key"]


def test_a_text_against_itself_needs_no_judge():
    judgement = judged_identical(Pair("ask", "same", "same", model_a="a", model_b="b"), CALIBRATION, "x")
    assert (judgement.score, judgement.position_bias, judgement.preferred) == (0.0, None, None)
    assert judgement.p_a == judgement.p_b == pytest.approx(1 / 2.5) and judgement.win_b == 0.5
    assert Judgement.from_row(judgement.to_row()) == judgement


def test_win_b_is_the_probability_of_b_and_half_a_tie():
    for judgement in made():
        assert judgement.win_b == pytest.approx(judgement.p_b + judgement.p_tie / 2)
        assert judgement.swapped().win_b == pytest.approx(1 - judgement.win_b)
        assert judgement.preferred == ("b" if judgement.p_b > judgement.p_a else "a")


@pytest.mark.parametrize("head", [1, 3])
def test_two_judgements_of_one_order_each_make_one_of_both(head):
    both = made(head=head)
    ab = [replace(j, z_ba=None) for j in both]
    ba = [replace(j, z_ab=None, tokens=0, truncated=False) for j in both]
    for one, whole in zip(joined(ab, ba), both, strict=True):
        assert (one.z_ab, one.z_ba) == (whole.z_ab, whole.z_ba)
        assert [one.score, one.position_bias, *one.p] == pytest.approx([whole.score, whole.position_bias, *whole.p])
    assert joined([], []) == []


@pytest.mark.parametrize("head", [1, 3])
def test_the_order_b_first_says_of_the_exchanged_pair_what_a_first_says(head):
    for judgement in made(head=head, orders="ba"):
        turned = judgement.swapped()
        assert turned.orders == "ab" and Judgement.from_row(turned.to_row()) == turned


def test_the_baseline_of_surface_features_is_computed_once_for_a_text(monkeypatch):
    calls = []
    monkeypatch.setattr(judgement_file, "surface_logit", lambda pair: calls.append(pair.id) or 0.25)
    labelled, bare = Pair("ask", "one", "two", id="x", winner="tie"), Pair("ask", "one", "two", id="y")
    (one,) = judged([labelled], [(1.0,)], [(-1.0,)], Calibration(), "judge")
    assert one.of_pair(replace(labelled, id="z")).surface == 0.25 and calls == ["x"]
    assert one.of_pair(bare).surface is None
    assert one.of_pair(bare).of_pair(labelled).surface == 0.25 and calls == ["x", "x"]


DAMAGES = {
    "a probability": {"p_b": 0.99},
    "all probabilities": {"p_a": 0.98, "p_b": 0.01, "p_tie": 0.01},
    "the score": {"score": 3.0},
    "the position bias": {"position_bias": 0.0},
    "a logit": {"z_ab": 9.0},
    "the temperature": {"temperature": 3.0},
    "the tie mass": {"tie_nu": 0.0},
    "an order left out": {"z_ba": None},
    "a logit too many": {"z_ab": [1.0, 2.0]},
    "heads of two sizes": {"z_ba": [1.0, 2.0, 3.0]},
    "a text for a number": {"score": "1.0"},
    "a true for a number": {"p_tie": True},
    "not a number": {"score": math.nan},
    "infinity": {"z_ab": math.inf},
    "a probability above one": {"p_a": 1.5},
    "a temperature of zero": {"temperature": 0},
    "no judge": {"judge": None},
    "an empty key": {"key": ""},
    "an unknown winner": {"winner": "model_c"},
    "a flag that is none": {"truncated": "yes"},
    "kept that is no pair": {"kept": {"prompt": [1]}},
    "a length below zero": {"length_a": -1},
    "an unknown schema": {"schema": 99},
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_row_that_was_edited_or_damaged_is_refused_with_its_place(damage):
    good = [("file row 1", made()[5].to_row()), ("file row 2", made()[6].to_row() | DAMAGES[damage])]
    with pytest.raises(DataError, match="file row 2") as caught:
        list(read_judgements(good))
    assert "\n" not in str(caught.value)


def test_a_judgement_moves_by_rounding_only():
    row = made()[0].to_row()
    near = row | {"p_b": row["p_b"] + 1e-8}
    assert Judgement.from_row(near | {"checksum": row_checksum(near)}).p_b != row["p_b"]
    with pytest.raises(DataError, match=r"p_b is .* but the logits give"):
        Judgement.from_row(row | {"p_b": row["p_b"] + 1e-4})


@pytest.mark.parametrize("changes", [{"winner": "tie"}, {"length_b": 7}, {"prompt_key": "other"}, {"key": "0" * 16}])
def test_a_row_that_was_edited_is_refused_where_its_numbers_agree_too(changes):
    row = next(j for j in made() if j.winner).to_row()
    assert Judgement.from_row(json.loads(json.dumps(row))).to_row() == row
    exchanged = {"z_ab": row["z_ba"], "z_ba": row["z_ab"], "p_a": row["p_b"], "p_b": row["p_a"], "score": -row["score"]}
    for edited in (row | changes, row | exchanged, {name: value for name, value in row.items() if name != "checksum"}):
        with pytest.raises(DataError, match="the row was edited or damaged after it was written"):
            Judgement.from_row(edited)


def test_damaged_rows_are_left_out_and_said(caplog):
    good, bad = (j.to_row() for j in made(2))
    rows = [("line 1", good), ("line 2", bad | {"winner": "tie"}), ("line 3", {})]
    assert [j.key for j in sound_judgements(rows, "the file")] == [good["key"]]
    (message,) = (r.getMessage() for r in caplog.records)
    assert message.startswith("arena_rm: 2 rows of the file are damaged and are judged again (the first: line 2: ")


def test_arrays_hold_what_the_judgements_say():
    judgements = made(30)
    c = judgement_arrays(judgements, models=["ibis"])
    assert c.models == ["heron", "ibis", "stork"] and len(c) == 30
    assert set(c.i.tolist()) == {0} and set(c.j.tolist()) == {2}
    assert c.p.shape == (30, 3) and c.win_b.tolist() == [j.win_b for j in judgements]
    assert c.winners.tolist() == [0, 1, 2, -1] * 7 + [0, 1]
    part = c[c.winners == 2]
    assert len(part) == 7 and part.models == c.models and part.lengths.shape == (7, 2)
    empty = judgement_arrays([])
    assert len(empty) == 0 and empty.p.shape == (0, 3) and empty.lengths.shape == (0, 2)


# -- the same numbers as before ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["scores.jsonl", "scores_one_order.jsonl", "scores_three_logits.jsonl"])
def test_score_files_of_version_0_1_0_are_read(name):
    rows = [row for _, row in whole_rows(BEFORE / name)]
    for row, judgement in zip(rows, stored(name), strict=True):
        again = judgement.to_row()
        rescaled = {"score", "position_bias"} if isinstance(row["z_ab"], list) else set()
        assert {field: again[field] for field in row.keys() - rescaled} == {
            field: value for field, value in row.items() if field not in rescaled
        }
        for field in rescaled:  # of three logits they were divided by the temperature, 1.5
            assert again[field] == pytest.approx(1.5 * row[field])


def test_the_summary_of_a_score_file_is_what_it_was(pairs):
    """All but the position bias, which is now in raw logits as everywhere: it was divided by the temperature, 1.5."""
    judgements = stored("scores.jsonl")
    texts = [("".join(p.response_a), "".join(p.response_b)) for p in pairs]
    with_lengths = [replace(j, length_a=len(a), length_b=len(b)) for j, (a, b) in zip(judgements, texts, strict=True)]
    labelled = [j for j in with_lengths if j.winner is not None]
    lines = table(judge_metrics(labelled), accuracies_by([j.category for j in labelled], labelled)).splitlines()
    before = [line.split() for line in (BEFORE / "summary.txt").read_text(encoding="utf-8").splitlines()[1:]]
    expected = {words[0]: words[1] for words in reversed(before) if len(words) > 1}  # of two tables, the first
    now = {words[0]: words[1] for words in map(str.split, reversed(lines))}
    bias = judge_metrics(labelled)["position_bias"].value
    assert expected.pop("position_bias") == f"{bias / 1.5:.4f}"
    assert {name: now[name] for name in expected if name in now} == {n: v for n, v in expected.items() if n in now}
    assert len(expected.keys() & now.keys()) >= 11


def test_the_logits_and_probabilities_of_a_tiny_judge_are_what_they_were(tiny_spec, tiny_adapter, pairs):
    for name, labels, order in (
        ("scores.jsonl", 1, "both"),
        ("scores_one_order.jsonl", 1, "ab"),
        ("scores_three_logits.jsonl", 3, "both"),
    ):
        spec = tiny_spec("gemma3", peft=str(tiny_adapter("gemma3", manifest=True, num_labels=labels)))
        with open_judge(spec, order=order) as judge:
            now = list(judge.judge(pairs))
        for new, old in zip(now, stored(name), strict=True):
            if new.id == "p11":  # its texts are others now: its answers had fewer turns than its prompt
                continue
            assert (new.id, new.key, new.tokens, new.truncated, new.kept) == (
                old.id,
                old.key,
                old.tokens,
                old.truncated,
                old.kept,
            )
            assert new.z_ab == pytest.approx(old.z_ab, abs=2e-5)  # another CPU rounds float32 otherwise
            assert new.p == pytest.approx(old.p, abs=2e-5)


def test_a_leaderboard_of_stored_verdicts_is_what_it_was():
    """Estimates; their intervals are others now. What is at equal length moves a little: the length feature has one
    scale. The correlation with length is now of both orders of the sides."""
    verdicts = stored("judged/verdicts.jsonl")
    before = json.loads((BEFORE / "judged" / "leaderboard.json").read_text(encoding="utf-8"))
    now = json.loads(json.dumps(leaderboard(verdicts, "heron")))
    for row, old in zip(now["models"], before["models"], strict=True):
        estimates = {k for k in row if k in old and not k.endswith(("_low", "_high"))}
        at_equal_length = {name for name in estimates if "length_controlled" in name}
        assert {"win_rate", "rating", "battles"} < estimates - at_equal_length
        assert {k: row[k] for k in estimates - at_equal_length} == {k: old[k] for k in estimates - at_equal_length}
        known = [name for name in at_equal_length if row[name] is not None]
        assert [row[k] for k in known] == pytest.approx([old[k] for k in known], abs=5e-3)
    intervals = {k for k in now if k.startswith("length_slope") or k.endswith(("_low", "_high"))}
    rest = (now.keys() & before.keys()) - {"models", "head_to_head", "length_correlation"} - intervals
    rates = [[[row[k] for k in ("model", "other", "win_rate")] for row in x["head_to_head"]] for x in (now, before)]
    assert rates[0] == rates[1] and "battles" in rest
    assert {k: now[k] for k in rest} == {k: before[k] for k in rest}


@pytest.mark.parametrize(
    ("old", "new", "reading", "name"),
    [
        ("scores.jsonl", "scores_three_logits.jsonl", Reading(), "gate_scores.json"),
        ("judged", "judged", Reading(model="ibis"), "gate_judged.json"),
    ],
)
def test_the_gate_decides_on_stored_runs_as_it_did(tmp_path, monkeypatch, old, new, reading, name):
    shutil.copytree(BEFORE, tmp_path / "before")
    monkeypatch.chdir(tmp_path / "before")
    now = json.loads(json.dumps(document(run_gate(old, new, Rules(), reading))))
    before = json.loads((BEFORE / name).read_text(encoding="utf-8"))
    assert [now[k] for k in ("items", "kind", "schema")] == [before[k] for k in ("items", "kind", "schema")]
    estimates = ("name", "role", "higher_is_better", "baseline", "current", "difference")
    assert [[m[k] for k in estimates] for m in now["metrics"]] == [[m[k] for k in estimates] for m in before["metrics"]]


def test_lm_evals_metrics_of_stored_log_likelihoods_are_what_they_were():
    rows = [json.loads(line) for line in (BEFORE / "lm_eval.jsonl").read_text(encoding="utf-8").splitlines()]
    docs = [{**row["doc"], "reported": ["category"]} for row in rows]  # they are older than the other marks
    results = [[(ll, False) for ll in row["lls"]] for row in rows]
    records = [harness.process_results_bundled(doc, lls) for doc, lls in zip(docs, results, strict=True)]
    before = json.loads((BEFORE / "lm_eval_metrics.json").read_text(encoding="utf-8"))
    for line in harness.BUNDLED_METRICS:
        name = line["metric"]
        if isinstance(before.get(name), float) and not name.endswith("_stderr"):
            now = line["aggregation"]([record[name] for record in records])
            assert now == pytest.approx(before[name], abs=1e-12, nan_ok=True), name


def test_pairs_are_written_as_before(tmp_path, pairs):
    """What the score files above were made from."""
    write_pairs(tmp_path / "pairs.jsonl", pairs)
    assert [j.id for j in stored("scores.jsonl")] == [p.id for p in pairs]
