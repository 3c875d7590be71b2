"""What a read warns of: columns that look like a part of the prompt, thoughts, scores that contradict the labels."""

import json
import logging

import pytest
from pair_rows import ANSWER_ROWS, ROWS, talk, write_lines

from harness_plugin.pairs import pairs_from_rows, read_outputs, read_pairs
from harness_plugin.pairs.notes import looks_like_part

ASK = {"prompt": "Hi", "response_a": "Hello.", "response_b": "Yes?", "winner": "tie"}
RANKED = {"prompt": "Hi", "chosen": "Hello.", "rejected": "Yes?"}


@pytest.fixture(autouse=True)
def notes(caplog):
    caplog.set_level(logging.INFO, "lm_eval.arena_rm")
    return caplog


def warned(notes):
    said = [record.getMessage() for record in notes.records if record.levelname == "WARNING"]
    notes.clear()
    return said


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


def test_thoughts_in_front_of_answers_are_named(tmp_path, notes):
    thought = "<think>They want a greeting.</think>\n\nHello."
    pairs_from_rows([{**ASK, "response_a": thought}, {**ASK, "response_b": "no tag\n</think> Hi"}, ASK], source="x")
    assert warned(notes) == [
        "x: 2 answers have a text of thoughts (<think>) in front; the judge reads it as part of the answer; take it "
        "out if people do not see it"
    ]
    file = write_lines(
        tmp_path / "a.jsonl", {"prompt": ["Hi", "You"], "response": ["Hello.", thought], "model": "heron"}
    )
    assert [a.response[1] for a in read_outputs(file)] == [thought]
    assert "1 answer has a text of thoughts" in warned(notes)[0]
    pairs_from_rows([{**ASK, "response_a": "The tag <think> begins thoughts."}])
    assert not warned(notes)


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


def test_answers_that_are_all_lists_in_a_text_are_named(tmp_path, notes):
    read_outputs(write_lines(tmp_path / "a.jsonl", *({"prompt": p, "response": "['x', 'y']"} for p in ("Hi", "Bye"))))
    assert "all answers are lists written as text" in warned(notes)[0]
    pairs_from_rows([{**ASK, "response_a": json.dumps(["x"])}])
    assert not warned(notes)
