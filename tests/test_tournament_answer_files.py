"""Which files are read, whose answers they hold, and what a person should hear of answers that do not meet."""

import json
import logging

import pytest

from harness_plugin.errors import DataError, UsageError
from harness_plugin.pairs import read_outputs, read_questions
from harness_plugin.tournament import battles, find_files, gather


def written(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8", newline="")
    return str(path)


def answer(prompt, response="x", **more):
    return {"prompt": prompt, "response": response, **more}


@pytest.fixture
def warnings(caplog):
    caplog.set_level(logging.WARNING, "lm_eval.arena_rm")
    return lambda: [record.getMessage() for record in caplog.records]


def test_what_lies_in_a_folder_and_is_not_read_is_named(tmp_path, warnings):
    read = [written(tmp_path / name, answer("Hi")) for name in ("HERON.JSONL", "ibis.ndjson", "results_stork.json")]
    assert find_files([str(tmp_path)]) == read and warnings() == []
    for name in (
        "crane.txt",
        "egret/answers.jsonl",
        "report.md",
        "scores/judge/block.parquet",
        "ratings.png",
        "README.md",
        ".git/x.json",
    ):
        written(tmp_path / name, answer("Hi"))
    written(tmp_path / "results_2026-11-29T10-00-00.json", {})
    assert find_files([str(tmp_path)]) == read
    assert warnings() == [f"{tmp_path}: not read, name them if they hold answers: crane.txt, egret/"]
    assert sorted(gather(read).by_model) == ["HERON", "ibis", "results_stork"]


def test_a_row_without_a_model_among_rows_with_one_is_refused(tmp_path):
    for nobody in ({}, {"model": None}, {"model": ""}):
        path = written(tmp_path / "all.jsonl", answer("Hi", model="heron"), answer("Hi", **nobody))
        with pytest.raises(
            DataError, match=r"all.jsonl row 2 names no model, and row 1 names 'heron'; whose answer it"
        ):
            read_outputs(path)
        assert [found.model for found in read_outputs(path, model="ibis")] == ["heron", "ibis"]
    (alone,) = read_outputs(written(tmp_path / "one.jsonl", answer("Hi", model="")), model="ibis")
    assert alone.model == "ibis"


def test_files_of_one_name_that_name_no_model_are_said_to_be_one_chatbots(tmp_path, warnings):
    files = [written(tmp_path / place / "answers.jsonl", answer(place)) for place in ("a", "b")]
    both = written(tmp_path / "heron.jsonl", answer("a"), answer("b"))
    assert list(gather([*files, both]).by_model) == ["answers", "heron"]
    assert warnings() == [
        f"{files[0]}, {files[1]}: no row names a model, so by the files' names all answers are of 'answers'; rename "
        "the files if they are of different chatbots"
    ]
    gather([files[0], f"{tmp_path}/b/../a/answers.jsonl", both])
    assert len(warnings()) == 1, "one file by two paths"


def test_names_and_prompts_that_look_alike_are_named(tmp_path, warnings):
    heron = written(tmp_path / "heron.jsonl", answer("Hi"), answer("Sort:\nb a"), answer("Caf\u00e9?"), answer("Bye"))
    stork = written(
        tmp_path / "stork.jsonl", answer("Hi"), answer("Sort:\r\nb a"), answer("Cafe\u0301?"), answer("So?")
    )
    assert len(battles(gather([heron, stork])).identical) == 1
    (said,) = warnings()
    assert (
        said.startswith("the chatbots' files write 2 prompts in several ways") and "so that the answers do not" in said
    )
    assert said.endswith(
        (r"(first: after 'Sort:' comes '\r\nb a' or '\nb a')", r"(first: after 'Caf' comes 'e\u0301?' or '\xe9?')")
    )


def test_a_prompt_of_two_turns_is_no_lookalike_of_one_with_two_lines(tmp_path, warnings):
    heron = written(tmp_path / "heron.jsonl", answer("Hi"), answer(["One", "Two"], ["x", "y"]))
    gather([heron, written(tmp_path / "stork.jsonl", answer("Hi"), answer("One\nTwo"))])
    assert warnings() == []


def test_prompts_that_one_chatbot_tells_apart_are_no_lookalikes(tmp_path, warnings):
    heron = written(tmp_path / "heron.jsonl", answer("Hi"), answer("Hi "), answer("Bye"))
    stork = written(
        tmp_path / "stork.jsonl", answer("Hi"), answer("Bye "), answer("Hi", model="stork") | {"prompt": "So?"}
    )
    gather([heron, written(tmp_path / "ibis.jsonl", answer("Hi"), answer("Hi "), answer("Bye"))])
    assert warnings() == []
    some = [written(tmp_path / f"{name}.jsonl", answer(said)) for name, said in (("one", "Hi"), ("other", "Hi "))]
    battles(gather([heron, *some]))
    assert warnings() == [], "heron has answered both, so nobody meant one by the other"
    with pytest.raises(DataError, match="row 1 names no model, and row 3 names 'stork'"):
        gather([heron, stork])


def test_models_whose_names_look_alike_are_named(tmp_path, warnings):
    rows = [answer("Hi", model, model=model) for model in ("heron", "Heron ", "ibis")]
    assert len(gather([written(tmp_path / "all.jsonl", *rows)]).by_model) == 3
    assert warnings() == [
        "'Heron ', 'heron' are different chatbots here: their names differ only in case, white space or how Unicode "
        "writes them"
    ]


def test_two_questions_with_one_id_are_refused(tmp_path):
    ask = {"question_id": 7, "turns": ["Hi"]}
    assert read_questions(written(tmp_path / "q.jsonl", ask, ask))["7"].prompt == "Hi"
    path = written(tmp_path / "q.jsonl", ask, {**ask, "turns": ["Bye"]})
    with pytest.raises(
        DataError, match=r"q.jsonl row 2: question '7' stood in an earlier row in other words; which of"
    ):
        read_questions(path)


def test_questions_that_no_answer_is_to_are_refused(tmp_path):
    asked = written(tmp_path / "q.jsonl", {"question_id": "a", "turns": ["Hi"]})
    own = [written(tmp_path / f"{model}.jsonl", answer("Hi", model)) for model in ("heron", "ibis")]
    with pytest.raises(UsageError, match=r"no answer is to one of the questions in .*; leave --questions out"):
        gather(own, asked)


def test_one_file_of_several_models_answers_each_question_once_for_each(tmp_path):
    asked = written(tmp_path / "q.jsonl", {"question_id": "a", "turns": ["Hi"]})
    rows = [{"question_id": "a", "model_id": m, "choices": [{"turns": [m]}]} for m in ("heron", "ibis")]
    assert len(battles(gather([written(tmp_path / "all.jsonl", *rows)], asked)).pairs) == 1
    with pytest.raises(DataError, match="row 3: question 'a' was answered in row 1 already"):
        read_outputs(written(tmp_path / "all.jsonl", *rows, rows[0]), asked)
