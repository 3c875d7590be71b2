"""Chatbots of the judge's own family are named, and what is known of the judge's preference for them."""

import pytest
import tournament_rows

from harness_plugin import tournament
from harness_plugin.report import board_words
from harness_plugin.tournament.families import families_of, own_family


@pytest.mark.parametrize(
    ("name", "families"),
    [
        ("google/gemma-2-9b-it", {"Gemma"}),
        ("gpt4_1106_preview", {"GPT"}),
        ("chatgpt-4o-latest", {"GPT"}),
        ("Meta-Llama-3-8B", {"Llama"}),
        ("vicuna-13b", {"Llama"}),
        ("Mixtral-8x7B", {"Mistral"}),
        ("DeepSeek-R1-Distill-Qwen-7B", {"DeepSeek", "Qwen"}),
        ("claude-2.1", {"Claude"}),
        ("gemini-pro", {"Gemini"}),
        ("gpt2", set()),
        ("gpt-j-6b", set()),
        ("gpt4all-13b-snoozy", set()),
        ("ollama", set()),
        ("dolphin-7", set()),
        ("Kayi-34b", set()),
    ],
)
def test_families_are_read_from_names(name, families):
    assert families_of(name) == families


def test_all_names_in_an_identity_count_and_each_family_is_named_once():
    members = [{"base": "/llama/models/google/gemma-2b", "adapter": "me/gemma-arena"}, {"served_model": "gpt-4o"}]
    panel = {"kind": "panel", "members": members}
    found = own_family(panel, ["gemma-7b", "gpt-4", "claude-2", "llama-3"])
    assert [(row["family"], row["models"]) for row in found] == [("Gemma", ["gemma-7b"]), ("GPT", ["gpt-4"])]
    assert own_family({"base": "other/model", "template": "gemma"}, ["gemma-7b"]) == []


def board():
    verdicts = tournament_rows.season(["gemma-7b", "claude-2"], prompts=40)
    found = tournament.Battles(["claude-2", "gemma-7b"], {}, tournament.Meetings(), tournament.Meetings(), {}, {}, {})
    return tournament.summary(tournament.leaderboard(verdicts), found, {"hash": "0" * 16, "base": "google/gemma-2b"})


def test_the_report_says_what_is_known_of_self_preference():
    said = board_words.warnings(board(), str)[-1]
    assert "google/gemma-2b" in said and "as gemma-7b" in said and "it is not known whether this one does" in said
    anchored = board()
    for row in anchored["models"]:
        row |= {"judge_error": 0.0412, "judge_error_low": 0.01, "judge_error_high": 0.07}
    assert "gemma-7b 0.041 [0.010, 0.070] (positive: too kind)" in board_words.warnings(anchored, str)[-1]
    other = board()
    other["own_family"] = own_family({"base": "qwen"}, ["gemma-7b"])
    assert not any("family" in said for said in board_words.warnings(other, str))
