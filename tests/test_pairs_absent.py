"""Absent is not empty: an answer that is null, NaN or lacks a turn is missing in every format. It is left out, counted
and listed, and the run goes on; the empty string is an answer."""

import json

import pytest
from pair_rows import ANSWER_ROWS, ROWS, change, parts, say, talk

from harness_plugin.errors import DataError
from harness_plugin.pairs import MissingAnswer, Pair, pair_from_row, pairs_from_rows, read_outputs, read_pairs
from harness_plugin.tournament import battles, gather

NAN = float("nan")
HI = ("user", "Hi")
ABSENT = [
    ("canonical", {"response_a": None}, "field response_a is None"),
    ("canonical", {"response_b": NAN}, "field response_b is nan"),
    ("canonical", {"prompt": ["Hi", "Bye"], "response_a": ["a", None], "response_b": ["b", "c"]}, "is ['a', None]"),
    ("canonical", {"response_a": say(("assistant", None))}, "field response_a is [None]"),
    ("canonical", {"prompt": ["a", "b", "c"], "response_a": ["x"], "response_b": ["y", "z"]}, "has 1 turn, and resp"),
    (
        "canonical",
        {"prompt": ["a", "b", "c"], "response_a": ["x", "w"], "response_b": ["y", "z"]},
        "has 2 turns, and t",
    ),
    ("arena_55k", {"response_a": '["Hello.",null]'}, "field response_a is ['Hello.', None]"),
    ("arena_55k", {"response_b": '["Yes?"]'}, "field response_b has 1 turn, and response_a has 2"),
    ("arena_55k", {"response_b": None}, "field response_b is None"),
    ("arena_100k", {"conversation_a": say(HI, ("assistant", None))}, None),
    ("arena_100k", {"conversation_a": talk("Hi", "Hello.", "Count.")}, "no answer to the user's turn 2"),
    ("arena_140k", {"conversation_b": say(("user", parts("Hi")), ("assistant", parts(None)))}, "the user's turn 1"),
    ("chatbot_arena", {"conversation_b": talk("Hi")}, "no answer to the user's turn 1"),
    ("mt_bench", {"conversation_b": talk("Hi", "Yes?", "Count.")}, "field conversation_b has no answer"),
    ("chosen_rejected", {"rejected": None}, "field rejected is None"),
    ("chosen_rejected", {"chosen": NAN}, "field chosen is nan"),
    ("chosen_rejected", {"chosen": say(("assistant", None)), "rejected": say(("assistant", "Go."))}, "no content"),
    ("alpaca_eval", {"output_2": None}, "field output_2 is None"),
    ("lm_eval", {"doc": {**ROWS["lm_eval"]["doc"], "response_a": None}}, "field response_a is None"),
]


@pytest.mark.parametrize(("format", "fields", "expected"), ABSENT)
def test_a_pair_without_an_answer_is_left_out_listed_and_does_not_end_the_run(format, fields, expected, caplog):
    bad = change(format, **fields)
    if expected is None:  # the other side has two turns, so that only the answers of the first can be compared
        bad["conversation_b"], expected = talk("Hi", "Yes?"), "the user's turn 1"
    found = pairs_from_rows([ROWS[format], bad], format=format, source="file.jsonl")
    assert len(found.pairs) == 1 and not found.skipped and len(found.missing) == 1
    assert str(found.missing[0]).startswith("file.jsonl row 2: ") and expected in str(found.missing[0])
    (said,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert said.startswith("file.jsonl: 1 row left out, since an answer is missing: row 2: ")
    with pytest.raises(MissingAnswer):
        pair_from_row(bad, format)
    with pytest.raises(DataError, match=r"no row of rows has both answers \(1 row\), first: rows row 1: "):
        pairs_from_rows([bad], format=format)


def test_a_field_that_is_not_in_a_row_is_a_missing_answer_where_the_row_has_the_other():
    row = {"prompt": "Hi", "response_a": "Hello."}
    found = pairs_from_rows([ROWS["canonical"], row])
    assert len(found.pairs) == 1 and "row 2: field response_b is not in the row" in str(found.missing[0])
    with pytest.raises(DataError, match="row 2: field response_a is missing"):
        pairs_from_rows([ROWS["canonical"], {"prompt": "Hi"}])


def test_an_empty_answer_is_an_answer_in_every_format():
    for format, fields in (
        ("canonical", {"response_a": ""}),
        ("arena_55k", {"response_a": '["",""]'}),
        ("arena_100k", {"conversation_a": talk("Hi", "", "Count.", "")}),
        ("arena_140k", {"conversation_a": say(("user", parts("Hi")), ("assistant", parts("")))}),
        ("alpaca_eval", {"output_1": ""}),
        ("chosen_rejected", {"chosen": "", "rejected": ""}),
    ):
        (pair,) = pairs_from_rows([change(format, **fields)]).pairs
        assert "".join(pair.response_a) == "", format


REFUSAL = "I cannot help with that."


@pytest.mark.parametrize(
    "fields",
    [{"content": None, "refusal": REFUSAL, "tool_calls": None}, {"content": [{"type": "refusal", "refusal": REFUSAL}]}],
)
def test_a_refusal_in_the_place_of_content_is_an_answer(fields):
    refused = {"role": "assistant", **fields}
    row = {
        "chosen": [*say(("user", "Hi")), {"role": "assistant", "content": "Hello."}],
        "rejected": [*say(("user", "Hi")), refused],
    }
    (pair,) = pairs_from_rows([row], format="chosen_rejected").pairs
    assert {pair.response_a, pair.response_b} == {"Hello.", REFUSAL}


def test_a_null_turn_of_the_users_is_refused():
    row = change("arena_100k", conversation_a=say(("user", None), ("assistant", "Hi")))
    with pytest.raises(DataError, match=r"field conversation_a\[0\].content is None; allowed: the text of a user's"):
        pairs_from_rows([row])


def test_more_turns_than_the_prompt_has_are_refused():
    with pytest.raises(
        DataError, match=r"field response_a is \('a', 'b'\); allowed: as many turns as the prompt has, 1"
    ):
        pairs_from_rows([{"prompt": "Hi", "response_a": ["a", "b"], "response_b": ["c", "d"]}])
    history = ["System: Be kind.", "Hi", "Bye"]
    (pair,) = pairs_from_rows([{"prompt": history, "response_a": ["a", "b"], "response_b": ["c", "d"]}]).pairs
    assert pair.prompt == tuple(history)


NONE = [
    ("alpaca_eval", {"output": None}),
    ("alpaca_eval", {"output": NAN}),
    ("arena_hard_v0.1", {"choices": []}),
    ("arena_hard_v0.1", {"choices": None}),
    ("arena_hard_v0.1", {"choices": [{"turns": []}]}),
    ("arena_hard_v0.1", {"choices": [{"turns": [None]}]}),
    ("arena_hard_v0.1", {"choices": [{"turns": [{"content": None}]}]}),
    ("arena_hard_v0.1", {"choices": [{"turns": ["$ERROR$"]}]}),
    ("arena_hard_v2", {"messages": [{"role": "user", "content": "Hi"}]}),
    ("arena_hard_v2", {"messages": say(HI, ("assistant", None))}),
    ("arena_hard_v2", {"messages": say(HI, ("assistant", {"answer": None}))}),
    ("lm_eval", {"resps": [[None]]}),
    ("lm_eval", {"resps": [[]], "filtered_resps": []}),
    ("canonical", {"response": None}),
    ("canonical", {"response": [None]}),
    ("canonical", {"response": []}),
    ("alpaca_eval", {"output": [], "generator": None}),
    ("wildbench", {"output": []}),
    ("wildbench", {"output": [None], "generator": None}),
    ("openai_batch", {"response": None, "error": {"code": "batch_expired"}}),
    ("openai_batch", {"response": {"status_code": 500, "body": {"error": {"code": "server_error"}}}}),
    ("openai_batch", {"response": {"status_code": 200, "body": {"choices": []}}}),
    ("openai_batch", {"response": {"status_code": 200, "body": {"output": [{"type": "reasoning"}]}}}),
]


@pytest.mark.parametrize(("format", "fields"), NONE)
def test_a_missing_answer_keeps_its_prompt_and_has_no_response(format, fields, tmp_path, caplog):
    def lines(name, *rows):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        return tmp_path / name

    other = {"question_id": "q2", "uid": "q2", "custom_id": "q2", "session_id": "q2", "doc_hash": "d2"}
    good = ANSWER_ROWS[format]
    path = lines("x.jsonl", {**good, **other}, {**good, **fields})
    questions = lines("question.jsonl", *({"question_id": id, "turns": ["Hi"]} for id in ("q1", "q2")))
    whole, missing = read_outputs(path, questions)
    assert (whole.response, missing.response, missing.prompt) == ("Hello.", None, whole.prompt)
    assert missing.model == whole.model
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warned[0] == f"{path}: 1 of 2 answers missing: row 2"


def test_a_row_without_the_field_is_a_missing_answer(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"prompt": "Hi", "response": "a"}\n{"prompt": "Bye"}\n', "utf-8")
    assert [answer.response for answer in read_outputs(path)] == ["a", None]


def answers(tmp_path, model, rows):
    path = tmp_path / f"{model}.json"
    path.write_text(json.dumps([{**row, "generator": model} for row in rows]), "utf-8")
    return str(path)


def test_a_null_answer_makes_no_battle_and_is_listed_for_its_model(tmp_path):
    heron = [{"instruction": name, "output": name.upper()} for name in ("nut", "fish", "river")]
    stork = [{"instruction": "nut", "output": ""}, {"instruction": "fish", "output": None}, {"instruction": "river"}]
    found = battles(gather([answers(tmp_path, "heron", heron), answers(tmp_path, "stork", stork)]))
    assert [(p.prompt, p.response_b) for p in found.pairs] == [("nut", "")]
    assert found.counts["missing"] == {"stork": 2} and found.empty == {"stork": 1}


def test_a_later_answer_takes_the_place_of_a_missing_one_and_repeats_keep_their_order(tmp_path):
    heron = [{"instruction": "nut", "output": None}, {"instruction": "nut", "output": "b"}]
    stork = [{"instruction": "nut", "output": "c"}]
    retried = gather([answers(tmp_path, "heron", heron), answers(tmp_path, "stork", stork)])
    assert [(p.response_a, p.response_b) for p in battles(retried).pairs] == [("b", "c")]
    twice = [{"instruction": "nut", "output": "c"}, {"instruction": "nut", "output": "d"}]
    repeated = gather([answers(tmp_path, "heron", heron), answers(tmp_path, "stork", twice)])
    assert [(p.response_a, p.response_b) for p in battles(repeated).pairs] == [("b", "d")]


def test_an_answer_without_its_second_turn_makes_no_battle(tmp_path, caplog):
    questions = tmp_path / "question.jsonl"
    asked = [{"question_id": n, "category": "c", "turns": [f"Name a nut, {n}.", "Another."]} for n in (1, 2)]
    questions.write_text("".join(json.dumps(row) + "\n" for row in asked), "utf-8")
    files = []
    for model, said in (("heron", [["a", "b"], ["c", "d"]]), ("stork", [["e"], ["f", "g"]])):
        rows = [{"question_id": n, "model_id": model, "choices": [{"turns": t}]} for n, t in enumerate(said, start=1)]
        path = tmp_path / f"{model}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        files.append(str(path))
    found = battles(gather(files, str(questions)))
    assert [p.response_b for p in found.pairs] == [("f", "g")] and found.counts["missing"] == {"stork": 1}
    own = []
    for model, said in (("heron", ["a", "b"]), ("stork", ["e"])):
        path = tmp_path / f"own-{model}.jsonl"
        rows = [{"prompt": ["Hi", "Bye"], "response": said}, {"prompt": "Hi", "response": model}]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        own.append(str(path))
    found = battles(gather(own))
    assert [p.prompt for p in found.pairs] == ["Hi"] and found.counts["missing"] == {"own-stork": 1}
    assert "own-stork: the answer to 'Hi\\nBye' is missing a turn (1 of 2) and is left out" in caplog.messages


def test_null_is_absent_in_every_container(tmp_path):
    rows = [{"prompt": "Hi", "response_a": "a", "response_b": "b"}, {"prompt": "Hi", "response_a": "a"}]
    rows[1]["response_b"] = None
    (tmp_path / "x.json").write_text(json.dumps(rows), "utf-8")
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "x.parquet")
    (tmp_path / "x.jsonl").write_text('{"prompt":"Hi","response_a":"a","response_b":"b"}\n' * 2, "utf-8")
    with open(tmp_path / "x.jsonl", "a", encoding="utf-8") as file:
        file.write('{"prompt":"Hi","response_a":"a","response_b":NaN}\n')
    for name in ("x.json", "x.parquet", "x.jsonl"):
        found = read_pairs(tmp_path / name)
        assert found.pairs[0] == Pair("Hi", "a", "b") and len(found.missing) == 1


def test_nan_is_null_in_every_field_that_may_be_null():
    fields = {"winner": NAN, "model_a": NAN, "category": NAN, "id": NAN}
    (pair,) = pairs_from_rows([{"prompt": "Hi", "response_a": "a", "response_b": "b", **fields}]).pairs
    assert pair == Pair("Hi", "a", "b")
    row = change("arena_55k", id=NAN, model_a=NAN, winner_model_a=NAN, winner_model_b=NAN, winner_tie=NAN)
    (pair,) = pairs_from_rows([row]).pairs
    assert pair.winner is None and pair.model_a is None and pair.id == pair.key
    (pair,) = pairs_from_rows([change("alpaca_eval", preference=NAN)]).pairs
    assert pair.winner is None and pair.p_b is None
