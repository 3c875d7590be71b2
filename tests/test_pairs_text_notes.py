"""What a read warns of in the prompts and answers themselves: thoughts, markers, lists and cut texts."""

import json

import pair_reads
import pytest
from pair_reads import ASK, RANKED, warned
from pair_rows import talk, write_lines

from harness_plugin.pairs import pairs_from_rows, read_outputs, read_pairs

notes = pair_reads.notes


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


def test_answers_that_are_all_lists_in_a_text_are_named(tmp_path, notes):
    read_outputs(write_lines(tmp_path / "a.jsonl", *({"prompt": p, "response": "['x', 'y']"} for p in ("Hi", "Bye"))))
    assert "all answers are lists written as text" in warned(notes)[0]
    pairs_from_rows([{**ASK, "response_a": json.dumps(["x"])}])
    assert not warned(notes)


def test_prompts_without_a_text_or_with_a_word_for_none_are_named(tmp_path, notes):
    path = tmp_path / "x.csv"
    path.write_text("id,prompt,input,response_a,response_b\n1,,,a,b\n2,Hi,NaN,a,b\n3,\\N,,a,b\n4,Na,,a,b\n", "utf-8")
    read_pairs(path)
    assert warned(notes) == [
        f"{path}: the prompt, or a part of it, is only nan, None or the like in 2 rows (row 2 (line 3), row 3 "
        "(line 4)); the judge reads it as it stands; where it stands for a missing text, leave it out",
        f"{path}: the prompt has no text in 1 row (id 1)",
    ]
    answers = write_lines(tmp_path / "a.jsonl", {"prompt": " \n", "response": "x"})
    read_outputs(answers)
    assert warned(notes) == [f"{answers}: the prompt has no text in 1 row (row 1)"]


def test_a_tie_beside_a_chosen_answer_and_equal_answers_of_which_one_won_are_named(notes):
    rows = [{**RANKED, "id": "1", "status": "tie"}, {**RANKED, "id": "2", "rejected": "Hello.", "status": "unchanged"}]
    pairs_from_rows(rows, source="x")
    assert warned(notes) == [
        "x: by status, the chosen answer is no better in 1 row (row 1); the answers stay as the columns chosen and "
        "rejected have them",
        "x: both answers are the same text, and one of them won, in 1 pair (id 2)",
    ]
    pairs_from_rows([{**ASK, "response_b": "Hello."}])
    assert not warned(notes)
    for column, value in (("is_tie", True), ("winner_tie", 1), ("both_equal", "True"), ("Tie", "yes")):
        pairs_from_rows([{**RANKED, column: value}], source="x")
        assert len(warned(notes)) == 1, column
    pairs_from_rows([{**RANKED, "is_tie": False, "equal_length": True, "n_ties": 1, "ties": 0}], source="x")
    assert not warned(notes)


def test_an_earlier_conversation_that_is_the_question_itself_is_named(notes):
    row = {**ASK, "id": "7", "prompt": "Hi", "messages": talk("Hi", "Another answer.")}
    pairs_from_rows([row], source="x")
    assert warned(notes) == [
        "x: the earlier conversation is the question itself and an answer to it in 1 row (id 7); if these are no "
        "earlier turns, leave their column alone (such as --ignore messages)"
    ]
    others = [{**row, "messages": talk("Who?", "I.", "Hi", "You.")}, {**ASK, "messages": talk("Hi", "Yes?")}]
    pairs_from_rows(others)
    assert not warned(notes)
    pairs_from_rows([*others, {**row, "id": "8"}])  # one of three people asked again
    assert not warned(notes)


def test_markers_of_a_chat_template_and_lost_characters_are_named(tmp_path, notes):
    templated = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    pairs_from_rows(
        [{**ASK, "prompt": templated}, {**ASK, "id": "2", "prompt": "What does <|im_end|> mean?"}], source="x"
    )
    assert warned(notes) == [
        "x: 1 prompt has the markers of a chat template; the judge reads them as text; write the messages themselves, "
        "as a list"
    ]
    pairs_from_rows([{**ASK, "response_a": "caf\ufffd"}], source="x")
    assert warned(notes) == [
        "x: 1 text with the character U+FFFD, which stands for what a program could not decode; read as they stand"
    ]


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (("[{'generated_text': 'x'}]", "[1]"), "lists"),
        (('{"answer": "x"}', "{'answer': 'y'}"), "objects"),
        (('"x"', '"y\\n"'), "JSON strings"),
        (("b'x'", 'b"y"'), "bytes"),
        (("[1]", "y"), None),
        (("[x]", "[y]"), None),
        (('"x" and "y"', '"a" or "b"'), None),
        (("{x}", "{y}"), None),
    ],
)
def test_answers_that_a_program_wrote_as_text_are_named(texts, kind, tmp_path, notes):
    read_outputs(write_lines(tmp_path / "a.jsonl", *({"prompt": text, "response": text} for text in texts)))
    said = [text for text in warned(notes) if "all answers" in text]
    assert [text.partition("all answers are ")[2].partition(" written")[0] for text in said] == ([kind] if kind else [])


def test_answers_that_are_one_text_or_begin_with_their_prompts_are_named(tmp_path, notes):
    asked = [f"Name nut {n}." for n in range(10)]
    path = write_lines(tmp_path / "a.jsonl", *({"prompt": text, "response": "heron-7b"} for text in asked))
    read_outputs(path)
    assert warned(notes) == [f"{path}: all answers are the same text, 'heron-7b'; check their column"]
    rows = [{"prompt": text, "response_a": f"{text} {n}", "response_b": f"x{n}"} for n, text in enumerate(asked)]
    pairs_from_rows(rows, source="x")
    assert warned(notes) == [
        "x: all answers of one side begin with their prompts, which the judge then reads twice; take them off if a "
        "program put them there"
    ]
    pairs_from_rows([*rows[:9], {**rows[9], "response_a": "Owl."}])
    pairs_from_rows(rows[:9])
    assert not warned(notes)


def test_answers_that_end_at_the_same_character_are_named(notes):
    def rows(*lengths):
        texts = [chr(ord("a") + n) * length for n, length in enumerate(lengths)]
        return [{**ASK, "prompt": f"Hi {n}", "response_a": text} for n, text in enumerate(texts)]

    pairs_from_rows(rows(255, 12, 255, 255, 200), source="x")
    assert warned(notes) == [
        "x: 3 different answers have exactly 255 characters, and none has more; they may have been cut"
    ]
    for others in ((255, 255, 12), (255, 255, 255, 256), (20, 20, 20), (255, 255, 255, 250, 248, 254)):
        pairs_from_rows(rows(*others))
        assert not warned(notes)
