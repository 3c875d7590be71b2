"""Bad rows of every published format that `pairs` reads: named by row, field, value and what was allowed."""

import json
import random

import pytest
from pair_rows import ROWS, change, parts, say, talk

from harness_plugin.errors import DataError
from harness_plugin.pairs import FORMATS, Pair, pair_from_row, pairs_from_rows

TWICE = '[{"role": "user", "content": "Hi", "content": "Bye"}, {"role": "assistant", "content": "a"}]'
CALL = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "search", "arguments": "{}"}}]}
IMAGE = [{"type": "text", "text": "What is it?"}, {"type": "image", "image": "x.png"}]
ODD_ROUNDS = say(("user", "Hi"), ("assistant", "a"), ("assistant", "b"))
BAD_ROWS = [
    ("canonical", {"winner": "tie (bothbad)"}, "field winner is 'tie (bothbad)'; allowed: 'model_a', 'model_b'"),
    ("canonical", {"prompt": {"text": "Hi"}}, "field prompt is {'text': 'Hi'}; allowed: a string, or a list"),
    ("arena_55k", {"prompt": "Hi"}, "field prompt is 'Hi'; allowed: a JSON list of strings or nulls"),
    ("arena_55k", {"prompt": "['Hi'"}, "allowed: a JSON list of strings or nulls"),
    ("arena_55k", {"response_a": "[]"}, "field response_a is '[]'; allowed: a JSON list"),
    ("arena_55k", {"response_a": "[1]"}, "field response_a is '[1]'; allowed: a JSON list"),
    ("arena_55k", {"response_b": '["\\ud83d"]'}, "field response_b is '\\ud83d'; allowed: text without lone"),
    ("arena_55k", {"winner_tie": 1}, "field winner_model_a, winner_model_b, winner_tie is (0, 1, 1); allowed: exactly"),
    ("arena_55k", {"winner_model_b": 0}, "is (0, 0, 0); allowed: exactly one 1"),
    ("arena_55k", {"winner_tie": "no"}, "field winner_tie is 'no'; allowed: 0 or 1, false or true"),
    ("arena_55k", {"winner_tie": None}, "field winner_tie is None; allowed: 0 or 1, false or true"),
    ("arena_100k", {"winner": "bad"}, "field winner is 'bad'; allowed: 'model_a', 'model_b', 'tie', 'tie (bothbad)', "),
    ("arena_140k", {"winner": "bad"}, "allowed: 'model_a', 'model_b', 'tie', 'tie (bothbad)', 'both_bad', or null"),
    ("mt_bench", {"winner": ["tie"]}, "field winner is ['tie']; allowed: 'model_a'"),
    ("arena_100k", {"model_b": 5}, "field model_b is 5; allowed: a string"),
    ("arena_100k", {"question_id": ["q"]}, "field question_id is ['q']; allowed: a string"),
    ("arena_100k", {"conversation_b": "[]"}, "field conversation_b is '[]'; allowed: a list of messages"),
    ("arena_100k", {"conversation_b": [7]}, "field conversation_b[0] is 7; allowed: a message with role and content"),
    (
        "arena_100k",
        {"conversation_a": say(("bot", "Hi"))},
        "field conversation_a[0].role is 'bot'; allowed: 'system', ",
    ),
    ("arena_100k", {"conversation_a": say(("user", 3))}, "field conversation_a[0].content is 3; allowed: a string"),
    ("arena_100k", {"conversation_a": say(("user", "\udc00"))}, "field conversation_a[0].content is '\\udc00'"),
    ("arena_100k", {"conversation_a": ODD_ROUNDS}, "field conversation_a[2].role is 'assistant'; allowed: one assis"),
    ("arena_100k", {"conversation_a": say(("system", "x"))}, "field conversation_a has no user's turn"),
    (
        "arena_100k",
        {"conversation_b": talk("Hi", "x", "Cuont.", "y")},
        "field conversation_b is 'Cuont.'; allowed: the",
    ),
    ("arena_100k", {"conversation_b": talk("Hi", "x")}, "is '1 turns, where conversation_a has 2'; allowed: the same"),
    ("arena_140k", {"conversation_a": say(("user", IMAGE))}, "field conversation_a[0].content[1].type is 'image'"),
    ("chosen_rejected", {"chosen": [*say(("user", "Hi")), CALL]}, "field chosen[1].tool_calls is"),
    ("arena_100k", {"conversation_a": TWICE}, "field conversation_a is '[{"),
    ("arena_100k", {"conversation_a": [*say(("user", "Hi")), CALL]}, "field conversation_a[1].tool_calls is"),
    ("arena_140k", {"conversation_a": say(("user", ["x"]))}, "field conversation_a[0].content[0] is 'x'; allowed: a"),
    ("arena_140k", {"conversation_a": say(("user", parts(4)))}, "content[0].text is 4; allowed: a string or null"),
    ("mt_bench", {"turn": 3}, "field turn is 3; allowed: a whole number from 1 to the 2 turns"),
    ("mt_bench", {"turn": "1"}, "field turn is '1'; allowed: a whole number"),
    ("mt_bench", {"turn": True}, "field turn is True; allowed: a whole number"),
    ("chosen_rejected", {"rejected": 3}, "field rejected is 3; allowed: a string, or messages with role and content"),
    ("chosen_rejected", {"chosen": 3}, "field chosen is 3; allowed: a string, or messages with role and content"),
    ("chosen_rejected", {"chosen": ["Hello."]}, "field chosen[0] is 'Hello.'; allowed: a message"),
    ("chosen_rejected", {"prompt": None}, "chosen is 'Hello.', and no column holds the prompt (fields found: "),
    ("chosen_rejected", {"prompt": 8}, "field prompt is 8; allowed: a string, or a list of at least one"),
    ("chosen_rejected", {"subset": 8}, "field subset is 8; allowed: a string"),
    ("chosen_rejected", {"id": 1.5}, "field id is 1.5; allowed: a string"),
    (
        "chosen_rejected",
        {"chosen": talk("Hi", "a", "b", "c"), "rejected": talk("Hi", "d", "b", "e")},
        "field chosen is '1 shared messages, then assistant, user, assistant'; allowed: one assistant's message",
    ),
    (
        "chosen_rejected",
        {"prompt": None, "chosen": say(("assistant", "a")), "rejected": say(("assistant", "b"))},
        "field chosen is 'an answer alone (a)'; allowed: the prompt before",
    ),
    (
        "alpaca_eval",
        {"preference": 2.01},
        "field preference is 2.01; allowed: a number from 1 to 2, 0 (a tie), or null",
    ),
    ("alpaca_eval", {"preference": 0.5}, "field preference is 0.5; allowed: a number"),
    ("alpaca_eval", {"preference": "1"}, "field preference is '1'; allowed: a number"),
    ("alpaca_eval", {"preference": True}, "field preference is True; allowed: a number"),
    ("alpaca_eval", {"output_2": 3}, "field output_2 is 3; allowed: a string"),
    ("alpaca_eval", {"generator_1": 1}, "field generator_1 is 1; allowed: a string"),
    ("lm_eval", {"doc": {"prompt": "Hi"}}, "field doc is {'prompt': 'Hi'}; allowed: an object with prompt, resp"),
    ("lm_eval", {"doc": {**ROWS["lm_eval"]["doc"], "swapped": "no"}}, "field doc.swapped is 'no'; allowed: true or"),
    ("lm_eval", {"doc": {**ROWS["lm_eval"]["doc"], "winner": 2}}, "field winner is 2; allowed: 'model_a'"),
]


@pytest.mark.parametrize(("format", "fields", "expected"), BAD_ROWS)
def test_bad_rows_name_the_row_the_field_the_value_and_what_was_allowed(format, fields, expected):
    bad = change(format, **fields)
    with pytest.raises(DataError) as caught:
        pairs_from_rows([ROWS[format], bad], format=format, source="file.jsonl")
    text = str(caught.value)
    assert text.startswith("file.jsonl row 2: field ") and expected in text
    assert text.endswith("correct the row, or leave bad rows out with --skip-bad-rows")
    found = pairs_from_rows([ROWS[format], bad], format=format, skip_bad_rows=True)
    assert len(found.pairs) == 1 and expected in str(found.skipped[0])
    assert str(found.skipped[0]).endswith("correct the row"), "it was left out already"


@pytest.mark.parametrize("format", FORMATS)
def test_no_value_in_any_column_gives_anything_but_a_pair_or_a_data_error(format):
    deep = [0]
    for _ in range(400):
        deep = [deep]
    odd = [None, True, 0, -1, 1e999, 10**400, "", "\ud800", "[", '["x"]', b"x", [], {}, [None], [[]], {"x": {}}, deep]
    odd += [talk("a"), talk("a", "b"), [{"role": [], "content": []}], [{"role": "user", "content": [{}]}]]
    rng = random.Random(5)
    for _ in range(1500):
        row = dict(ROWS[format])
        for name in rng.sample(sorted(row), k=min(len(row), rng.randrange(1, 4))):
            row[name] = rng.choice(odd)
        try:
            pair = pair_from_row(row, format)
        except DataError as error:
            assert str(error)
        else:
            assert pair is None or Pair.from_dict(json.loads(json.dumps(pair.to_dict()))) == pair
