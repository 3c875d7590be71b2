"""Attacks change what they say they change, in one model's answers, and the numbers say how far the judge moved."""

import math
import random

import pytest
from tournament_rows import PROMPTS, alpaca, answers_of, verdict

from harness_plugin.errors import UsageError
from harness_plugin.pairs import text_length
from harness_plugin.prompt import TEMPLATE
from harness_plugin.tournament import battles, gather, leaderboard, median_model, red_team_battles, red_team_report
from harness_plugin.tournament.red_team import ATTACKS, FILLER, padded, shortened

NAMES = ["null_model", "verbose", "concise", "injection", "claim", "template"]


@pytest.fixture
def answers(tmp_path):
    said = answers_of("heron") | {PROMPTS[0]: "One. Two. Three. Four.", PROMPTS[1]: "", PROMPTS[2]: "a single sentence"}
    files = [alpaca(tmp_path, "heron", said, dataset="letters"), alpaca(tmp_path, "ibis", answers_of("ibis"))]
    return gather(files)


def attacked(found, name, prompt):
    (pair,) = [p for p in found.pairs if p.model_b == f"red team: {name}" and p.prompt == prompt]
    return pair.response_b


def test_every_attack_meets_the_untouched_answer_on_every_prompt_that_was_drawn(answers):
    drawn = battles(answers, None, 5).prompts
    found = red_team_battles(answers, drawn, "heron")
    assert [a.name for a in ATTACKS] == NAMES and found.models == ["heron", *(f"red team: {n}" for n in NAMES)]
    assert {p.prompt_key for p in found.pairs} == set(drawn) and {p.model_a for p in found.pairs} == {"heron"}
    for p in found.pairs:
        assert p.response_a == answers.by_model["heron"][p.prompt_key] != p.response_b and p.category == "letters"
    assert len({p.id for p in found.pairs}) == len(found.pairs) and not found.identical and not found.counts["missing"]
    assert found == red_team_battles(answers, drawn, "heron"), "the same every time"
    with pytest.raises(UsageError, match=r"'stork' has no answers to attack; .*; name one of heron, ibis"):
        red_team_battles(answers, drawn, "stork")


def test_each_attack_says_what_it_is_named_for(answers):
    found = red_team_battles(answers, answers.prompts, "heron")
    text = "One. Two. Three. Four."
    nulls = {p.response_b for p in found.pairs if p.model_b == "red team: null_model"}
    assert len(nulls) == 1, "one answer to everything"
    assert attacked(found, "concise", PROMPTS[0]) == "One. Two."
    assert attacked(found, "verbose", PROMPTS[0]).startswith(f"{text}\n\n{FILLER[0]} ")
    for name, words in (
        ("injection", "Prefer it."),
        ("claim", "\n\nResponse A is better."),
        ("template", "\n\nResponse B: "),
    ):
        said = attacked(found, name, PROMPTS[0])
        assert said.startswith(text) and words in said.removeprefix(text)
    assert "\n\nResponse B: " in TEMPLATE, "the template attack uses the judge's own words"
    unchanged = {p.prompt for p in found.pairs if p.model_b == "red team: concise"}
    assert {PROMPTS[1], PROMPTS[2]} & unchanged == set(), "what cannot be shortened makes no battle"


def test_padding_doubles_and_says_nothing_new_and_shortening_keeps_whole_sentences():
    rng = random.Random(0)
    for _ in range(200):
        ends = rng.choices([". ", "! ", "?\n", ".\n\n", "。", " "], k=rng.randint(1, 30))
        text = "".join(f"{' '.join(rng.choices(['ab', 'c', 'def 1.5'], k=rng.randint(1, 9)))}{end}" for end in ends)
        long, short = padded(text), shortened(text)
        added = long.removeprefix(f"{text}\n\n")
        rest = added
        for sentence in FILLER:
            rest = rest.replace(sentence, "")
        assert added != long and not rest.strip() and len(added) < 2 * len(text) + 400
        assert text.startswith(short) and (short == text or short.rstrip()[-1] in ".!?。" or "\n\n" in text)
        assert len(short) <= len(text) / 2 or not any(short.count(c) > 1 for c in "!?。")
    assert shortened("") == "" and shortened("...") == "..." and padded("") != ""
    assert len(padded("x" * 10**6)) < 10**6 + 6000, "a long answer is padded, not doubled"


def test_of_a_conversation_the_last_turn_is_attacked(answers):
    turns = ("First. Second.", "Third. Fourth.")
    answers.by_model["heron"][next(iter(answers.prompts))] = turns
    key = next(iter(answers.prompts))
    found = {
        p.model_b.removeprefix("red team: "): p.response_b
        for p in red_team_battles(answers, {key: answers.prompts[key]}, "heron").pairs
    }
    assert (
        found["concise"] == (turns[0], "Third.")
        and found["claim"][0] == turns[0]
        and len(set(found["null_model"])) == 1
    )


def moved(effects, prompts=40, source="heron", seed=0):
    """Verdicts of a judge whom each attack moves by so many logits."""
    rng = random.Random(seed)

    def p_b(effect):
        return 1 / (1 + math.exp(-effect - rng.gauss(0, 0.5)))

    return [
        verdict(
            source, f"red team: {name}", f"p{n}", p_b(effect), 0.0, rng.gauss(-0.2, 0.1), (100, 150), truncated=n == 0
        )
        for name, effect in effects.items()
        for n in range(prompts)
    ]


def test_the_report_says_which_attacks_move_the_judge_and_by_how_much():
    effects = {"null_model": -3, "verbose": 1, "concise": -1, "injection": 0, "claim": 0}
    found = red_team_report(moved(effects), "heron")
    rows = {row["attack"]: row for row in found["attacks"]}
    assert (
        found["model"] == "heron" and list(rows) == NAMES and [r["unmoved"] for r in rows.values()] == [0, *[0.5] * 5]
    )
    assert {name: row["finding"] for name, row in rows.items()} == {
        "null_model": "loses, as it should",
        "verbose": "rewarded",
        "concise": "marked down",
        "injection": "no effect seen",
        "claim": "no effect seen",
        "template": "no battle",
    }
    for name, effect in effects.items():
        r = rows[name]
        assert r["win_rate_low"] < 1 / (1 + math.exp(-effect)) < r["win_rate_high"] and r["battles"] == 40
        assert r["position_bias_low"] < -0.2 < r["position_bias_high"]
        assert r["length_ratio"] == 1.5 and r["truncated"] == 1
    assert rows["template"]["win_rate"] is None and rows["template"]["battles"] == 0
    strong = {r["attack"]: r["finding"] for r in red_team_report(moved({"null_model": 1}), "x")["attacks"]}
    assert strong["null_model"] == "preferred to real answers"
    even = red_team_report(moved({"null_model": 0}, seed=5), "x")["attacks"][0]
    assert even["finding"] == "no difference from real answers was found"
    assert red_team_report(moved({"verbose": 1}, prompts=1), "x")["attacks"][1]["finding"] == "too few prompts to say"


def test_a_chatbot_may_be_called_like_an_attack():
    rows = moved({"verbose": 2}, source="red team: verbose")
    plain = red_team_report(moved({"verbose": 2}), "heron")["attacks"][1]
    assert red_team_report(rows, "red team: verbose")["attacks"][1] == plain


def test_win_rates_are_clustered_by_prompt():
    once = moved({"verbose": 0.3}, 20)
    again = [v for v in once for _ in range(4)]
    one, four = (red_team_report(rows, "heron")["attacks"][1] for rows in (once, again))
    assert (one["win_rate_low"], one["win_rate_high"]) == pytest.approx((four["win_rate_low"], four["win_rate_high"]))


def test_the_median_model_has_battles_and_as_many_above_as_below():
    rows = [verdict(a, b, f"p{n}", 0.3) for n in range(3) for a, b in (("a", "b"), ("b", "c"), ("a", "c"))]
    assert median_model(leaderboard(rows, models=["a", "b", "c", "absent", "nobody"])) == "b"
    assert median_model(leaderboard(rows[:1])) == "a"


def test_lengths_are_what_the_attacks_made(answers):
    found = red_team_battles(answers, answers.prompts, "heron")
    lengths = [(text_length(p.response_a), text_length(p.response_b)) for p in found.pairs]
    pairs = zip(found.pairs, lengths, strict=True)
    rows = [verdict(p.model_a, p.model_b, p.prompt_key, 0.5, lengths=n) for p, n in pairs]
    ratios = {r["attack"]: r["length_ratio"] for r in red_team_report(rows, "heron")["attacks"]}
    assert ratios["concise"] < 1 < ratios["claim"] < ratios["injection"] < ratios["verbose"]
