"""What is trained on: duplicates, connected components, the split."""

import math
import random
import time
from collections import Counter
from dataclasses import replace

import pytest
import tiny

from harness_plugin.errors import TrainError
from harness_plugin.pairs import Pair, Winner, read_pairs, write_pairs
from harness_plugin.train.split import (
    components,
    draw,
    mixed,
    remove_duplicates,
    remove_identical,
    split,
)


def pair(prompt, a, b, id="", **label):
    return Pair(prompt, a, b, id=id, **(label or {"p_b": 0.75}))


def random_pairs(seed, count=400):
    """Few texts and labels of every kind, so that prompts, answers and whole pairs recur in both orientations."""
    rng = random.Random(seed)
    labels = [{"winner": w} for w in Winner] + [{"p_b": p} for p in (0.1, 1 / 3, 0.5, 0.7)]
    labels.append({"winner": Winner.MODEL_A, "p_b": 0.2})
    texts = [f"text {n}" for n in range(90)] + [("first", "turn"), ("first", "other"), ""]
    return [
        Pair(
            f"prompt {rng.randrange(150)}",
            *rng.choices(texts[: rng.choice([6, 93])], k=2),
            id=f"r{n}",
            **rng.choice(labels),
        )
        for n in range(count)
    ]


def label_of(p):
    """What a pair says of its texts, the same whichever way round it stands."""
    way = p if p.key <= p.swap().key else p.swap()
    return way.key, way.soft_label, way.winner, tuple(round(share, 13) for share in way.target)


# Duplicates


def test_a_draw_is_the_same_on_every_machine():
    assert draw("validation", 0, "0123456789abcdef") == 0.3213418347793984
    assert draw("validation", 1, "0123456789abcdef") != draw("validation", 0, "0123456789abcdef")
    assert draw("a", "bc") != draw("ab", "c")
    drawn = [draw("x", n) for n in range(2000)]
    assert 0 <= min(drawn) < 0.01 and 0.99 < max(drawn) < 1


def test_a_pair_that_stands_twice_is_kept_once_as_it_first_stood():
    one = pair("q", "yes", "no", "r1", p_b=0.25)
    turned = Pair("q", "no", "yes", id="r2", p_b=0.75, model_a="heron")
    others = [pair("q", "yes", "nope", "r3"), pair("p", "yes", "no", "r4"), pair("q", ("yes", "no"), "no", "r5")]
    kept, gone = remove_duplicates([others[0], turned, *others[1:], one])
    assert kept == [others[0], turned, *others[1:]] and gone == 1, "they agree, so that nothing changes"
    assert remove_duplicates([Pair(["q"], ["yes"], "no", id="r6", p_b=0.25), one])[1] == 1, "a list of one turn"


@pytest.mark.parametrize(
    ("labels", "soft", "winner"),
    [
        ([{"p_b": 0.2}, {"p_b": 0.9}], 0.55, None),
        ([{"winner": "model_a"}, {"winner": "model_b"}], 0.5, None),
        ([{"winner": "model_a"}, {"winner": "tie"}, {"winner": "model_a"}], 0.5 / 3, None),
        ([{"winner": "model_b", "p_b": 0.6}, {"winner": "model_b", "p_b": 0.9}], 0.75, Winner.MODEL_B),
        ([{"winner": "model_b"}, {"winner": "model_b"}], 1.0, Winner.MODEL_B),
        ([{"winner": "model_b"}, {"p_b": 0.5}], 0.75, None),
        ([{}, {"p_b": 0.2}, {"p_b": 0.4}], 0.3, None),
        ([{}, {"winner": "model_a"}, {}], 0.0, Winner.MODEL_A),
        ([{}, {}], None, None),
    ],
)
@pytest.mark.parametrize("turned", [(), (0,), (1,), (0, 1, 2)])
def test_labels_that_differ_become_their_mean_in_the_orientation_of_the_first(labels, soft, winner, turned):
    rows = [
        Pair("q", "yes", "no", id=f"r{n}", model_a=f"heron {n}", category=f"c{n}", meta={"n": n}, **label)
        for n, label in enumerate(labels)
    ]
    rows = [p.swap() if n in turned else p for n, p in enumerate(rows)]
    (kept,), gone = remove_duplicates(rows)
    assert gone == len(rows) - 1 and kept.id == "r0" and kept.meta == {"n": 0} and kept.key == rows[0].key
    kept = kept.swap() if 0 in turned else kept
    assert (kept.model_a, kept.model_b, kept.category) == ("heron 0", None, "c0")
    assert kept.soft_label == (soft if soft is None else pytest.approx(soft, abs=1e-15)) and kept.winner is winner


def test_the_mean_keeps_what_was_a_tie():
    labels = [{"winner": Winner.MODEL_A}, {"winner": Winner.TIE}, {"winner": Winner.TIE, "p_b": 0.6}, {"p_b": 0.9}]
    rows = [pair("q", "yes", "no", **label) for label in labels]
    for some, target in ((rows[:2], (0.5, 0, 0.5)), (rows[2:], (0.05, 0.55, 0.4)), (rows, (0.275, 0.275, 0.45))):
        (kept,), _ = remove_duplicates([some[0], *(p.swap() for p in some[1:])])
        assert kept.target == pytest.approx(target) and kept.swap().target == pytest.approx(
            kept.target[1::-1] + target[2:]
        )
        assert kept.soft_label == pytest.approx(target[1] + target[2] / 2)
    twice = [mixed(rows[0], 0.4, 0.3), mixed(rows[0], 0.4, 0.1)]
    assert remove_duplicates(twice)[0][0].target == pytest.approx((0.5, 0.3, 0.2)), "equal but for the tie"
    assert remove_duplicates([Pair("q", "no", "yes", id="u"), twice[0]])[0][0] == replace(twice[0].swap(), id="u")


@pytest.mark.parametrize(("p_b", "p_tie"), [(1 + 1e-12, 0.1), (-1e-12, 0.1), (0.5, 1 + 1e-12), (0.5, -1e-12)])
def test_a_mixed_label_is_always_one(p_b, p_tie):
    target = mixed(pair("q", "a", "b"), p_b, p_tie).target
    assert min(target) >= 0 and sum(target) == 1.0


def test_equal_responses_go_unless_they_are_called_a_tie():
    ties = [pair("q", "yes", "yes", "t1", p_b=0.5), pair("p", "yes", "yes", "t2", winner=Winner.TIE)]
    wrong = [
        pair("q", "yes", "yes", "w1", p_b=0.6),
        pair("q", "", "", "w2", winner=Winner.MODEL_A),
        Pair("o", "a", "a"),
    ]
    fine = [pair("q", "yes", "yes ", "f1"), pair("q", ("yes", "yes"), "yes", "f2")]
    assert remove_identical([*wrong, *ties, *fine]) == ([*ties, *fine], 3)
    assert remove_duplicates([*wrong, *ties, *fine, ties[0]]) == ([*ties, *fine], 4)
    assert remove_duplicates([]) == ([], 0)


@pytest.mark.parametrize("seed", range(8))
def test_what_is_kept_does_not_depend_on_the_order_or_orientation_of_rows(seed):
    pairs = random_pairs(seed)
    kept, gone = remove_duplicates(pairs)
    assert len(kept) + gone == len(pairs) and gone > 10
    assert len({label_of(p)[0] for p in kept}) == len(kept), "once each"
    assert remove_duplicates(kept) == (kept, 0)
    rng = random.Random(seed)
    other = [p.swap() if rng.random() < 0.5 else p for p in rng.sample(pairs, len(pairs))]
    assert sorted(map(label_of, remove_duplicates(other)[0]), key=repr) == sorted(map(label_of, kept), key=repr)
    alone = Counter(label_of(p)[0] for p in pairs)
    unchanged = [p for p in kept if alone[label_of(p)[0]] == 1]
    assert unchanged == [p for p in pairs if p in unchanged], "in their places"


# Components


def slow_components(pairs):
    """By spreading the smallest name until nothing changes."""
    names = [p.prompt_key for p in pairs]
    while True:
        least: dict = {}
        for p, name in zip(pairs, names, strict=True):
            for tie in (p.prompt_key, tuple(sorted([repr(p.response_a), repr(p.response_b)]))):
                least[tie] = min(least.get(tie, name), name)
        ties = [(p.prompt_key, tuple(sorted([repr(p.response_a), repr(p.response_b)]))) for p in pairs]
        spread = [min(least[a], least[b]) for a, b in ties]
        if spread == names:
            return names
        names = spread


def test_pairs_are_connected_by_the_prompt_and_by_both_responses():
    rows = [
        pair("q1", "yes", "no"),
        pair("q1", "one", "two"),
        pair("q2", "two", "one"),
        pair("q3", "one", "no"),
        pair("q4", "three", "four"),
        pair("q2", "five", "six"),
        pair("q5", "six", "five"),
    ]
    names = components(rows)
    joined = {rows[i].prompt_key for i in (0, 2, 6)}
    assert {names[i] for i in (0, 1, 2, 5, 6)} == {min(joined)}
    assert (names[3], names[4]) == (rows[3].prompt_key, rows[4].prompt_key), "one response in common joins nothing"
    assert components([]) == []


@pytest.mark.parametrize("seed", range(8))
def test_components_are_those_of_a_slow_search_in_any_order_of_rows(seed):
    pairs = random_pairs(seed, 250)
    names = components(pairs)
    assert names == slow_components(pairs)
    assert 3 < len(set(names)) < len({p.prompt_key for p in pairs})
    order = random.Random(seed).sample(range(len(pairs)), len(pairs))
    assert components([pairs[i] if i % 2 else pairs[i].swap() for i in order]) == [names[i] for i in order]


@pytest.mark.parametrize("order", ["falling", "rising", "random"])
def test_a_long_chain_is_one_component_found_quickly(order):
    prompts = sorted((f"q{n}" for n in range(20_000)), key=lambda q: Pair(q, "", "").prompt_key)
    if order != "rising":
        prompts = prompts[::-1] if order == "falling" else random.Random(3).sample(prompts, len(prompts))
    chain = [Pair(q, f"a{n + end}", "b", id=f"{n} {end}") for n, q in enumerate(prompts) for end in (0, 1)]
    smallest = min(p.prompt_key for p in chain)  # hashing the texts is not what is timed
    start = time.process_time()
    assert set(components(chain)) == {smallest}
    assert time.process_time() - start < 3


# The split


def old_split(pairs, share, seed, most):
    """By the prompt alone, which is right where no two prompts have the same two responses."""
    held = [p for p in pairs if draw("validation", seed, p.prompt_key) < share]
    train = [p for p in pairs if not draw("validation", seed, p.prompt_key) < share]
    return train, sorted(held, key=lambda p: draw("order", seed, p.key))[:most]


def simple_pairs(count=600, prompts=200):
    return [pair(f"question {n % prompts}", f"one {n}", f"two {n}", f"r{n}") for n in range(count)]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("most", [None, 7])
def test_pairs_without_shared_responses_are_split_by_their_prompt_alone(seed, most):
    pairs = simple_pairs()
    assert split(pairs, 0.2, seed, most) == old_split(pairs, 0.2, seed, most)
    train, valid = split(pairs, 0.2, seed, None)
    assert len(train) + len(valid) == len(pairs)
    assert 20 <= len({p.prompt for p in valid}) <= 60
    assert [p.id for p in split(pairs, 0.2, seed + 1)[1]] != [p.id for p in valid]


@pytest.mark.parametrize("seed", range(6))
def test_no_prompt_and_no_two_responses_are_on_both_sides(seed):
    pairs = random_pairs(seed, 200) + simple_pairs()
    train, valid = split(pairs, 0.3, seed)
    assert sorted(p.id for p in train + valid) == sorted(p.id for p in pairs)
    assert not {p.prompt_key for p in train} & {p.prompt_key for p in valid}
    sides = [{frozenset((p.response_a, p.response_b)) for p in part} for part in (train, valid)]
    assert not sides[0] & sides[1]
    assert train == [p for p in pairs if p in train]
    shuffled = random.Random(seed).sample(pairs, len(pairs))
    again = split(shuffled, 0.3, seed)
    assert again[1] == valid and sorted(p.id for p in again[0]) == sorted(p.id for p in train)
    assert split(shuffled, 0.3, seed, 5)[1] == valid[:5]
    assert split(pairs, 0.2, seed)[1] == [p for p in valid if p in split(pairs, 0.2, seed)[1]], "a smaller share"


def test_validation_rows_with_equal_texts_come_in_one_order():
    same = [pair("question 4", "yes", "no", f"r{n}") for n in range(6)]
    other = pair("question 1", "a", "b", "r7")
    for rows in ([*same, other], [other, *same[::-1]]):
        assert split(rows, 0.5, 0) == ([other], same)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.999, math.nan])
def test_a_side_without_pairs_stops_the_run(share):
    rows = [pair(f"q{n}", f"a{n}", "b", f"r{n}") for n in range(3)]
    tiny.refusal(TrainError, lambda: split(rows, share, 0), "from 3 groups of pairs", "each need at least one pair")


def test_data_that_hang_together_cannot_be_split():
    rows = [pair(f"q{n}", "yes", "no", f"r{n}") for n in range(50)]
    tiny.refusal(TrainError, lambda: split(rows, 0.5, 0), "from 1 groups of pairs", "each need at least one pair")
    tiny.refusal(TrainError, lambda: split([], 0.5, 0), "from 0 groups", "each need at least one pair")


def test_pairs_without_a_label_stop_the_run():
    rows = [pair("q1", "a", "b", p_b=0.5), Pair("q2", "a", "b", id="r9"), Pair("q3", "a", "b", id="r7")]
    for some in (rows, rows[::-1]):
        tiny.refusal(
            TrainError, lambda some=some: split(some, 0.5, 0), "2 of 3 pairs have neither winner nor p_b", "r7"
        )


# All of it on a file


def test_a_file_in_another_order_gives_the_same_training(tmp_path):
    rows = [replace(p, id=f"x{n}") for n, p in enumerate([*random_pairs(5, 120), *simple_pairs(300, 100)])]
    write_pairs(tmp_path / "one.jsonl.gz", rows)
    write_pairs(tmp_path / "two.jsonl", random.Random(0).sample(rows, len(rows)))
    results = []
    for name in ("one.jsonl.gz", "two.jsonl"):
        kept, gone = remove_duplicates(read_pairs(tmp_path / name).pairs)
        train, valid = split(kept, 0.3, 0)
        results.append((gone, sorted(map(label_of, train), key=repr), sorted(map(label_of, valid), key=repr)))
    assert results[0] == results[1] and results[0][0] > 0
