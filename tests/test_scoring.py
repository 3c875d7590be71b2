"""Pairs become records: in input order, each presentation scored once, and a killed run loses nothing."""

import json
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch

import harness_plugin.scoring.presentations as scoring
from harness_plugin.engine import Engine
from harness_plugin.errors import DataError, ScoreError, UsageError
from harness_plugin.files.journal import Journal
from harness_plugin.model import load_model
from harness_plugin.model.calibration import Calibration
from harness_plugin.pairs import Pair, Winner
from harness_plugin.scoring.identity import identity_hash
from harness_plugin.scoring.presentations import outcomes_of, output_row, score_pairs, score_row

CALIBRATION = Calibration(1.5, 0.5)
HEADER = {"judge": "one", "order": "both", "calibration": [1.5, 0.5]}


@pytest.fixture(scope="module")
def model(tiny_base, tiny_adapter):
    from harness_plugin.model import ModelSpec

    names = {"pretrained": str(tiny_base("gemma2")), "peft": str(tiny_adapter("gemma2"))}
    return load_model(ModelSpec(**names, dtype="float32", device="cpu", truncation="budget"))


@pytest.fixture
def score(model):
    """score(pairs, order="both", done=None) -> list of records."""
    return lambda pairs, order="both", done=None: list(score_pairs(Engine(model), model.renderer, pairs, order, done))


# -- scores ---------------------------------------------------------------------------------------------------------


def test_records_come_in_input_order_with_the_logits_of_their_presentations(model, score, pairs):
    records = score(pairs)
    assert [r.pair for r in records] == pairs
    for record in records:
        views = model.renderer.render_orders(record.pair)
        z = Engine(model).logits([v.ids for v in views])[:, 0]
        assert [*record.z_ab, *record.z_ba] == pytest.approx(z, abs=1e-5)
        assert record.tokens == sum(len(v.ids) for v in views)
        assert record.truncated == any(v.truncated for v in views)
        first = views[0]
        assert record.kept == {n: (getattr(first, n).kept, getattr(first, n).original) for n in record.kept}
    assert {r.truncated for r in records} == {True, False}


def test_with_one_order_a_pair_is_scored_as_it_stands(score, pairs):
    records, both = score(pairs, "ab"), score(pairs)
    assert all(r.z_ba is None for r in records)
    assert [r.z_ab[0] for r in records] == pytest.approx([r.z_ab[0] for r in both], abs=1e-5)
    with pytest.raises(UsageError, match="order='ba'"):
        score(pairs, "ba")


def test_chunks_change_neither_order_nor_scores(score, pairs, monkeypatch):
    whole = score(pairs)
    monkeypatch.setattr(scoring, "CHUNK", 4)
    chunked = score(pairs)
    assert [r.pair.id for r in chunked] == [r.pair.id for r in whole]
    assert [r.z_ab[0] for r in chunked] == pytest.approx([r.z_ab[0] for r in whole], abs=1e-5)


def test_the_same_presentation_is_scored_once(model, pairs):
    engine = tiny.counted(model)
    same = Pair("ask", "one", "one", id="same")
    asked = [pairs[0], replace(pairs[0], id="again"), pairs[0].swap(), same, pairs[1]]
    records = list(score_pairs(engine, model.renderer, asked))
    assert len(engine.asked) == 1 and len(engine.asked[0]) == len(set(engine.asked[0])) == 5
    assert [r.pair.id for r in records] == ["p0", "again", "p0", "same", "p1"]
    assert records[0].z_ab == records[1].z_ab and records[3].z_ab == records[3].z_ba


def test_exchanging_the_sides_of_a_pair_mirrors_its_scores_exactly(score, pairs):
    records = score([p for pair in pairs for p in (pair, pair.swap())])
    for one, other in zip(records[::2], records[1::2], strict=True):
        assert (one.z_ab, one.z_ba) == (other.z_ba, other.z_ab)
        a, b = score_row(one, CALIBRATION), score_row(other, CALIBRATION)
        assert (a["score"], a["p_a"], a["p_b"], a["p_tie"]) == (-b["score"], b["p_b"], b["p_a"], b["p_tie"])
        assert a["position_bias"] == b["position_bias"]
    apart = zip(score(pairs), score([p.swap() for p in pairs]), strict=True)
    assert all(one.z_ab[0] == pytest.approx(other.z_ba[0], abs=1e-5) for one, other in apart)


def test_a_pair_with_equal_responses_is_nobodys(score):
    row = score_row(score([Pair("ask", "the same", "the same")])[0], CALIBRATION)
    assert row["score"] == 0 and row["p_a"] == row["p_b"]


def test_outcomes_are_those_of_the_records(score, pairs):
    records = score(pairs)
    o = outcomes_of(records, CALIBRATION)
    rows = [score_row(r, CALIBRATION) for r in records]
    assert [row["p_b"] for row in rows] == o.p[:, 1].tolist()
    assert [row["score"] for row in rows] == o.s.tolist()
    assert np.isnan(outcomes_of(score(pairs, "ab"), CALIBRATION).bias).all()


def test_progress_counts_pairs_to_the_last(score, pairs, monkeypatch):
    monkeypatch.setattr(scoring, "CHUNK", 8)
    for order in ("ab", "both"):
        steps = []
        score([*pairs, *pairs[:3]], order, steps.append)
        assert sum(steps) == pytest.approx(len(pairs) + 3)


def test_pairs_whose_logits_are_not_numbers_are_named_and_no_others(tiny_spec):
    model = load_model(tiny_spec("gemma2", truncation="budget"))
    fox = model.renderer.tokenizer("🦊", add_special_tokens=False).input_ids[0]
    with torch.no_grad():
        model.network.get_input_embeddings().weight[fox] = torch.nan
    asked = [Pair("ask", "one", "two" + "🦊" * (n % 3 == 1), id=f"row{n}") for n in range(8)]
    with pytest.raises(ScoreError, match=r"pairs row1, row4, row7; the weights .*embed_tokens") as caught:
        list(score_pairs(Engine(model), model.renderer, asked))
    assert "row0" not in str(caught.value)
    many = [Pair("ask 🦊", f"{n}", "two", id=f"row{n}") for n in range(8)]
    with pytest.raises(ScoreError, match=r"row0, row1, row2, row3, row4\b(?!.*row5).*; the weights"):
        list(score_pairs(Engine(model), model.renderer, many))


# -- rows -------------------------------------------------------------------------------------------------------------


def test_a_row_says_what_the_pair_and_its_scores_are(score, pairs):
    record = score(pairs[:1])[0]
    row = output_row(record.pair, score_row(record, CALIBRATION), "0123")
    assert next(iter(row)) == "id" and row["id"] == "p0" and row["winner"] == "model_a" and row["judge"] == "0123"
    assert row["z_ab"] == record.z_ab[0] and row["z_ba"] == record.z_ba[0]
    assert row["score"] == (record.z_ab[0] - record.z_ba[0]) / 2
    assert row["p_a"] + row["p_b"] + row["p_tie"] == pytest.approx(1)
    assert row["key"] == pairs[0].key and row["prompt_key"] == pairs[0].prompt_key
    assert {"tokens", "truncated", "kept", "category", "model_a", "model_b"} <= set(row)
    assert json.loads(json.dumps(row)) == row


def test_a_row_leaves_out_what_the_input_did_not_know_and_says_null_for_an_order_not_scored(score):
    bare = Pair("ask", "one", "two")
    row = output_row(bare, score_row(score([bare], "ab")[0], Calibration()), "x")
    assert row["z_ba"] is None and row["position_bias"] is None and row["p_tie"] == 0
    assert not {"winner", "category", "model_a", "model_b"} & set(row)
    assert json.loads(json.dumps(row, allow_nan=False)) == row


def test_three_logits_stand_in_a_row_as_lists(tiny_spec, tiny_adapter, pairs):
    model = load_model(tiny_spec(peft=str(tiny_adapter("gemma", num_labels=3)), truncation="budget"))
    both = score_pairs(Engine(model), model.renderer, [pairs[0], pairs[0].swap()])
    one, other = (score_row(record, Calibration()) for record in both)
    assert len(one["z_ab"]) == len(one["z_ba"]) == 3 and one["p_tie"] > 0
    assert (one["p_a"], one["p_b"], one["p_tie"]) == (other["p_b"], other["p_a"], other["p_tie"])


def test_a_judges_hash_depends_on_what_decides_a_score_and_not_on_the_order_of_its_fields():
    one = identity_hash({"a": 1, "b": [2, None]})
    assert one == identity_hash({"b": [2, None], "a": 1}) and len(one) == 16
    assert len({one, identity_hash({"a": 1, "b": [2]}), identity_hash({"a": "1", "b": [2, None]})}) == 3


# -- the journal ------------------------------------------------------------------------------------------------------


@pytest.fixture
def rows(score, pairs):
    return [score_row(record, CALIBRATION) for record in score(pairs)]


def run(out, pairs, rows, header=None):
    """A whole run: continues what is there, writes the rows that are missing, finishes; returns how many it wrote."""
    by_key, wrote = {row["key"]: row for row in rows}, 0
    with Journal(out, header or HEADER) as journal:
        for pair in pairs:
            if pair.key not in journal.rows:
                journal.add(by_key[pair.key])
                wrote += 1
        journal.finish(finished(journal, pairs))
    return wrote


def finished(journal, pairs):
    return (output_row(p, journal.rows[p.key], "judge") for p in pairs)


def killed(out, rows, count, tail=b""):
    """What is on disk after a run was killed when `count` rows and the bytes of `tail` were written."""
    with Journal(out, HEADER) as journal:
        for row in rows[:count]:
            journal.add(row)
        assert journal.part.read_bytes().count(b"\n") == count + 1, "a row is on disk once it was added"
    with open(journal.part, "ab") as file:
        file.write(tail)


def test_the_file_holds_one_line_per_pair_in_input_order(tmp_path, pairs, rows):
    out = tmp_path / "new" / "scores.jsonl"
    repeated = [*pairs, replace(pairs[2], id="again", winner=Winner.TIE)]
    assert run(out, repeated, rows[::-1]) == len({p.key for p in pairs})
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [line["id"] for line in lines] == [p.id for p in repeated]
    assert [line["key"] for line in lines] == [p.key for p in repeated]
    assert lines[-1] == {**lines[2], "id": "again", "winner": "tie"}
    assert [f.name for f in out.parent.iterdir()] == ["scores.jsonl"]


@pytest.mark.parametrize("count", [0, 1, 7])
@pytest.mark.parametrize("tail", ["nothing", "half", "whole line without its end", "all but the last byte", "garbage"])
def test_a_killed_run_continues_and_ends_with_the_same_file(tmp_path, pairs, rows, count, tail):
    run(tmp_path / "whole", pairs, rows)
    line = json.dumps(rows[count], ensure_ascii=False).encode()
    ends = {"nothing": b"", "half": line[: len(line) // 2], "whole line without its end": line, "garbage": b"\xff\x00{"}
    killed(tmp_path / "out", rows, count, ends.get(tail, line[:-1]))
    assert not (tmp_path / "out").exists()
    assert run(tmp_path / "out", pairs, rows) == len(rows) - count
    assert (tmp_path / "out").read_bytes() == (tmp_path / "whole").read_bytes()


def test_a_run_killed_twice_keeps_what_both_had_written(tmp_path, pairs, rows):
    killed(tmp_path / "out", rows, 3, tail=b'{"key": "ha')
    with Journal(tmp_path / "out", HEADER) as journal:
        for row in rows[3:9]:
            journal.add(row)
    assert run(tmp_path / "out", pairs, rows) == len(rows) - 9


def test_a_run_killed_in_its_first_line_starts_afresh(tmp_path, pairs, rows):
    (tmp_path / "out.part").write_bytes(b'{"header": {"ju')
    assert run(tmp_path / "out", pairs, rows) == len(rows)
    assert len((tmp_path / "out").read_bytes().splitlines()) == len(pairs)


def test_a_run_with_other_settings_does_not_continue_and_touches_nothing(tmp_path, pairs, rows):
    killed(tmp_path / "out", rows, 3)
    before = (tmp_path / "out.part").read_bytes()
    with pytest.raises(DataError, match=r"order: 'both' then, 'ab' now.*delete it to start afresh"):
        run(tmp_path / "out", pairs, rows, HEADER | {"order": "ab"})
    assert (tmp_path / "out.part").read_bytes() == before and not (tmp_path / "out").exists()
    assert run(tmp_path / "out", pairs, rows) == len(rows) - 3


def test_a_file_that_is_no_journal_is_not_overwritten(tmp_path, pairs, rows):
    (tmp_path / "out.part").write_text('{"something": "else"}\n{"key": "x"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"line 1 is not from a run.*move it away"):
        run(tmp_path / "out", pairs, rows)
    assert (tmp_path / "out.part").read_text(encoding="utf-8").startswith('{"something"')
    (tmp_path / "out.part").write_text("a shopping list\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"line 1 is not from a run"):
        run(tmp_path / "out", pairs, rows)
    assert (tmp_path / "out.part").read_text(encoding="utf-8") == "a shopping list\n"


def test_two_writers_of_one_file_are_refused(tmp_path, pairs, rows):
    with Journal(tmp_path / "out", HEADER) as journal:
        journal.add(rows[0])
        with pytest.raises(UsageError, match=r"in use.*another run"), Journal(tmp_path / "out", HEADER):
            pass
        journal.add(rows[1])
    assert run(tmp_path / "out", pairs, rows) == len(rows) - 2


def test_a_finished_file_is_replaced_only_by_a_whole_one(tmp_path, pairs, rows):
    out = tmp_path / "out"
    out.write_text("before\n", encoding="utf-8")
    with Journal(out, HEADER) as journal:
        journal.add(rows[0])
        with pytest.raises(KeyError):
            journal.finish(finished(journal, pairs))
    assert out.read_text(encoding="utf-8") == "before\n"
    assert sorted(f.name for f in tmp_path.iterdir()) == ["out", "out.part"]
    assert run(out, pairs, rows) == len(rows) - 1 and "before" not in out.read_text(encoding="utf-8")
