"""Rows of every format of pairs and of answers that `pairs` reads, in the publishers' columns; the text is made up."""

import io
import json
import random
import zipfile

import pytest

from harness_plugin.errors import DataError
from harness_plugin.pairs import Pair, Winner, read_pairs


def numbered(number=0, winner="model_a", **more):
    """A pair whose texts and id follow from its number."""
    texts = {"prompt": f"question {number}", "response_a": "yes" * (number + 1), "response_b": "no " * (number % 3 + 1)}
    return Pair(**{**texts, "id": f"p{number:03}", "winner": winner, **more})


def say(*turns):
    return [{"role": role, "content": content} for role, content in turns]


def talk(*texts):
    return say(*zip(("user", "assistant") * len(texts), texts, strict=False))


def parts(*texts):
    return [{"type": "text", "text": text, "image": None, "mimeType": None} for text in texts]


def vote(word):
    return {"evaluator": "w-1", "overall_pref": word, "helpful_pref": "Tie", "time_spent": 60.0}


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
    "openai_preferences": {
        "input": {"messages": talk("Hi"), "tools": [], "parallel_tool_calls": True},
        "preferred_output": say(("assistant", "Hello.")),
        "non_preferred_output": say(("assistant", "Go.")),
    },
    "ms_swift": {"messages": talk("Hi", "Hello."), "rejected_response": "Go."},
    "llama_factory": {
        "conversations": [{"from": "human", "value": "Hi"}],
        "chosen": {"from": "gpt", "value": "Hello."},
        "rejected": {"from": "gpt", "value": "Go."},
    },
    "llama_factory_ranked": {"instruction": "Hi", "output": ["Hello.", "Go."]},
    "rewardbench2": {
        "id": "4",
        "prompt": "Hi",
        "chosen": ["Hello."],
        "rejected": ["Go.", "No.", "Hm."],
        "num_correct": 1,
        "num_incorrect": 3,
        "total_completions": 4,
        "models": ["heron", "stork", "ibis", "egret"],
        "subset": "Focus",
        "additional_metadata": {"category": "greetings"},
    },
    "rm_bench": {
        "id": 7,
        "prompt": "Hi",
        "chosen": ["Hello.", "Hello to you.", "**Hello**"],
        "rejected": ["Go.", "Go away.", "**Go**"],
        "domain": "chat",
    },
    "ultrafeedback": {
        "source": "greetings",
        "instruction": "Hi",
        "models": ["heron", "stork"],
        "completions": [
            {"model": "heron", "response": "Hello.", "overall_score": 8.5, "annotations": {"honesty": "5"}},
            {"model": "stork", "response": "Go.", "overall_score": 2.0, "annotations": {"honesty": "1"}},
        ],
        "correct_answers": ["None"],
        "incorrect_answers": ["Some"],
    },
    "nectar": {
        "prompt": "\n\nHuman: Hi\n\nAssistant: ",
        "answers": [
            {"answer": "Hello.", "model": "heron", "rank": 1.0},
            {"answer": "Go.", "model": "stork", "rank": 7.0},
        ],
        "turns": 1,
        "num_responses": 2,
        "source": ["greetings"],
        "good_natured": True,
    },
    "judgebench": {
        "pair_id": "j-1",
        "original_id": "10646",
        "source": "livebench-math",
        "question": "What is 3 times 3?",
        "response_model": "heron",
        "response_A": "9",
        "response_B": "6",
        "label": "A>B",
    },
    "llmbar": {"input": "Hi", "output_1": "Go.", "output_2": "Hello.", "label": 2},
    "ppe": {
        "question_id": "p-1",
        **MODELS,
        "winner": "model_b",
        "prompt": "Hi",
        "response_1": "Hello.",
        "response_2": "Yes?",
        "language": "English",
        "conv_metadata": {"turns": 1},
        "is_code": False,
        "hard_prompt": False,
    },
    "helpsteer2": {
        "split": "train",
        "prompt": "Count.",
        "response_1": "1 2",
        "response_2": "1, 2, 3",
        "preference_strength": 1,
        "preference_statement": "Response 2 is slightly better than Response 1.",
        "preference_elaboration": "It is longer.",
        "three_most_similar_preferences": [{"statement": "It is longer.", "preference_strength": 1}],
    },
    "helpsteer3": {
        "domain": "general",
        "language": "english",
        "context": say(("user", "Hi"), ("assistant", "Hello."), ("user", "Count.")),
        "response1": "1 2",
        "response2": "1, 2, 3",
        "overall_preference": 2,
        "individual_preference": [{"score": 2, "reasoning": "longer", "feedback1": "", "feedback2": ""}],
    },
    "pku_saferlhf": {
        "prompt": "Hi",
        "response_0": "Go.",
        "response_1": "Hello.",
        "prompt_source": "made up",
        "is_response_0_safe": True,
        "is_response_1_safe": True,
        "better_response_id": 1,
        "safer_response_id": 0,
    },
    "shp": {
        "post_id": "p1",
        "domain": "askbirds_test",
        "history": "Hi",
        "human_ref_A": "Hello.",
        "human_ref_B": "Go.",
        "labels": 1,
        "score_A": 8,
        "score_B": 2,
        "score_ratio": 4.0,
    },
    "webgpt": {
        "question": {"dataset": "eli5", "id": "q1", "full_text": "Hi"},
        "quotes_0": {"title": ["Greetings"], "extract": ["One says hello."]},
        "answer_0": "Hello. [1]",
        "tokens_0": {"prefix": [1, 2], "completion": [3]},
        "score_0": -0.75,
        "quotes_1": {"title": [], "extract": []},
        "answer_1": "Yes?",
        "tokens_1": {"prefix": [1, 2], "completion": [4]},
        "score_1": 0.75,
    },
    "summaries": {
        "info": {
            "id": "t3",
            "post": "I saw a heron.",
            "title": "A heron",
            "subreddit": "birds",
            "site": None,
            "article": None,
        },
        "summaries": [
            {"text": " Saw a heron.", "policy": "sup1", "note": None},
            {"text": " A bird.", "policy": "ref", "note": None},
        ],
        "choice": 0,
        "worker": "w-1",
        "batch": "batch3",
        "split": "train",
        "extra": {"confidence": None},
    },
    "multipref": {
        "comparison_id": "c-1",
        "prompt_id": "q-1",
        "text": "Hi",
        "completion_a": "Hello.",
        "completion_b": "Yes?",
        **MODELS,
        "source": "made up",
        "category": "Chat",
        "normal_worker_annotations": [vote("A-is-slightly-better"), vote("Tie")],
        "expert_worker_annotations": [vote("A-is-clearly-better"), vote("B-is-slightly-better")],
    },
    "comparia": {
        "id": 5,
        "timestamp": "2025-05-01",
        "model_a_name": "heron",
        "model_b_name": "stork",
        "chosen_model_name": "stork",
        "both_equal": False,
        "opening_msg": "Hi",
        **TALKS,
        "conv_turns": 1,
        "selected_category": "greetings",
        "system_prompt_a": "Be brief.",
        "system_prompt_b": "Be brief.",
        "conv_useful_a": True,
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
    "sharegpt": {
        "id": "s-1",
        "model": "heron",
        "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}],
    },
    "wildbench": {
        "session_id": "q1",
        "chat_history": ["Hi"],
        "model_input": "n/a",
        "output": ["Hello."],
        "generator": "heron",
        "configs": {"engine": "vllm", "temperature": 0},
        "dataset": "wild_bench_v2",
        "primary_tag": "greetings",
    },
    "openai_batch": {
        "id": "batch_req_1",
        "custom_id": "q1",
        "response": {
            "status_code": 200,
            "body": {"model": "heron", "choices": [{"message": {"role": "assistant", "content": "Hello."}}]},
        },
        "error": None,
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
