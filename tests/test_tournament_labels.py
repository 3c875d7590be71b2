"""People's judgements are joined to battles by their texts, in either order, and say how well the judge agrees."""

import json
import random
from dataclasses import replace

import pytest
from tournament_rows import judged_by_length, three_files

from harness_plugin.errors import DataError
from harness_plugin.pairs import Pair
from harness_plugin.tournament import agreement, battles, check_labels, gather, labels_of, votes_of


@pytest.fixture
def judged(tmp_path):
    return judged_by_length(battles(gather(three_files(tmp_path))))


def said(pair, winner=None, **more):
    return Pair(pair.prompt, pair.response_a, pair.response_b, winner=winner, **more)


def test_labels_are_found_by_the_texts_in_either_order_and_several_are_averaged(judged):
    one, two, three, four, *_ = judged.battles.pairs
    people = [
        said(one, "model_b"),
        said(two, "model_a").swap(),
        said(three, "tie"),
        Pair("other", "a", "b", winner="tie"),
    ]
    people += [said(four, winner) for winner in ("model_a", "model_b", "model_b", None)]
    shares = labels_of(judged.verdicts, votes_of(people, "people.jsonl")).shares
    labels = dict(zip([v.id for v in judged.verdicts], shares, strict=True))
    known = {key: label for key, label in labels.items() if label is not None}
    assert known == {one.id: 1.0, two.id: 0.0, three.id: 0.5, four.id: pytest.approx(2 / 3)}
    soft = labels_of(judged.verdicts, votes_of([said(one, p_b=0.8)], "people.jsonl")).shares
    assert [label for label in soft if label is not None] == [1.0], "a soft label names a side"


def test_agreement_is_the_share_of_decided_battles_where_judge_and_people_name_one_side(judged):
    labels = [None if n % 3 == 0 else 0.5 if n % 3 == 1 else float(v.p_b > 0.5) for n, v in enumerate(judged.verdicts)]
    found = agreement(judged.verdicts, labels)
    assert found["battles"] == 16 and (found["acc"], found["acc_n"]) == (1.0, 8)
    assert found["longer_wins"] == 1.0, "this judge is one of length"
    wrong = agreement(judged.verdicts, [None if y is None else 1 - y for y in labels])
    assert wrong["acc"] == 0.0 and json.loads(json.dumps(found, allow_nan=False)) == found
    assert sum(b["n"] for b in found["reliability"]) == 16


def test_bins_hold_what_the_judge_said_and_what_people_said(judged):
    rng = random.Random(1)
    many = [replace(v, prompt_key=f"{v.prompt_key} {k}") for k in range(20) for v in judged.verdicts]
    labels = [float(rng.random() < v.p_b) for v in many]
    bins = agreement(many, labels)["reliability"]
    inside = [b["observed_low"] <= b["predicted"] <= b["observed_high"] for b in bins]
    assert len(bins) == 10 and sum(inside) >= 8, "intervals of 95% may miss, rarely"
    assert [b["predicted"] for b in bins] == sorted(b["predicted"] for b in bins)


def test_no_label_of_this_run_is_a_count_of_zero(judged):
    labels = labels_of(judged.verdicts, votes_of([Pair("other", "a", "b", winner="tie")], "people.jsonl")).shares
    assert set(labels) == {None} and agreement(judged.verdicts, labels) == {"battles": 0}


def test_judgements_that_are_of_no_battle_are_an_error_and_those_that_are_get_counted(judged):
    pairs = [*judged.battles.pairs, *judged.battles.identical]
    one = pairs[0]
    here = Pair(one.prompt, one.response_b, one.response_a, winner="tie")
    other = Pair("other", "a", "b", winner="model_a")
    assert check_labels(pairs, [here, other, Pair(one.prompt, one.response_a, one.response_b)], "people.jsonl") == 1
    with pytest.raises(
        DataError, match=r"people.jsonl has 1 pair with a winner, and none is a battle of these answers"
    ):
        check_labels(pairs, [other], "people.jsonl")
    with pytest.raises(DataError, match=r"none of the 1 pairs of people.jsonl has a winner"):
        check_labels(pairs, [Pair("other", "a", "b")], "people.jsonl")
