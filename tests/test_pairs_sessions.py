"""The arena's sessions: a vote is judged with the rounds before it, and without its own answers."""

import json

import pytest
from pair_reads import read_one
from pair_rows import ROWS, change, parts, talk

from harness_plugin.errors import DataError


def round_of(question, a, b):
    said = lambda role, text: None if text is None else {"role": role, "content": parts(text)}  # noqa: E731
    return {
        "user": said("user", question),
        "model_side_a": said("assistant", a),
        "model_side_b": said("assistant", b),
    }


def vote(*rounds):
    now = {"conversation_a": talk("And a fish?", "Cod."), "conversation_b": talk("And a fish?", "Oak.")}
    return read_one(change("arena_140k", **now, full_conversation=list(rounds))).prompt


def test_a_follow_up_vote_is_judged_with_the_conversation_before_it():
    now = round_of("And a fish?", "Cod.", "Oak.")
    assert vote(now) == vote() == "And a fish?"
    before = round_of("Name a nut.", "Walnut.", "Plum.")
    expected = ("Human: Name a nut.", "Assistant: Walnut.", "Assistant: Plum.", "And a fish?")
    assert vote(before, now) == expected
    assert vote(round_of("Name a nut.", "Walnut.", "Walnut."), now) == (*expected[:2], "And a fish?")
    assert vote(round_of("Name a nut.", "Walnut.", None), now) == (*expected[:2], "And a fish?")
    assert vote(before) == expected, "where the session lacks the current round, all of it came before"
    assert vote(now, before, now) == ("Human: And a fish?", "Assistant: Cod.", "Assistant: Oak.", *expected)
    assert vote(*talk("Name a nut.", "Walnut.", "And a fish?", "Cod.")) == (*expected[:2], "And a fish?")
    spaced = round_of("And a\u00a0fish?\r\n", "Cod.", "Oak.")
    assert vote(before, spaced) == expected, "white space does not make another question"


def test_a_session_does_not_bring_the_answers_of_the_vote_into_the_prompt():
    with pytest.raises(
        DataError, match=r"field full_conversation is 'A fish\?'; allowed: a session that ends with the qu"
    ):
        vote(round_of("A fish?", "Cod.", "Oak."))
    assert vote(round_of("A fish?", "Cod.", "Elm."))[:3] == ("Human: A fish?", "Assistant: Cod.", "Assistant: Elm.")


def test_a_question_that_begins_as_a_system_prompt_does_is_found_in_the_session():
    talks = {
        "conversation_a": talk("System: on?", "a", "Off?", "b"),
        "conversation_b": talk("System: on?", "c", "Off?", "d"),
    }
    rounds = [round_of("System: on?", "a", "c"), round_of("Off?", "b", "d")]
    assert read_one(change("arena_140k", **talks, full_conversation=rounds)).prompt == ("System: on?", "Off?")


def test_a_session_may_be_json_text_and_must_be_a_session():
    row = change("arena_140k", full_conversation="[]")
    assert read_one(row) == read_one(ROWS["arena_140k"])
    before = json.dumps([round_of("Name a nut.", "Walnut.", "Plum."), round_of("Hi", "Hello.\nThere.", "")])
    assert read_one(change("arena_140k", full_conversation=before)).prompt[0] == "Human: Name a nut."
    for wrong in ("[", 3, [3], [{"model_side_a": "x"}], [{"user": None}]):
        with pytest.raises(DataError, match="field full_conversation"):
            read_one(change("arena_140k", full_conversation=wrong))
