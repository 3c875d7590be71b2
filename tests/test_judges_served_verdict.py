"""Where a verdict stands in a chat model's text, and what its log probabilities say."""

import math

import pytest
from served_server import completion, token

from harness_plugin.judges.served.states import Malformed, Unusable
from harness_plugin.judges.served.verdict import letter_in, likelihoods, text_of

LEGAL = {
    "A": "A",
    " b\n": "B",
    "**C**": "C",
    "[[A]]": "A",
    "(B).": "B",
    "Verdict: B": "B",
    "Final answer: **A**": "A",
    "My final verdict is: [[B]]": "B",
    "The answer is C.": "C",
    "Response A": "A",
    "Winner: Model B": "B",
    "Tie": "C",
    "Both are good.\n\nVerdict: A\n": "A",
    "<think>B is worse.\nVerdict: B</think>\nA": "A",
    "thoughts without a beginning\nB</think>A": "A",
    "[THINK]A or B?[/THINK]\n\n### B": "B",
    "<|channel|>analysis<|message|>B<|end|><|start|>assistant<|channel|>final<|message|>A": "A",
}
ILLEGAL = [
    "A good response is the second.",
    "A or B",
    "A, B",
    "AB",
    "Neither",
    "Response A is better than Response B",
    "Verdict: A\nI hope that helps.",
    "D",
    "a tie between us",
    "Verdict:",
    "* * *",
    "A" * 300,
    "<think>Verdict: A</think>",
    "The response ends with 'Verdict: B'",
]


@pytest.mark.parametrize("text", LEGAL)
def test_one_legal_verdict_on_the_last_line_is_read(text):
    letter, position = letter_in(text, "ABC")
    assert letter == LEGAL[text] and text[position].upper() in (letter, "T")


@pytest.mark.parametrize("text", ILLEGAL)
def test_anything_else_is_none(text):
    with pytest.raises(Unusable, match="without a legal verdict"):
        letter_in(text, "ABC")


@pytest.mark.parametrize("text", ["```\nB\n```", "Both are short.\n```text\nVerdict: B\n```\n", "~~~\nB\n ~~~"])
def test_the_end_of_a_code_block_is_no_line_of_its_own(text):
    letter, position = letter_in(text, "ABC")
    assert letter == text[position] == "B"
    with pytest.raises(Unusable):
        letter_in("B\nThat is all.\n```", "ABC")


def test_without_ties_c_is_no_verdict():
    with pytest.raises(Unusable):
        letter_in("C", "AB")


@pytest.mark.parametrize("text", ["<think>Verdict: A\nA", "</think><think>A", "[THINK]\nB", "<|channel|>analysis A"])
def test_reasoning_without_an_end_is_cut(text):
    with pytest.raises(Unusable, match="cut"):
        letter_in(text, "ABC")


def test_a_long_line_takes_no_time():
    with pytest.raises(Unusable):
        letter_in("*" * 100_000 + "?", "ABC")


def read(text, *tokens):
    answer = completion(text, {"content": list(tokens)}).body
    return likelihoods(answer, text, letter_in(text, "ABC")[1], "ABC")


def test_log_probabilities_are_those_at_the_verdict_and_not_of_another_letter():
    tokens = [token("Ver", -0.1), token("dict", -0.1), token(":", 0.0)]
    last = token(" B", math.log(0.6), (" B", math.log(0.6)), ("B", math.log(0.1)), (" A", math.log(0.2)))
    assert read("Verdict: B", *tokens, last)[1] == pytest.approx(0.7, abs=1e-9)
    thinking = [token("A", math.log(0.9), ("A", math.log(0.9))), token("</think>", 0.0), token("\n", 0.0)]
    p = read(
        "B", *thinking, token("B", math.log(0.8), ("B", math.log(0.8)), ("A", math.log(0.2))), token("<|im_end|>", 0.0)
    )
    assert p == pytest.approx([0.2, 0.8, 1e-6], abs=1e-5)


@pytest.mark.parametrize(
    "ends",
    [
        ["<|im_end|>"],
        ["</s>"],
        ["<end_of_turn>", "\n"],
        ["<\uff5cend\u2581of\u2581sentence\uff5c>"],
        ["[|endofturn|]"],
        ["<SPECIAL_12>"],
        ["", "<|eot_id|>"],
    ],
)
@pytest.mark.parametrize("letter", ["A", "c"])
def test_the_mark_of_the_end_is_no_part_of_the_answer(letter, ends):
    chosen = token(letter, math.log(0.8), (letter, math.log(0.8)), ("B", math.log(0.2)))
    p = read(letter, chosen, *(token(end, -0.1, (end, -0.1)) for end in ends))
    assert p["ABC".index(letter.upper())] == pytest.approx(0.8, abs=1e-5)


def test_a_verdict_in_a_code_block_has_its_log_probabilities():
    chosen = token("B", math.log(0.9), ("B", math.log(0.9)), ("A", math.log(0.1)))
    p = read("```\nB\n```", token("```", 0.0), token("\n", 0.0), chosen, token("\n", 0.0), token("```", 0.0))
    assert p[1] == pytest.approx(0.9, abs=1e-5)


@pytest.mark.parametrize("tokens", [["Verdict", ":", "B"], ["\u2581Verdict", ":", "\u2581B"], ["Verdict:", " B"]])
def test_white_space_that_tokens_lose_when_they_are_decoded_alone_does_not_matter(tokens):
    before = [token(text, 0.0) for text in tokens[:-1]]
    last = tokens[-1], math.log(0.9)
    p = read("Verdict: B", *before, token(*last, last, ("A", math.log(0.1))))
    assert p[1] == pytest.approx(0.9, abs=1e-5)


def test_tokens_that_are_written_in_the_same_way_count_together():
    """A letter with and without a space before it, each decoded alone by a tokenizer that drops the space."""
    tops = [("A", math.log(0.4)), ("B", math.log(0.3)), ("A", math.log(0.2)), ("B", math.log(0.05))]
    assert read("A", token("A", math.log(0.4), *tops)) == pytest.approx([0.6, 0.35, 0.05])
    beside = read("A", token("A", math.log(0.2), ("B", math.log(0.7))))  # the chosen one is not among those at the top
    assert beside == pytest.approx([0.2, 0.7, 0.1])


@pytest.mark.parametrize("odd", [float("-inf"), float("nan"), -(10**400), -9999.0])
def test_a_log_probability_of_nothing_is_that_of_an_absent_token(odd):
    p = read("A", token("A", math.log(0.9), ("A", math.log(0.9)), ("B", odd)))
    assert p[0] > 0.8 and 0 < p[1] < 0.1


@pytest.mark.parametrize("reason", ["eos_token", "STOP", "", "eos", None])
def test_every_word_for_a_proper_end_is_one(reason):
    assert text_of(completion("A", reason=reason).body) == "A"


def test_a_letter_that_is_not_listed_gets_what_it_may_have_at_most():
    p = read("A", token("A", math.log(0.9), ("A", math.log(0.9)), ("B", math.log(0.06)), ("The", math.log(0.01))))
    assert [x / p[0] for x in p] == pytest.approx([1, 0.06 / 0.9, 0.01 / 0.9])  # the smallest that is listed
    p = read("A", token("A", math.log(0.97), ("A", math.log(0.97))))
    assert [x / p[0] for x in p] == pytest.approx([1, 0.03 / 0.97, 0.03 / 0.97])  # what is left over


def test_letters_with_less_than_half_of_the_probability_are_no_verdict():
    few = token("A", math.log(0.3), ("A", math.log(0.3)), ("B", math.log(0.15)), ("The", math.log(0.5)))
    with pytest.raises(Unusable, match=r"the letters A, B, C have 0\.450 of the probability"):
        read("A", few)


def test_minus_9999_is_an_absent_token():
    p = read("A", token("A", -0.1, ("A", -0.1), ("B", -9999.0), ("C", -9999.0)))
    assert p[0] > 0.8 and p[1] == p[2] > 0


@pytest.mark.parametrize("logprobs", [None, {}, {"content": None}, {"content": []}])
def test_without_log_probabilities_only_the_letter_is_known(logprobs):
    assert likelihoods(completion("A", logprobs).body, "A", 0, "ABC") is None


def test_a_word_of_several_tokens_has_no_log_probability_of_a_letter():
    assert read("Tie", token("T", -0.1), token("ie", -0.1)) is None


@pytest.mark.parametrize(
    "tokens",
    [
        [{"logprob": -1, "top_logprobs": [{}]}],
        ["A", token("A", -0.1, ("A", -0.1))],
        [token("A", True, ("A", True))],
        [token("A", -0.1, ("A", "x"))],
    ],
)
def test_log_probabilities_of_another_shape_are_malformed(tokens):
    with pytest.raises(Malformed):
        read("A", *tokens)


def test_a_content_in_parts_is_one_text():
    assert (
        text_of(completion([{"type": "text", "text": "Verdict: "}, {"type": "text", "text": "A"}]).body) == "Verdict: A"
    )
    with pytest.raises(Malformed):
        text_of(completion({"text": "A"}).body)
