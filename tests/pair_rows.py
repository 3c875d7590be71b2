"""Rows of every format of pairs and of answers that `pairs` reads, in the publishers' columns; the text is made up."""

import io
import json
import random
import zipfile

import pytest

from harness_plugin.errors import DataError
from harness_plugin.pairs import Pair, Winner, read_pairs


def say(*turns):
    return [{"role": role, "content": content} for role, content in turns]


def talk(*texts):
    return say(*zip(("user", "assistant") * len(texts), texts, strict=False))


def parts(*texts):
    return [{"type": "text", "text": text, "image": None, "mimeType": None} for text in texts]


MODELS = {"model_a": "heron", "model_b": "stork"}
TALKS = {"conversation_a": talk("Hi", "Hello."), "conversation_b": talk("Hi", "Yes?")}
TWO_TURNS = {
    "conversation_a": talk("Hi", "Hello.", "Count.", "1 2"),
    "conversation_b": talk("Hi", "Yes?", "Count.", "1, 2, 3"),
}
ROWS = {
    "canonical": {"prompt": "Hi", "response_a": "Hello.", "response_b": "Yes?", "winner": "model_a"},
    "arena_55k": {
        "id": 30192,
        **MODELS,
        "prompt": '["Hi","Count."]',
        "response_a": '["Hello.",""]',
        "response_b": '["Yes?","1, 2, 3"]',
        "winner_model_a": 0,
        "winner_model_b": 1,
        "winner_tie": 0,
    },
    "arena_100k": {
        "question_id": "q1",
        **MODELS,
        "winner": "tie (bothbad)",
        **TWO_TURNS,
        "turn": 2,
        "language": "English",
        "tstamp": 1.5,
        "conv_metadata": {"sum": 3},
    },
    "arena_140k": {
        "id": "f-1",
        **MODELS,
        "winner": "both_bad",
        "conversation_a": say(("user", parts("Hi")), ("assistant", parts("Hello.", "There."))),
        "conversation_b": say(("user", parts("Hi")), ("assistant", parts(""))),
        "full_conversation": [{"user": {"role": "user", "content": parts("Hi")}, "model_side_a": None}],
        "language": "en",
    },
    "chatbot_arena": {
        "question_id": "q2",
        **MODELS,
        "winner": "tie",
        "judge": "arena_user_1",
        **TALKS,
        "turn": 1,
        "anony": True,
        "tstamp": 1.5,
    },
    "mt_bench": {"question_id": 81, **MODELS, "winner": "model_b", "judge": "expert_3", **TWO_TURNS, "turn": 2},
    "chosen_rejected": {"prompt": "Hi", "chosen": "Hello.", "rejected": "Go.", "subset": "greetings", "id": 4},
    "alpaca_eval": {
        "instruction": "Hi",
        "output_1": "Hello.",
        "generator_1": "heron",
        "output_2": "Yes?",
        "generator_2": "stork",
        "dataset": "koala",
        "annotator": "judge-1",
        "preference": 1.75,
    },
    "lm_eval": {
        "doc_id": 0,
        "doc": {
            "id": "h-01",
            "pair_id": "h-01",
            "swapped": False,
            "prompt": "Hi",
            "response_a": "Hello.",
            "response_b": "Yes?",
            "winner": "tie",
            "category": "greetings",
        },
        "resps": [["-0.5"]],
        "filtered_resps": ["-0.5"],
        "filter": "none",
        "arguments": {},
    },
}

ANSWER_ROWS = {
    "alpaca_eval": {"instruction": "Hi", "output": "Hello.", "generator": "heron", "dataset": "koala"},
    "arena_hard_v0.1": {
        "question_id": "q1",
        "model_id": "heron",
        "choices": [{"index": 0, "turns": [{"content": "Hello."}]}],
    },
    "arena_hard_v2": {
        "uid": "q1",
        "model": "heron",
        "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": {"answer": "Hello."}}],
    },
    "lm_eval": {
        "doc_id": 0,
        "doc_hash": "d1",
        "doc": {"question": "Hi"},
        "arguments": {"gen_args_0": {"arg_0": "Q: Hi\nA:", "arg_1": {"until": ["\n"]}}},
        "resps": [["Hello.", "Hey."]],
        "filtered_resps": ["Hello"],
        "filter": "none",
    },
    "canonical": {"prompt": "Hi", "response": "Hello.", "model": "heron"},
}


def change(format, **fields):
    return {**ROWS[format], **fields}


def without(format, *names):
    return {name: value for name, value in ROWS[format].items() if name not in names}


GOOD = {"prompt": "Name a river.", "response_a": "The Oder.", "response_b": "A river flows.", "winner": "model_a"}
PEOPLE = ["łódź", "🙂", "\x00", "\u2028", "\r", "مرحبا", "<eos>", '"', "\\", "word ", "\n", ""]


def random_turn(rng):
    return "".join(rng.choices(PEOPLE, k=rng.randrange(6)))


def random_pair(rng):
    turns = 1 if rng.random() < 0.6 else rng.randrange(2, 4)
    said = lambda: random_turn(rng) if turns == 1 else [random_turn(rng) for _ in range(turns)]  # noqa: E731
    return Pair(
        said(),
        said(),
        said(),
        id=rng.choice(["", f"id-{rng.random()}"]),
        winner=rng.choice([None, *Winner]),
        model_a=rng.choice([None, "alpha"]),
        model_b=rng.choice([None, "beta"]),
        category=rng.choice([None, "rivers"]),
        p_b=rng.choice([None, 0, 1, 0.1, rng.random(), rng.random() ** 9]),
        meta=rng.choice([{}, {"source": "made up", "list": [1, {"x": None}]}]),
    )


def random_pairs(seed, count=300):
    rng = random.Random(seed)
    return [random_pair(rng) for _ in range(count)]


def write_lines(path, *rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), "utf-8")
    return path


def zipped(data, name="x.jsonl", **others):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
        for other, content in others.items():
            archive.writestr(other, content)
    return packed.getvalue()


def message(path, **options):
    with pytest.raises(DataError) as caught:
        read_pairs(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)
