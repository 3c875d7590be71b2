"""With people's labels a leaderboard says who is better for people, and what the judge is worth."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest
from tournament_rows import season, verdict

from harness_plugin.errors import DataError
from harness_plugin.pairs import Pair
from harness_plugin.report import board_words
from harness_plugin.tournament import Labels, agreement, for_people, labels_of, leaderboard, votes_of

MODELS = ("heron", "ibis", "stork", "wren")


def said(verdicts, share=0.5, seed=0, right=0.9, **more):
    """Labels of a share of the verdicts: mostly what the judge says."""
    rng, shares = random.Random(seed), []
    for v in verdicts:
        won = (v.p_b > v.p_a) == (rng.random() < right)
        shares.append(float(won) if rng.random() < share else None)
    return Labels(shares, [0.0] * len(shares), **{"probabilities": None, "annotators": 0} | more)


def board_of(verdicts, labels, baseline=None):
    board = for_people(leaderboard(verdicts, baseline), verdicts, labels, baseline)
    assert json.loads(json.dumps(board, allow_nan=False)) == board
    return board


def test_each_model_has_its_numbers_for_people_beside_the_judges():
    verdicts = season(MODELS, 100, tie=0.1)
    labels = said(verdicts)
    board, plain = board_of(verdicts, labels), leaderboard(verdicts)
    assert plain["people"] is None and board["models"][0].items() >= plain["models"][0].items()
    for row in board["models"]:
        own = [k for k, v in enumerate(verdicts) if row["model"] in (v.model_a, v.model_b)]
        assert row["labels"] == sum(labels.shares[k] is not None for k in own)
        assert row["win_rate_people_low"] < row["win_rate_people"] < row["win_rate_people_high"]
        assert row["win_rate_people"] + row["judge_error"] == pytest.approx(row["win_rate"], abs=2e-4)
        assert row["rating_people_low"] < row["rating_people"] < row["rating_people_high"]
        assert row["rating_davidson_people"] is not None and row["labels_worth"] > row["labels"]
        alone = row["win_rate_labels_alone_high"] - row["win_rate_labels_alone_low"]
        assert row["win_rate_people_high"] - row["win_rate_people_low"] < alone
    people = board["people"]
    assert people["labels"] == sum(share is not None for share in labels.shares) < people["labels_worth"]
    assert people["judge_adds"] and people["correlation"] > 0.3 and people["probabilities"] == "equal"
    assert people["battles"] == 600 and people["annotators"] is None and not people["concerns"]
    best, worst = board["models"][0], board["models"][-1]
    assert best["rank_people_low"] == 1 and worst["rank_people_high"] == 4
    assert [t["model"] for t in people["tests"]] == [t["model"] for t in board["tests"]]


def test_against_a_baseline_the_tests_are_of_win_rates_and_the_baseline_has_one_half():
    verdicts = season(MODELS, 150, pairs=[(0, 1), (0, 2), (0, 3)])
    board = board_of(verdicts, said(verdicts, 0.7), "heron")
    rows = {row["model"]: row for row in board["models"]}
    assert rows["heron"]["win_rate_people"] == 0.5 and rows["heron"]["win_rate_people_low"] is None
    assert rows["heron"]["rating_people"] == 1000.0
    test = next(t for t in board["people"]["tests"] if {t["model"], t["other"]} == {"ibis", "wren"})
    assert test["difference"] == pytest.approx(
        rows["ibis"]["win_rate_people"] - rows["wren"]["win_rate_people"], abs=2e-4
    )
    assert test["low"] > 0 and rows["ibis"]["rank_people_high"] < rows["wren"]["rank_people_low"]


def test_a_model_that_won_every_vote_is_tested_and_every_test_agrees_with_its_interval():
    verdicts = season(MODELS, 60, pairs=[(0, 1), (0, 2), (0, 3)])
    rng = random.Random(3)
    wins = {"ibis": 1.0, "stork": 0.95, "wren": 0.5}
    shares = []
    for v in verdicts:
        other = v.model_b if v.model_a == "heron" else v.model_a
        won = float(rng.random() < wins[other])
        shares.append((won if v.model_b == other else 1 - won) if rng.random() < 0.5 else None)
    board = board_of(verdicts, Labels(shares, [0.0] * len(shares), None, 0), "heron")
    rows = {row["model"]: row for row in board["models"]}
    assert rows["ibis"]["win_rate_people"] == 1.0
    tests = board["people"]["tests"]
    assert len(tests) == 6 and all((t["p"] <= 0.05) == (t["low"] > 0 or t["high"] < 0) for t in tests)
    for test in tests:
        if "heron" in (test["model"], test["other"]):
            row = rows[test["other"] if test["model"] == "heron" else test["model"]]
            ends = [row["win_rate_people_low"] - 0.5, row["win_rate_people_high"] - 0.5]
            ends = [-end for end in reversed(ends)] if test["model"] == "heron" else ends
            assert [test["low"], test["high"]] == pytest.approx(ends, abs=2e-4)
    best = next(t for t in tests if {t["model"], t["other"]} == {"ibis", "heron"})
    assert best["p"] < 1e-4 and rows["ibis"]["rank_people_high"] < rows["heron"]["rank_people_low"]


def test_identical_answers_are_ties_that_need_no_label():
    verdicts = season(MODELS[:2], 60)
    same = [replace(verdict("heron", "ibis", f"s{n}", 0.5, bias=None), identical=True) for n in range(60)]
    labels = said(verdicts, 0.5)
    both = Labels([*labels.shares, *[None] * 60], [0.0] * 120, None, 0)
    board, apart = board_of([*verdicts, *same], both), board_of(verdicts, labels)
    one, other = board["models"][0], apart["models"][0]
    assert one["labels"] == other["labels"] == board["people"]["labels"] and board["people"]["battles"] == 60
    expected = 0.25 + other["win_rate_labels_alone"] / 2
    assert one["win_rate_labels_alone"] == pytest.approx(expected, abs=1e-3)
    assert one["rating_people"] < other["rating_people"]


def test_a_judge_that_contradicts_people_is_left_out():
    verdicts = season(MODELS, 100)
    board = board_of(verdicts, said(verdicts, right=0.1))
    people, row = board["people"], board["models"][0]
    assert not people["judge_adds"] and people["correlation"] < 0 and people["judge_weight"] == 0
    assert people["labels_worth"] == people["labels"] and row["win_rate_people"] == row["win_rate_labels_alone"]


def test_too_few_labels_give_no_interval_and_say_so():
    verdicts = season(MODELS, 40)
    shares = [1.0 if n < 3 else None for n in range(len(verdicts))]
    board = board_of(verdicts, Labels(shares, [0.0] * len(shares), None, 2))
    assert all(row["win_rate_people_low"] is None and row["rating_people"] is None for row in board["models"])
    assert all(row["rank_people_low"] is None for row in board["models"])
    people = board["people"]
    assert people["labels"] == 3 and people["labels_worth"] is None and people["annotators"] == 2
    assert "few_labels" in {concern["kind"] for concern in people["concerns"]}


def test_the_share_that_was_drawn_with_larger_probability_counts_less():
    verdicts = season(MODELS[:2], 300)
    rng = np.random.default_rng(0)
    chance = np.array([0.6 if v.p_b > 0.5 else 0.2 for v in verdicts])
    shares = [float(v.p_b > 0.5) if rng.random() < c else None for v, c in zip(verdicts, chance, strict=True)]
    true = float(np.mean([v.p_b > 0.5 for v in verdicts]))
    weighed = board_of(verdicts, Labels(shares, [0.0] * 300, chance.tolist(), 0))
    rows = {row["model"]: row for row in weighed["models"]}
    assert abs(rows["ibis"]["win_rate_labels_alone"] - true) < 0.04 and weighed["people"]["probabilities"] == "given"
    naive = {row["model"]: row for row in board_of(verdicts, Labels(shares, [0.0] * 300, None, 0))["models"]}
    assert naive["ibis"]["win_rate_labels_alone"] > true + 0.1


# -- the columns beside a label ---------------------------------------------------------------------------------------


def battle(n, winner, **meta):
    return Pair(f"q{n}", "one", "two", winner=winner, meta=meta)


def verdicts_of(pairs):
    return [verdict("heron", "ibis", p.prompt, 0.6, key=p.key) for p in pairs]


def test_probabilities_annotators_and_both_bad_are_read():
    one, two, three = battle(1, None), battle(2, None), battle(3, None)
    judged = [
        battle(1, "model_b", sampling_probability=0.25, annotator="ann"),
        battle(1, "tie", sampling_probability="0.25", annotator="bob", both_bad="true").swap(),
        battle(2, None, sampling_probability=0.5, annotator="ann", both_bad=True),
        battle(3, None, annotator="cay"),
    ]
    labels = labels_of(verdicts_of([one, two, three]), votes_of(judged, "people.jsonl"))
    assert labels.shares == [0.75, 0.5, None] and labels.ties == [0.5, 1.0, 0.0]
    assert labels.probabilities == [0.25, 0.5, 1.0] and labels.annotators == 2


def test_a_vote_that_is_in_the_file_twice_counts_once():
    ann, bob = battle(1, "model_b", annotator="ann"), battle(1, "model_a", annotator="bob")
    assert labels_of(verdicts_of([ann]), votes_of([ann, ann.swap(), bob, ann], "x")).shares == [0.5]
    other = battle(1, "model_a", annotator="ann")
    assert labels_of(verdicts_of([ann]), votes_of([ann, other], "x")).shares == [0.5], "a changed mind is two votes"
    for nobody in ({}, {"annotator": ""}):
        votes = votes_of([battle(1, "model_b", **nobody), battle(1, "model_b", **nobody), bob], "x")
        assert labels_of(verdicts_of([ann]), votes).shares == [2 / 3] and votes.annotators == 1
    with pytest.raises(DataError, match="drawn with one probability"):
        votes_of([battle(1, "tie", annotator="ann", sampling_probability=p) for p in (0.5, 0.25)], "x")


@pytest.mark.parametrize("value", [0, -0.1, 1.5, "often", True, [0.5]])
def test_a_probability_that_is_none_is_refused(value):
    with pytest.raises(DataError, match=r"people.jsonl: battle .*: field sampling_probability is .*above 0"):
        votes_of([battle(1, "tie", sampling_probability=value)], "people.jsonl")


def test_probabilities_of_some_battles_only_or_two_of_one_battle_are_refused():
    with pytest.raises(DataError, match="some labelled battles have no sampling_probability"):
        votes_of([battle(1, "tie", sampling_probability=0.5), battle(2, "tie")], "people.jsonl")
    twice = [battle(1, "tie", sampling_probability=0.5), battle(1, "tie", sampling_probability=0.4).swap()]
    with pytest.raises(DataError, match=r"have sampling_probability 0\.5 and 0\.4"):
        votes_of(twice, "people.jsonl")
    with pytest.raises(DataError, match=r"people.jsonl: battle .*: field both_bad is 'maybe'"):
        votes_of([battle(1, "tie", both_bad="maybe")], "people.jsonl")
    with pytest.raises(DataError, match=r"field winner is 'model_a'; allowed: 'tie' or null, since both_bad is true"):
        votes_of([battle(1, "model_a", both_bad=True)], "people.jsonl")


def test_labels_of_one_pair_of_models_alone_are_said_not_to_be_drawn():
    verdicts = season(MODELS, 60)
    labels = said(verdicts, 1.0)
    one = [
        s if {v.model_a, v.model_b} == set(MODELS[:2]) else None for s, v in zip(labels.shares, verdicts, strict=True)
    ]
    kinds = lambda shares, chances=None: {  # noqa: E731
        k["kind"]
        for k in board_of(verdicts, replace(labels, shares=shares, probabilities=chances))["people"]["concerns"]
    }
    assert "not_drawn" in kinds(one)
    assert "not_drawn" not in kinds(said(verdicts, 0.2).shares) | kinds(one, [0.2] * len(one))


def test_the_report_says_what_the_numbers_for_people_do_not_cover():
    verdicts = season(MODELS, 60)
    labels = said(verdicts, 0.3)
    drawn = replace(labels, probabilities=[0.3] * len(verdicts))
    texts = []
    for given, stopping in ((labels, None), (drawn, {"looks": 5})):
        board = board_of(verdicts, given) | {"stopping": stopping, "agreement": agreement(verdicts, given.shares)}
        texts.append((board_words.people(board), board_words.worth(board), board_words.agreement(board)))
    (plain, worth, agrees), (stopped, of_drawn, agrees_drawn) = texts
    assert "do not allow for the looks" in stopped and "looks" not in plain
    assert "of all battles it may be different" in of_drawn and "of all battles it may be different" in agrees_drawn
    assert "of all battles" not in worth + agrees


def test_nobody_is_first_for_people_by_a_number_without_an_interval():
    verdicts = season(MODELS, 30, pairs=[(0, 1), (0, 2), (0, 3)])
    few = [share if k % 5 == 0 else None for k, share in enumerate(said(verdicts, 1.0).shares)]
    board = board_of(verdicts, Labels(few, [0.0] * len(few), None, 0), "heron")
    assert all(row["win_rate_people"] is not None for row in board["models"])
    assert board_words.preferred(board, str) == "The labels are too few to rank the models by what people prefer."
