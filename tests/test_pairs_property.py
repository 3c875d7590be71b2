"""Random rows of every format, with random columns beside them, nulls, turns and orders of columns, through the reader
and the writer: what was read is what was meant, or the row is left out. The rows are made from what they mean."""

import json
import random

import pytest
from random_rows import BATTLES, EXTRA, MAKERS, SIDES_ARE_DRAWN, made, meaning, turns_of, with_parts

from harness_plugin.errors import DataError
from harness_plugin.pairs import MissingAnswer, Pair, pairs_from_rows, read_outputs, read_pairs, write_pairs
from harness_plugin.pairs.formats.registry import FORMATS

ROWS_EACH = 300


def as_meant(said, format):
    """The prompt, and the responses with the winner in the order of the sides."""
    labelled = format not in BATTLES
    a, b = tuple(said.a), tuple(said.b)
    return Pair(said.prompt(labelled), a, b, winner=said.winner)


def same_battle(found, meant, sides_are_drawn):
    sides = [meant, meant.swap()] if sides_are_drawn else [meant]
    return any(found.key == pair.key and found.winner == pair.winner for pair in sides)


@pytest.mark.parametrize("format", MAKERS)
def test_what_is_read_is_what_was_meant_or_the_row_is_left_out(format, tmp_path):
    rng = random.Random(format)
    rows = [made(rng, format) for _ in range(ROWS_EACH)]
    prompts = {}
    for said, row in rows:
        try:
            (pair,) = pairs_from_rows([row], format=format).pairs
        except DataError as error:
            assert isinstance(error.__cause__, MissingAnswer) and not said.whole, row
            continue
        meant = as_meant(said, format)
        assert said.whole and same_battle(pair, meant, format in SIDES_ARE_DRAWN), row
        prompts.setdefault(pair.prompt_key, meant.prompt)
        assert prompts[pair.prompt_key] == meant.prompt == pair.prompt
        assert not {"system", "history", "context", "input"} & set(pair.meta)
    whole = [row for said, row in rows if said.whole]
    lines = tmp_path / "rows.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in whole), "utf-8")
    found = read_pairs(lines, format=format)
    assert len(found.pairs) == len(whole) and not found.missing and found.format == format
    write_pairs(tmp_path / "pairs.jsonl.gz", found.pairs)
    assert read_pairs(tmp_path / "pairs.jsonl.gz").pairs == found.pairs


def test_every_format_is_tried():
    assert set(MAKERS) == set(FORMATS) and len(MAKERS) * ROWS_EACH >= 5000


def alpaca_outputs(rng, said, number):
    return {"instruction": said.turns[0], "output": said.a[0], "generator": "heron"}


def plain_answers(rng, said, number):
    return {"prompt": turns_of(rng, said.turns), "response": turns_of(rng, said.a), "model": "heron"}


def choices(rng, said, number):
    turns = [text if rng.random() < 0.5 else {"content": text} for text in said.a]
    return {"question_id": number, "model_id": "heron", "choices": [{"index": 0, "turns": turns}]}


def answer_messages(rng, said, number):
    answer = rng.choice([said.a[0], {"answer": said.a[0]}])
    talk = [{"role": "user", "content": said.turns[0]}, {"role": "assistant", "content": answer}]
    return {"uid": f"q{number}", "model": "heron", "messages": talk}


@pytest.mark.parametrize("make", [alpaca_outputs, plain_answers, choices, answer_messages])
def test_answers_are_read_as_they_were_meant_or_are_missing(make, tmp_path):
    rng = random.Random(make.__name__)
    several = make in (plain_answers, choices)
    meanings = [meaning(rng, several) for _ in range(ROWS_EACH)]
    rows = []
    for number, said in enumerate(meanings):
        said.turns[0] += f" {number}"  # no prompt is asked twice
        skip = ("messages", "history") if make is answer_messages else ()
        if skip:
            said.history = []
        row = with_parts(rng, said, make(rng, said, number), skip) | dict(rng.sample(sorted(EXTRA.items()), k=2))
        rows.append(dict(rng.sample(sorted(row.items()), k=len(row))))
    for name, lines in {
        "answers.jsonl": rows,
        "question.jsonl": [{"question_id": n, "turns": said.turns} for n, said in enumerate(meanings)],
    }.items():
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in lines), "utf-8")
    found = read_outputs(tmp_path / "answers.jsonl", tmp_path / "question.jsonl" if make is choices else None)
    assert len(found) == len(meanings)
    for said, answer in zip(meanings, found, strict=True):
        meant = Pair(said.prompt(labelled=True), "", "")
        assert answer.prompt == meant.prompt and answer.model == "heron"
        whole = None if None in said.a else said.a[0] if len(said.a) == 1 else tuple(said.a)
        assert answer.response == whole
