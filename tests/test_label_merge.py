"""The files that annotators send back: merged into one, refused where they contradict each other, and counted."""

import json
import math

import pytest
from commands import run
from label_rows import pair, saved, vote

from harness_plugin.errors import DataError
from harness_plugin.label import agreement, annotators, merged, read_votes
from harness_plugin.label.merge import Vote
from harness_plugin.pairs import Pair, read_pairs, write_pairs


def test_votes_of_several_annotators_become_one_file_with_their_agreement(tmp_path, capsys):
    ann = [vote(0, "model_a"), vote(1, "tie"), vote(2, "model_b", first="b"), vote(3, None)]
    bob = [vote(0, "model_a", "Bob"), vote(1, "tie", "Bob", both_bad=True), vote(2, "model_a", "Bob", first="b")]
    files = [saved(tmp_path / "ann.jsonl", ann), saved(tmp_path / "bob.jsonl", bob)]
    out = tmp_path / "new folder" / "labels.jsonl"
    code, said, err = run(["label", "--merge", *files, "-o", out], capsys)
    assert code == 0 and f"{out} has 7 votes" in err
    assert "| Ann | 2 | 1 | 0 | 1 | 1.00" in said and "| Bob | 2 | 0 | 1 | 0 | 0.50" in said
    assert "On 3 battles with two votes or more, two votes agree in 0.67" in said and "alpha is 0.5" in said
    read = read_pairs(out).pairs
    assert sorted(p.meta["annotator"] for p in read) == ["Ann"] * 4 + ["Bob"] * 3
    assert {p.meta["sampling_probability"] for p in read} == {0.25} and sum(p.meta["both_bad"] for p in read) == 1
    assert sum(p.winner is None for p in read) == 1
    again = merged([read_votes(str(out)), read_votes(files[0])])
    assert [v.row for v in again] == [json.loads(line) for line in out.read_text("utf-8").splitlines()]


def test_merging_never_replaces_votes_that_are_in_none_of_the_files(tmp_path, capsys):
    ann, bob = ([vote(n, "model_a", who) for n in range(2)] for who in ("Ann", "Bob"))
    one, two, out = saved(tmp_path / "ann.jsonl", ann), saved(tmp_path / "bob.jsonl", bob), tmp_path / "labels.jsonl"
    assert run(["label", "--merge", one, "-o", out], capsys)[0] == 0
    before = out.read_bytes()
    code, _, err = run(["label", "--merge", two, "-o", out], capsys)
    assert code == 2 and f"{out} has 2 votes that are in none of the files; it would be replaced" in err
    saved(tmp_path / "ann.jsonl", [vote(0, "model_b"), ann[1]])
    assert "has 1 vote that is in none of the files" in run(["label", "--merge", one, two, "-o", out], capsys)[2]
    assert out.read_bytes() == before
    for files in ((two, out), (two, out), (out,)):
        assert run(["label", "--merge", *files, "-o", out], capsys)[0] == 0
        assert len(out.read_text("utf-8").splitlines()) == 4
    other = saved(tmp_path / "pairs.jsonl", [pair(0).to_dict()])
    assert "holds something else than votes; it would be" in run(["label", "--merge", one, "-o", other], capsys)[2]


def test_annotators_whose_names_look_alike_are_named(tmp_path, capsys):
    files = [saved(tmp_path / f"{n}.jsonl", [vote(0, "tie", who)]) for n, who in enumerate(("Ann", "ann ", "Bob"))]
    code, _, err = run(["label", "--merge", *files, "-o", tmp_path / "labels.jsonl"], capsys)
    assert code == 0 and "'Ann', 'ann ' count as different annotators; if they are one person, give" in err


def test_merging_refuses_two_votes_of_one_person_and_votes_of_two_designs(tmp_path, capsys):
    one, two = saved(tmp_path / "1.jsonl", [vote(0, "model_a")]), saved(tmp_path / "2.jsonl", [vote(0, "model_b")])
    code, _, err = run(["label", "--merge", one, two], capsys)
    assert code == 3 and "'Ann' has two different votes on the battle" in err
    other = saved(tmp_path / "3.jsonl", [vote(1, "model_a", design="e" * 16)])
    code, _, err = run(["label", "--merge", one, other], capsys)
    assert code == 3 and "the votes are of 2 designs" in err


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (vote(0, "model_a", sampling_probability=0), "field sampling_probability is 0"),
        (vote(0, "model_a", sampling_probability=1.5), "field sampling_probability is 1.5"),
        (vote(0, "model_a", first="left"), "field first is 'left'"),
        (vote(0, "model_a", both_bad=True), "field winner is 'model_a'"),
        (vote(0, "best"), "field winner is 'best'"),
        (pair(0).to_dict(), "field sampling_probability is missing (fields found: id, model_a, model_b, prompt, "),
        (vote(0, "model_a", skipped=True), "field winner is 'model_a'; allowed: null, since skipped is true"),
        (vote(0, "tie", annotator=""), "field annotator is ''"),
        (vote(0, "tie", both_bad="yes"), "field both_bad is 'yes'; allowed: true or false"),
        (vote(0, "tie", skipped=1), "field skipped is 1; allowed: true or false"),
    ],
)
def test_rows_that_are_no_votes_are_named(tmp_path, capsys, row, said):
    file = saved(tmp_path / "votes.jsonl", [vote(1, "tie"), row])
    code, _, err = run(["label", "--merge", file], capsys)
    assert code == 3 and f"{file} row 2" in err.replace("line 2", "row 2") and said in err


def test_votes_that_another_tool_wrote_as_pairs_can_be_merged(tmp_path):
    write_pairs(tmp_path / "pairs.jsonl", [Pair.from_dict(vote(0, "tie", both_bad=True))])
    (one,) = read_votes(str(tmp_path / "pairs.jsonl"))
    assert one.both_bad and one.annotator == "Ann"


def test_votes_with_the_sides_exchanged_are_of_the_same_battle(tmp_path, capsys):
    def exchanged(row):
        winners = {"model_a": "model_b", "model_b": "model_a"}
        swapped = {
            f"{name}_{side}": row[f"{name}_{other}"] for name in ("response", "model") for side, other in ("ab", "ba")
        }
        first = "b" if row["first"] == "a" else "a"
        return row | swapped | {"winner": winners.get(row["winner"], row["winner"]), "first": first}

    ann = [vote(0, "model_a"), vote(1, "model_b"), vote(2, "tie")]
    bob = [exchanged(vote(0, "model_a", "Bob")), vote(1, "model_b", "Bob"), exchanged(vote(2, "model_a", "Bob"))]
    files = [saved(tmp_path / f"{n}.jsonl", rows) for n, rows in enumerate((ann, bob))]
    votes = merged([read_votes(file) for file in files])
    assert agreement(votes).share.value == pytest.approx(2 / 3) and agreement(votes).share.n == 3
    plain = [vote(0, "model_a", "Bob"), bob[1], vote(2, "model_a", "Bob")]
    as_shown = merged([read_votes(files[0]), read_votes(saved(tmp_path / "plain.jsonl", plain))])
    assert agreement(votes).alpha.value == agreement(as_shown).alpha.value
    assert [a.left.value for a in annotators(votes)] == [0.5, pytest.approx(2 / 3)]
    again = saved(tmp_path / "again.jsonl", [exchanged(row) for row in ann])
    assert len(merged([read_votes(files[0]), read_votes(again)])) == 3, "the same votes"
    other = saved(tmp_path / "other.jsonl", [exchanged(vote(0, "model_b"))])
    with pytest.raises(DataError, match="'Ann' has two different votes on the battle"):
        merged([read_votes(files[0]), read_votes(other)])


def test_one_annotator_has_no_agreement(tmp_path):
    votes = merged([read_votes(saved(tmp_path / "v.jsonl", [vote(n, "model_a") for n in range(5)]))])
    assert agreement(votes).share.n == 0 and math.isnan(agreement(votes).alpha.value)
    (one,) = annotators(votes)
    assert (one.decided, one.left.value) == (5, 1.0)


def test_the_side_that_was_chosen_follows_from_where_the_answers_stood():
    def left(winner, first):
        return Vote(pair(0, winner=winner), "Ann", "d", first, {}).left

    assert [left("model_a", "a"), left("model_a", "b"), left("model_b", "b"), left("tie", "a"), left(None, "a")] == [
        1.0,
        0.0,
        1.0,
        None,
        None,
    ]
