"""Pairs become records: in input order, each presentation scored once, and a killed run loses nothing."""

import errno
import json
from dataclasses import replace

import pytest
import tiny
import torch

import harness_plugin.files.journal as journal_module
import harness_plugin.judges.presentations as scoring
from harness_plugin.engine import Engine
from harness_plugin.errors import DataError, ScoreError, UsageError
from harness_plugin.files.journal import Journal
from harness_plugin.judges import open_judge
from harness_plugin.judges.judge import judgements_in
from harness_plugin.judges.local import LocalJudge
from harness_plugin.model import ModelSpec, load_model
from harness_plugin.pairs import Pair, Winner
from harness_plugin.scoring.identity import identity_hash
from harness_plugin.scoring.judgement import Judgement

HEADER = {"judge": "one", "order": "both", "calibration": [1.5, 0.5]}


@pytest.fixture(scope="module")
def model(tiny_base, tiny_adapter):
    names = {"pretrained": str(tiny_base("gemma2")), "peft": str(tiny_adapter("gemma2"))}
    calibration = {"temperature": 1.5, "tie_nu": 0.5}
    return load_model(ModelSpec(**names, **calibration, dtype="float32", device="cpu", truncation="budget"))


@pytest.fixture
def score(model):
    """score(pairs, order="both", done=None) -> list of judgements."""
    return lambda pairs, order="both", done=None: list(LocalJudge(model, Engine(model), order).judge(pairs, done))


# -- scores ---------------------------------------------------------------------------------------------------------


def test_judgements_come_in_input_order_with_the_logits_of_their_presentations(model, score, pairs):
    judgements = score(pairs)
    assert [j.id for j in judgements] == [p.id for p in pairs]
    for pair, judgement in zip(pairs, judgements, strict=True):
        views = model.renderer.render_orders(pair)
        z = Engine(model).logits([v.ids for v in views])[:, 0]
        assert [*judgement.z_ab, *judgement.z_ba] == pytest.approx(z, abs=1e-5)
        assert judgement.tokens == sum(len(v.ids) for v in views)
        assert judgement.truncated == any(v.truncated for v in views)
        first = views[0]
        assert judgement.kept == {n: (getattr(first, n).kept, getattr(first, n).original) for n in judgement.kept}
    assert {j.truncated for j in judgements} == {True, False}


def test_with_one_order_a_pair_is_scored_as_it_stands(score, pairs):
    judgements, both = score(pairs, "ab"), score(pairs)
    assert all(j.z_ba is None and j.position_bias is None and j.orders == "ab" for j in judgements)
    assert [j.z_ab[0] for j in judgements] == pytest.approx([j.z_ab[0] for j in both], abs=1e-5)
    with pytest.raises(UsageError, match="order='ba'"):
        score(pairs, "ba")


def test_chunks_change_neither_order_nor_scores(score, pairs, monkeypatch):
    whole = score(pairs)
    monkeypatch.setattr(scoring, "CHUNK", 4)
    chunked = score(pairs)
    assert [j.id for j in chunked] == [j.id for j in whole]
    assert [j.z_ab[0] for j in chunked] == pytest.approx([j.z_ab[0] for j in whole], abs=1e-5)


def test_the_same_presentation_is_scored_once(model, pairs):
    engine = tiny.counted(model)
    same = Pair("ask", "one", "one", id="same")
    asked = [pairs[0], replace(pairs[0], id="again"), pairs[0].swap(), same, pairs[1]]
    judgements = list(LocalJudge(model, engine).judge(asked))
    assert len(engine.asked) == 1 and len(engine.asked[0]) == len(set(engine.asked[0])) == 5
    assert [j.id for j in judgements] == ["p0", "again", "p0", "same", "p1"]
    assert judgements[0].z_ab == judgements[1].z_ab and judgements[3].z_ab == judgements[3].z_ba


def test_exchanging_the_sides_of_a_pair_mirrors_its_scores_exactly(score, pairs):
    judgements = score([p for pair in pairs for p in (pair, pair.swap())])
    for one, other in zip(judgements[::2], judgements[1::2], strict=True):
        assert (one.z_ab, one.z_ba) == (other.z_ba, other.z_ab)
        assert (one.score, one.p_a, one.p_b, one.p_tie) == (-other.score, other.p_b, other.p_a, other.p_tie)
        assert one.position_bias == other.position_bias
        assert replace(one.swapped(), key=other.key, kept=other.kept) == other
    apart = zip(score(pairs), score([p.swap() for p in pairs]), strict=True)
    assert all(one.z_ab[0] == pytest.approx(other.z_ba[0], abs=1e-5) for one, other in apart)


def test_a_pair_with_equal_responses_is_nobodys(score):
    (judgement,) = score([Pair("ask", "the same", "the same")])
    assert judgement.score == 0 and judgement.p_a == judgement.p_b and judgement.preferred is None


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
        list(LocalJudge(model, Engine(model)).judge(asked))
    assert "row0" not in str(caught.value)
    many = [Pair("ask 🦊", f"{n}", "two", id=f"row{n}") for n in range(8)]
    with pytest.raises(ScoreError, match=r"row0, row1, row2, row3, row4\b(?!.*row5).*; the weights"):
        list(LocalJudge(model, Engine(model)).judge(many))


# -- the judge --------------------------------------------------------------------------------------------------------


def test_open_judge_loads_binds_its_store_and_closes_it(tiny_spec, pairs, tmp_path):
    settings = vars(tiny_spec("gemma2", truncation="budget"))
    with open_judge(**settings, store=tmp_path / "store") as judge:
        first = list(judge.judge(pairs))
        assert judge.hash == identity_hash(judge.identity) and {j.judge for j in first} == {judge.hash}
        assert json.loads(json.dumps(judge.identity)) == judge.identity
        assert judge.store.misses > 0
    with open_judge(ModelSpec(**settings), store=tmp_path / "store") as judge:
        assert [j.z_ab for j in judge.judge(pairs)] == [j.z_ab for j in first] and judge.store.misses == 0
    with pytest.raises(UsageError, match="unknown model argument colour"):
        open_judge(colour="red")


def test_a_file_that_is_no_store_is_refused_before_the_weights_are_read(tmp_path):
    (tmp_path / "notes").write_text("a shopping list\n", encoding="utf-8")
    with pytest.raises(DataError, match="is not a score cache"):
        open_judge(peft="no/such/adapter", store=tmp_path / "notes")


def test_the_package_offers_what_a_program_needs_and_loads_it_when_it_is_asked_for():
    import harness_plugin

    assert harness_plugin.Pair is Pair and harness_plugin.open_judge is open_judge
    assert harness_plugin.Judgement is Judgement and set(harness_plugin.__all__) <= set(dir(harness_plugin))
    with pytest.raises(AttributeError, match="no_such_name"):
        harness_plugin.no_such_name  # noqa: B018


def test_a_judges_hash_depends_on_what_decides_a_score_and_not_on_the_order_of_its_fields():
    one = identity_hash({"a": 1, "b": [2, None]})
    assert one == identity_hash({"b": [2, None], "a": 1}) and len(one) == 16
    assert len({one, identity_hash({"a": 1, "b": [2]}), identity_hash({"a": "1", "b": [2, None]})}) == 3


# -- the journal ------------------------------------------------------------------------------------------------------


@pytest.fixture
def rows(score, pairs):
    return [judgement.to_row() for judgement in score(pairs)]


def run(out, pairs, rows, header=None):
    """A whole run: continues what is there, writes the rows that are missing, finishes; returns how many it wrote."""
    by_key, wrote = {row["key"]: row for row in rows}, 0
    with Journal(out, header or HEADER) as journal:
        there = set(judgements_in(journal))
        for pair in pairs:
            if pair.key not in there:
                there.add(pair.key)
                journal.add(by_key[pair.key])
                wrote += 1
        journal.finish(finished(journal, pairs))
    return wrote


def finished(journal, pairs):
    judgements = judgements_in(journal)
    return (judgements[p.key].of_pair(p).to_row() for p in pairs)


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
    assert lines[-1] == {**lines[2], "id": "again", "winner": "tie", "checksum": lines[-1]["checksum"]}
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
    for text in ("a shopping list\n", "a shopping list", '{"head": 1'):
        (tmp_path / "out.part").write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=r"line 1 is not from a run"):
            run(tmp_path / "out", pairs, rows)
        assert (tmp_path / "out.part").read_text(encoding="utf-8") == text


def test_two_writers_of_one_file_are_refused(tmp_path, pairs, rows):
    with Journal(tmp_path / "out", HEADER) as journal:
        journal.add(rows[0])
        with pytest.raises(UsageError, match=r"in use.*another run"), Journal(tmp_path / "out", HEADER):
            pass
        journal.add(rows[1])
    assert run(tmp_path / "out", pairs, rows) == len(rows) - 2


def test_a_part_that_was_refused_is_free_again_while_the_error_is_kept(tmp_path):
    """As in a notebook, which keeps the last error with all that its functions held."""
    with Journal(tmp_path / "out", HEADER):
        pass
    with pytest.raises(DataError, match="other settings") as kept, Journal(tmp_path / "out", {"judge": "other"}):
        pass
    with Journal(tmp_path / "out", HEADER):
        assert kept.value


def test_a_run_that_finishes_does_not_leave_its_part_to_two_others(tmp_path, monkeypatch):
    """One that opened the part just before it was removed must not hold it beside one that made a new part."""
    out, real = tmp_path / "out", journal_module.lock

    def finished_meanwhile(file):
        monkeypatch.setattr(journal_module, "lock", real)
        (tmp_path / "out.part").unlink()
        return real(file)

    monkeypatch.setattr(journal_module, "lock", finished_meanwhile)
    with Journal(out, HEADER), pytest.raises(UsageError, match="in use"), Journal(out, HEADER):
        pass


def test_a_full_disk_names_the_part(tmp_path, monkeypatch):
    with Journal(tmp_path / "out", HEADER) as journal:
        real = journal._file

        class Full:
            def write(self, data):
                raise OSError(errno.ENOSPC, "No space left on device")

        journal._file = Full()
        with pytest.raises(DataError, match=r"out\.part \(No space left"):
            journal.add({"key": "k"})
        journal._file = real


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
