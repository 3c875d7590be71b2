"""Pairs that are made up for training: answers to other prompts, and answers made worse."""

from collections import Counter

import tiny

from harness_plugin.pairs import Pair
from harness_plugin.train.augment import degrade, mismatch


def test_mismatched_pairs_set_an_answer_against_one_of_equal_length_to_another_prompt():
    pairs = [Pair(f"question {n}", "a" * (n + 1), "b" * (n + 3), p_b=0.9) for n in range(60)]
    made = mismatch(pairs, 0.5, 0)
    assert len(made) == 30 and {p.meta["source"] for p in made} == {"mismatched"}
    own = {p.prompt: p.response_b for p in pairs}
    sides = Counter()
    for p in made:
        right, wrong = (p.response_b, p.response_a) if p.p_b > 0.5 else (p.response_a, p.response_b)
        assert right == own[p.prompt] != wrong and abs(len(right) - len(wrong)) <= 2
        sides[p.p_b > 0.5] += 1
    assert min(sides.values()) >= 6
    assert {p.key for p in mismatch(pairs[::-1], 0.5, 0)} == {p.key for p in made}
    assert mismatch(pairs, 0.0, 0) == mismatch(pairs[:1], 1.0, 0) == []


def unbroken(count, seed):
    """Words without the end of a sentence among them."""
    return tiny.words(count, seed).translate(str.maketrans("", "", ".!?\n"))


def test_degraded_pairs_set_an_answer_against_itself_made_worse_and_length_says_nothing_of_which():
    pairs = [Pair(f"ask {i}", unbroken(20 + i, i), unbroken(5, 100 + i), p_b=0.1) for i in range(200)]
    made = degrade(pairs, 0.9, 0)
    assert len(made) == 180 and {p.meta["source"] for p in made} == {"degraded"}
    longer = repeated = 0
    for pair in made:
        good, worse = (
            (pair.response_b, pair.response_a) if pair.soft_label > 0.5 else (pair.response_a, pair.response_b)
        )
        assert good in {p.response_a for p in pairs} and worse != good
        assert worse.startswith(good) or good.startswith(worse)
        longer += len(worse) > len(good)
        repeated += worse.startswith(f"{good} {good}")
    assert 0.15 < repeated / len(made) < 0.35, "a quarter repeats its last sentence, here all of it"
    assert 0.35 < longer / len(made) < 0.65 and 0.35 < sum(p.soft_label > 0.5 for p in made) / 180 < 0.65
    assert {p.key for p in degrade(pairs[::-1], 0.9, 0)} == {p.key for p in made}
    assert degrade([Pair("ask", "too short to cut", "b", p_b=0.1)], 1.0, 0) == degrade(pairs, 0.0, 0) == []


def test_half_of_the_degraded_answers_are_beginnings_that_end_with_a_sentence():
    text = {f"ask {i}": " ".join(unbroken(15, 50 * i + k) + "." for k in range(9)) for i in range(200)}
    made = degrade([Pair(prompt, answer, "no", p_b=0.1) for prompt, answer in text.items()], 1.0, 0)
    good = {p.prompt: p.response_b if p.soft_label > 0.5 else p.response_a for p in made}
    short = [prompt for prompt, answer in good.items() if answer != text[prompt]]
    assert 70 < len(short) < 130 and all(text[p].startswith(good[p]) and good[p].endswith(".") for p in short)
    assert len({len(good[p].split()) // 15 for p in short}) > 5


def test_a_made_pair_never_prefers_an_empty_answer_and_never_shows_by_its_turns_which_is_right():
    answers = ["\n\n1.\n\n" + unbroken(15, i) + ". " + unbroken(9, 300 + i) for i in range(100)]
    pairs = [Pair(f"ask {i}", answer, "no", p_b=0.1) for i, answer in enumerate(answers)]
    pairs += [Pair(f"blank {i}", " ", "no", p_b=0.1) for i in range(9)]
    pairs += [Pair((f"first {i}", "second"), ("a", "b"), ("c", "d"), p_b=0.1) for i in range(9)]
    for made in (mismatch(pairs, 1.0, 0), degrade(pairs, 1.0, 0)):
        good = [p.response_b if p.soft_label > 0.5 else p.response_a for p in made]
        assert len(made) > 80 and all(isinstance(text, str) and len(text.strip()) >= 20 for text in good)
        assert any(text not in answers for text in good)
