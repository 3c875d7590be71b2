"""What a read warns of: columns that look like a part of the prompt, scores that contradict the labels, odd cells."""

import csv
import json

import pair_reads
import pytest
from pair_reads import ASK, RANKED, warned
from pair_rows import ANSWER_ROWS, ROWS, talk, write_lines

from harness_plugin.files.rows import Row
from harness_plugin.pairs import pairs_from_rows, read_outputs, read_pairs
from harness_plugin.pairs.column_names import looks_like_part
from harness_plugin.pairs.formats.registry import get_format
from harness_plugin.pairs.notes import ColumnNotes

notes = pair_reads.notes


@pytest.mark.parametrize(
    ("column", "value", "option"),
    [
        ("system_message", "Be brief.", "system"),
        ("System Prompt", "Be brief.", "system"),
        ("chat_history", talk("Who?", "I."), "messages"),
        ("context_messages", talk("Who?"), "messages"),
        ("Input", "pear", "input"),
        ("document", "The sky is green.", "context"),
        ("passages", ["One.", "Two."], "context"),
        ("tools", '[{"name": "search"}]', "context"),
    ],
)
def test_a_column_that_looks_like_a_part_of_the_prompt_and_is_not_read_is_named(column, value, option, notes):
    pairs_from_rows([{**ASK, column: value}], source="mine.jsonl")
    assert warned(notes) == [
        f"mine.jsonl: by its name, {column} may hold a part of the prompt, which is not read; name such a column "
        f"(--field {option}={column}), or leave it alone (--ignore {column})"
    ]
    pairs_from_rows([{**ASK, column: value}], ignore=[column])
    assert not warned(notes)
    if column != "tools":
        (pair,) = pairs_from_rows([{**ASK, column: value}], fields={option: column}).pairs
        assert not warned(notes) and pair.prompt != "Hi"


def test_answers_and_questions_warn_of_such_columns_too(tmp_path, notes):
    row = ANSWER_ROWS["canonical"] | {"system_a": "x", "background": "y"}
    read_outputs(write_lines(tmp_path / "x.jsonl", row))
    (said,) = warned(notes)
    assert "by their names, system_a, background may hold a part of the prompt" in said


def test_what_another_column_repeats_and_columns_without_a_text_are_not_named(notes):
    rows = [
        {**ASK, "question": " Hi\n", "conversation": talk("Hi", "Hello."), "documents": [], "history_length": 3},
        {
            **ASK,
            "conversation_id": "x",
            "prompt_category": "y",
            "num_messages": "2",
            "input_tokens": "3",
            "inputs": "[]",
        },
    ]
    for row in rows:
        pairs_from_rows([row])
        assert not warned(notes), row
    pairs_from_rows([{**RANKED, "question": "Why?"}])
    assert "question may hold a part of the prompt" in warned(notes)[0]


@pytest.mark.parametrize("format", ROWS)
def test_no_published_format_has_such_a_column(format, notes):
    pairs_from_rows([ROWS[format]])
    assert not [said for said in warned(notes) if "part of the prompt" in said]


def test_names_of_other_things_do_not_look_like_a_part():
    columns = [
        "prompt_id",
        "conv_metadata",
        "systematic",
        "category",
        "dataset",
        "reference",
        "num_turns",
        "message_ids",
    ]
    assert not list(filter(looks_like_part, columns))


def test_scores_that_do_not_favour_the_chosen_answer_are_named(notes):
    scores = [(8.0, 5.0), (5, 5), ("3", "5"), (None, 1), ("high", "low"), (True, False)]
    rows = [{**RANKED, "id": n, "score_chosen": a, "score_rejected": b} for n, (a, b) in enumerate(scores)]
    pairs_from_rows([*rows, {**RANKED, "chosen-rating": 1, "rejected-rating": 2, "chosen_length": 1}], source="x")
    assert warned(notes) == [
        "x: by score_chosen and score_rejected, the chosen answer is no better in 2 rows (row 2, row 3); the answers "
        "stay as the columns chosen and rejected have them",
        "x: by chosen-rating and rejected-rating, the chosen answer is no better in 1 row (row 7); the answers "
        "stay as the columns chosen and rejected have them",
    ]


def test_what_excel_cuts_off_or_takes_for_a_formula_is_named(tmp_path, notes):
    path = tmp_path / "x.csv"
    path.write_text(f"prompt,response_a,response_b\nHi,{'x' * 32_767},#NAME?\nHi,{'x' * 32_768},=1\n", "utf-8")
    pairs_from_rows([{**ASK, "response_a": "x" * 32_767}])
    assert not warned(notes)
    read_pairs(path)
    assert warned(notes) == [
        f"{path}: an answer is only nan, None or the like in 1 row (row 1 (line 2)); such a word counts as an answer; "
        "where it stands for a missing one, write null in its place, as JSON",
        f"{path}: a cell of 32,767 characters, the most that Excel keeps, in 1 row (row 1 (line 2)); its text may have "
        "been cut off",
    ]


def test_preferences_that_are_0_or_1_alone_are_named(notes):
    def rows(*preferences):
        base = {"instruction": "Hi", "output_1": "a", "output_2": "b"}
        return [{**base, "instruction": f"Hi {n}", "preference": p} for n, p in enumerate(preferences)]

    found = pairs_from_rows(rows(0, 1, 0, None)).pairs
    assert [pair.p_b for pair in found] == [0.5, 0.0, 0.5, None]
    assert "each preference is 0, read as a tie, or 1, read as output_1; if 0 means" in warned(notes)[0]
    for others in ((0, 1, 2), (1, 1), (0, 0), (0, 1.2), (1.5, 2)):
        pairs_from_rows(rows(*others))
        assert not warned(notes)
    said = pairs_from_rows(rows(0, 1), winner_map={"0": "model_a", "1": "model_b"}).pairs
    assert [pair.winner for pair in said] == ["model_a", "model_b"] and not warned(notes)


def test_a_label_in_some_rows_that_is_not_read_is_named(notes):
    unlabelled = {name: value for name, value in ASK.items() if name != "winner"}
    rows = [ASK, {**unlabelled, "id": "2", "label": "A"}, {**unlabelled, "id": "3", "label": None}]
    pairs_from_rows(rows, source="x")
    assert warned(notes) == [
        "x: no winner was read in 1 row (row 2), and label looks like a label; name its column (--field winner=label), "
        "and say what its words mean if they are not model_a, model_b and tie (--winner-map)"
    ]
    mixed = {**unlabelled, "id": "4", "winner_model_a": 1, "winner_model_b": 0, "winner_tie": 0}
    pairs_from_rows([ASK, mixed], source="x")
    assert "in 1 row (row 2), and winner_model_a, winner_model_b, winner_tie look like a label" in warned(notes)[0]
    pairs_from_rows([ASK, {**ASK, "id": "5", "label": "A"}, {**unlabelled, "id": "6"}])
    assert not warned(notes)


def test_answers_named_by_columns_that_say_which_is_better_are_named(notes):
    row = {"question": "Hi", "preferred": "Hello.", "other": "Yes?"}
    fields = {"prompt": "question", "response_a": "preferred", "response_b": "other"}
    pairs_from_rows([row], fields=fields, source="x")
    assert warned(notes) == [
        "x: no winner was read, and by its name preferred says which answer is better; if it does, name the answers by "
        "that (--field better=preferred --field worse=other)"
    ]
    (pair,) = pairs_from_rows([row], fields={"better": "preferred", "worse": "other"}).pairs
    assert not warned(notes) and {pair.response_a: "model_a", pair.response_b: "model_b"}["Hello."] == pair.winner


def test_answers_in_columns_that_are_not_read_are_named(tmp_path, notes):
    pairs_from_rows([{**ASK, "response_c": "No."}], source="x")
    assert warned(notes) == [
        "x: by its name, response_c may hold an answer, which is not read; a pair has two: write others into rows of "
        "their own"
    ]
    path = write_lines(tmp_path / "a.jsonl", {"instruction": "Hi", "output": "gold", "model_output": "Hello."})
    read_outputs(path)
    assert warned(notes) == [
        f"{path}: by its name, model_output may hold an answer, which is not read; if it is the answer to be judged, "
        "name it (--field response=model_output)"
    ]
    assert [a.response for a in read_outputs(path, fields={"response": "model_output"})] == ["Hello."]
    notes.clear()
    same = {"response_model": "heron", "raw_completion": "x", "gold_answer": "y", "responses": ["Hello.", "Yes?"]}
    pairs_from_rows([{**ASK, **same}])
    assert not warned(notes)


def test_parts_of_the_prompt_within_an_object_are_named(notes):
    pairs_from_rows(
        [{**ASK, "meta": {"system": "Be brief."}, "extra": {"context": "Hi", "document": "Sky."}}], source="x"
    )
    assert warned(notes) == [
        "x: by their names, meta.system, extra.document may hold a part of the prompt, which is not read; write it "
        "into a column of its own if it is one"
    ]


def test_several_models_in_a_column_that_is_not_read_are_named(tmp_path, notes):
    rows = [{"prompt": f"Hi {n}", "response": "x", "model_name": name} for n, name in enumerate(("heron", "stork"))]
    path = write_lines(tmp_path / "a.jsonl", *rows)
    read_outputs(path)
    assert warned(notes) == [
        f"{path}: no row names a model, so all answers are of one chatbot; model_name has 2 different names: if "
        "it says whose the answers are, name it (--field model=model_name)"
    ]
    read_outputs(path, fields={"model": "model_name"})
    read_outputs(write_lines(path, *rows[:1], {**rows[1], "model_name": "heron"}))
    assert not warned(notes)


def test_empty_answers_beside_an_error_are_named(tmp_path, notes):
    rows = [{"prompt": "Hi", "response": ""}, {"prompt": "Ho", "response": "", "error": "rate limit"}]
    path = write_lines(tmp_path / "a.jsonl", *rows, {"prompt": "He", "response": "x", "error": "retried"})
    read_outputs(path)
    assert warned(notes) == [
        f"{path}: an answer is empty, and another column tells of an error in 1 row (row 2); an empty answer counts as "
        "one; where it stands for a missing one, write null in its place, as JSON"
    ]


def test_a_turn_that_is_not_the_last_one_is_named(notes):
    row = {**ROWS["arena_100k"], "winner": "tie", "turn": 1}
    pairs_from_rows([row, {**row, "question_id": "q2", "turn": 2}], source="x")
    assert warned(notes) == [
        "x: turn is not the last turn in 1 pair (id q1), and all turns are judged; if people judged the conversation "
        "up to that turn, read the file with --format mt_bench"
    ]
    (pair,) = pairs_from_rows([row], format="mt_bench").pairs
    assert pair.response_a == "Hello."


def test_a_column_that_is_to_be_left_alone_and_is_not_there_is_named(tmp_path, notes):
    pairs_from_rows([ASK], ignore=["contxt"], source="x")
    assert warned(notes) == ["x: no row has contxt, which was to be left alone; check its name"]
    path = write_lines(tmp_path / "a.jsonl", ANSWER_ROWS["canonical"])
    read_outputs(path, ignore=["contxt", "model"])
    assert warned(notes) == [f"{path}: no row has contxt, which was to be left alone; check its name"]


def test_a_message_as_text_in_a_table_is_the_message_and_elsewhere_is_named(tmp_path, notes):
    message = {"role": "assistant", "content": "Hello."}
    path = tmp_path / "x.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["prompt", "response_a", "response_b"], ["Hi", json.dumps(message), str(message)]])
    (pair,) = read_pairs(path).pairs
    assert (pair.response_a, pair.response_b) == ("Hello.", "Hello.") and not warned(notes)
    rows = {"prompt": "Hi", "chosen": json.dumps(message), "rejected": json.dumps({**message, "content": "Go."})}
    (pair,) = pairs_from_rows([rows]).pairs
    assert {pair.response_a, pair.response_b} == {"Hello.", "Go."}
    pairs_from_rows([{**ASK, "response_a": json.dumps(message), "response_b": json.dumps(message)}])
    assert "all answers are objects written as text" in warned(notes)[0]
    reply = json.dumps({"from": "Paris", "to": "London", "role": "train"})
    path.write_text('prompt,response_a,response_b\nHi,"' + reply.replace('"', '""') + '",b\n', "utf-8")
    assert read_pairs(path).pairs[0].response_a == reply


def test_rows_that_repeat_an_earlier_one_are_named(notes):
    rows = [ASK, {**ASK, "winner": "model_a"}, ASK, {**ASK, "note": "other"}]
    assert len(pairs_from_rows(rows, source="x").pairs) == 4
    assert warned(notes) == ["x: 1 row repeats an earlier one in everything that is read, and counts again: row 3"]
    several = {"instruction": "Hi", "completions": [{"response": text, "overall_score": 1} for text in "abc"]}
    assert len(pairs_from_rows([several, several], source="x").pairs) == 6
    assert warned(notes) == ["x: 1 row repeats an earlier one in everything that is read, and counts again: row 2"]


def test_llama_factory_rows_in_a_table_are_read(tmp_path):
    row = ROWS["llama_factory"]
    path = tmp_path / "x.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([list(row), [json.dumps(value) for value in row.values()]])
    found = read_pairs(path)
    assert found.format == "llama_factory" and found.pairs == pairs_from_rows([row]).pairs


def test_addresses_hashes_and_what_a_labelling_program_wrote_are_not_named(notes):
    more = {
        "email": "ann@example.org",
        "post": "https://example.org/1",
        "response_0_sha256": "0c1f",
        "labelling_prompt": "Which answer is better?",
        "raw_completion": {"message": {"role": "assistant", "content": "The first."}},
        "additional_metadata": {"prompt_norm": "Hi!"},
    }
    pairs_from_rows([{**ASK, **more}])
    assert not warned(notes)
    pairs_from_rows([{**ASK, "post": "Read https://example.org/1 first", "email": "Dear ann@example.org, hi."}])
    assert "post, email may hold a part of the prompt" in warned(notes)[0]


def test_columns_of_texts_of_a_model_do_not_name_models(tmp_path, notes):
    rows = [
        {"prompt": f"Ask {n}", "response": f"Say {n}", "model_input": f"Ask {n}", "llm_output": f"Say {n}"}
        for n in range(3)
    ]
    read_outputs(write_lines(tmp_path / "x.jsonl", *rows))
    assert not warned(notes)
    read_outputs(write_lines(tmp_path / "x.jsonl", *({**row, "answer_model_name": row["prompt"]} for row in rows)))
    (said,) = warned(notes)
    assert "answer_model_name has 3 different names" in said


def test_words_that_say_that_nothing_failed_are_not_named(tmp_path, notes):
    for value in ("None", "false", "0", ""):
        read_outputs(write_lines(tmp_path / "x.jsonl", {"prompt": "Hi", "response": "", "error": value}))
        assert not warned(notes)
    read_outputs(write_lines(tmp_path / "x.jsonl", {"prompt": "Hi", "response": "", "error": "timed out"}))
    assert "tells of an error" in warned(notes)[0]


def test_columns_that_are_nested_deeply_or_have_numbers_for_names_are_read(notes):
    deep = ["Be brief."]
    for _ in range(2000):
        deep = [deep]
    read = pairs_from_rows([{**RANKED, 0: "x", "score_chosen": 1}], source="frame")
    assert len(read.pairs) == 1
    columns = ColumnNotes(get_format("canonical"), {})
    columns.add(Row("row 1", {**ASK, "background": deep}))
    columns.say("mine", "1 pair")
    assert "background may hold a part of the prompt" in warned(notes)[0]
