"""What users say about columns, in every format: which column is which field, what the words of winners mean, which are
left alone; and what a read says about the columns that it used."""

import csv
import json
import logging

import pytest
from pair_rows import ANSWER_ROWS, ROWS, change, talk, without

from harness_plugin.errors import DataError, UsageError
from harness_plugin.pairs import FORMATS, Pair, Winner, pairs_from_rows, read_outputs, read_pairs
from harness_plugin.pairs.column_names import looks_like_label
from harness_plugin.pairs.formats.registry import ANSWER_FORMATS, PAIR_FORMATS, get_format

TELLING = {"judge", "tstamp", "doc", "resps", "preference_statement"}  # columns that tell a format, and are not read
ASK = {"prompt": "Hi", "response_a": "Hello.", "response_b": "Yes?"}


@pytest.fixture(autouse=True)
def notes(caplog):
    caplog.set_level(logging.INFO, "lm_eval.arena_rm")
    return caplog


def lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def read_one(row, **options):
    return pairs_from_rows([row], **options).pairs[0]


# --- which columns were used


@pytest.mark.parametrize("format", [*PAIR_FORMATS, *ANSWER_FORMATS], ids=lambda format: f"{format.name}")
def test_a_format_says_what_each_column_that_tells_it_is_used_for(format):
    assert format.uses and set(format.columns.split()) - TELLING <= format.used


class Watched(dict):
    """A row that remembers which columns somebody asked for by name."""

    def __init__(self, row):
        super().__init__(row)
        self.asked = set()

    def __getitem__(self, name):
        self.asked.add(name)
        return super().__getitem__(name)

    def get(self, name, default=None):
        self.asked.add(name)
        return super().get(name, default)


@pytest.mark.parametrize("format", [f for f in PAIR_FORMATS if f.name != "canonical"], ids=lambda format: format.name)
def test_what_a_format_says_it_uses_is_what_it_reads(format):
    row = Watched(ROWS[format.name])
    format.pair(row)
    read = {name for name in row.asked if name in row}
    said = {name for name in format.used if name in row} - {"filter"}
    assert read - {"judge"} == said, "MT-bench's judge goes to meta"


def test_a_read_says_once_what_it_used_and_what_not(notes):
    row = {**ASK, "system": "Be kind.", "input": "", "winner": "tie", "source": "web", "lang": "en"}
    pairs_from_rows([row, {**row, "source": "book"}], source="mine.jsonl")
    assert notes.messages == [
        "mine.jsonl: 2 pairs, read as canonical: prompt = system + prompt, response_a, response_b, winner; columns not "
        "used: source, lang"
    ]


def test_a_read_of_answers_says_it_too_and_of_questions(tmp_path, notes):
    answers = lines(
        tmp_path / "a.jsonl", {"question_id": 1, "model_id": "m", "choices": [{"turns": ["x"]}], "tstamp": 3}
    )
    questions = lines(tmp_path / "q.jsonl", {"question_id": 1, "turns": ["Hi"], "system": "s", "cluster": "c"})
    read_outputs(answers, questions)
    assert notes.messages == [
        f"{questions}: 1 question, read as questions: id = question_id, prompt = system + turns; columns not used: "
        "cluster",
        f"{answers}: 1 answer, read as arena_hard_v0.1: id = question_id, response = choices, model = model_id; "
        "columns not used: tstamp",
    ]


def test_of_columns_that_may_hold_the_same_thing_the_one_that_was_read_is_named(notes):
    pairs_from_rows([{"prompt": None, "question": "Hi", "instruction": None, "chosen": "a", "rejected": "b"}])
    assert "prompt = question, better = chosen" in notes.text and "columns not used: prompt, instruction" in notes.text


def test_of_files_that_were_joined_each_row_is_read_by_its_own_column(tmp_path, notes):
    rows = [{"prompt": "Hi"}, {"question": "Who?"}, {"instruction": "Sort.", "input": "b a"}]
    answers = {"chosen": "a", "rejected": "b"}
    columns = ("prompt", "question", "instruction", "input")
    lines(tmp_path / "x.jsonl", *({**row, **answers} for row in rows))
    lines(tmp_path / "null.jsonl", *({**dict.fromkeys(columns), **row, **answers} for row in rows))
    text = "prompt,question,instruction,input,chosen,rejected\nHi,,,,a,b\n,Who?,,,a,b\n,,Sort.,b a,a,b\n"
    (tmp_path / "x.csv").write_text(text, "utf-8")
    for name in ("x.jsonl", "null.jsonl", "x.csv"):
        notes.clear()
        assert [pair.prompt for pair in read_pairs(tmp_path / name).pairs] == ["Hi", "Who?", "Sort.\n\nb a"]
        (said,) = notes.messages
        assert "prompt = prompt + instruction + question + input, better = chosen" in said
        assert said.endswith("columns not used: none")


def test_columns_that_the_caller_uses_are_not_said_to_be_unused(tmp_path, notes):
    row = {**ASK, "winner": "tie", "annotator": "ann", "note": "x"}
    path = lines(tmp_path / "people.jsonl", row)
    read_pairs(path, beside=("annotator", "sampling_probability"))
    (said,) = notes.messages
    assert said.endswith("response_a, response_b, winner, annotator; columns not used: note")


# --- labels


@pytest.mark.parametrize(
    "column",
    [
        *("label", "preference", "human_preference", "overallPreference", "better", "Vote"),
        *("overall_pref", "winning_model", "pick", "safer_response_id"),
    ],
)
def test_a_column_that_looks_like_a_label_and_is_not_used_is_named(column, notes):
    pairs_from_rows([{**ASK, column: 1, "source": "web"}], source="mine.jsonl")
    (said,) = [record.getMessage() for record in notes.records if record.levelname == "WARNING"]
    assert said.startswith(
        f"mine.jsonl: no winner was read, and {column} looks like a label; name its column (--field wi"
    )
    notes.clear()
    pairs_from_rows([{**ASK, column: 1, "winner": "tie"}])
    assert not [record for record in notes.records if record.levelname == "WARNING"]
    assert f"columns not used: {column}" in notes.text


def test_labels_that_are_about_one_answer_each_are_to_be_made_one(notes):
    advice = "; if each of them is about one answer, make one column of them that says who won"
    for names in (("score_a", "score_b"), ("rating1", "rating2"), ("a_wins", "b_wins")):
        notes.clear()
        pairs_from_rows([{**ASK, **dict.fromkeys(names, 3)}])
        assert notes.messages[-1].endswith("(--winner-map)" + advice)
    notes.clear()
    pairs_from_rows([{**ASK, "label": "A", "choice": "A"}])
    assert advice not in notes.text


def test_columns_of_other_things_do_not_look_like_labels():
    columns = ["source", "language", "question_id", "turn", "tstamp", "is_code", "model", "annotator_id", "tokens"]
    assert not list(filter(looks_like_label, columns))


def test_words_of_winners_mean_what_the_user_says(tmp_path):
    words = {"A>B": "model_a", "B>A": "model_b", "A=B": "tie", "skip": "none"}
    rows = [{**ASK, "id": n, "label": word} for n, word in enumerate([*words, None, "tie"])]
    found = pairs_from_rows(rows, fields={"winner": "label"}, winner_map=words)
    assert [p.winner for p in found.pairs] == [Winner.MODEL_A, Winner.MODEL_B, Winner.TIE, None, None, Winner.TIE]
    with pytest.raises(DataError, match=r"row 1: field label is 'B\?'; allowed: 'A>B', 'B>A', 'A=B', 'skip', or null"):
        pairs_from_rows([{**ASK, "label": "B?"}], fields={"winner": "label"}, winner_map=words)
    with pytest.raises(
        DataError, match=r'say what its words mean with --winner-map "WORD=model_a,...", correct the row'
    ):
        pairs_from_rows([{**ASK, "winner": "A>B"}])
    with pytest.raises(UsageError, match="the word 'x' is to mean 'left'; outcomes: model_a, model_b, tie, none"):
        pairs_from_rows(rows, winner_map={"x": "left"})


@pytest.mark.parametrize(
    ("value", "word"), [(1, "1"), (2.0, "2"), (True, "true"), (0.5, "0.5"), ("model_1", "model_1"), (" a", " a")]
)
def test_numbers_and_truth_values_are_words_too(value, word):
    assert read_one({**ASK, "winner": value}, winner_map={word: "model_b"}).winner == Winner.MODEL_B


def test_a_number_or_a_truth_value_is_one_word_however_it_is_written(tmp_path):
    (tmp_path / "x.csv").write_text("prompt,response_a,response_b,winner\nHi,a,b,1.0\nHo,a,b,True\nHm,a,b,\n", "utf-8")
    for words in ({"1": "model_b", "true": "tie"}, {"1.0": "model_b", "TRUE": "tie"}):
        found = read_pairs(tmp_path / "x.csv", winner_map=words).pairs
        assert [pair.winner for pair in found] == [Winner.MODEL_B, Winner.TIE, None]
        assert read_one({**ASK, "winner": 1.0}, winner_map=words).winner == Winner.MODEL_B
    with pytest.raises(UsageError, match="the word '1\\.0' is to mean 'tie'; 1 has another meaning already"):
        pairs_from_rows([ASK], winner_map={"1": "model_a", "1.0": "tie"})


def test_the_name_of_a_model_names_the_winner():
    named = {**ASK, "model_a": "heron", "model_b": "stork"}
    for format, row in (("canonical", named), ("arena_100k", ROWS["arena_100k"]), ("ppe", ROWS["ppe"])):
        for name, winner in (("heron", "model_a"), ("stork", "model_b")):
            pair = read_one({**row, "winner": name})
            assert pair.winner == winner and "both_bad" not in pair.meta, format
    pair = read_one({**ASK, "first": "heron", "second": "tie", "winner": "heron"}, fields={"model_a": "first"})
    assert pair.winner == "model_a"
    for bad in ({"winner": "ibis"}, {"model_b": "heron", "winner": "heron"}):
        with pytest.raises(DataError, match=r"field winner is .*; allowed: .model_a"):
            read_one({**named, **bad})
    assert read_one({**named, "model_a": "model_b", "winner": "model_b"}).winner == "model_b"


def test_words_that_the_user_explains_count_before_names_of_models():
    row = {"prompt": "Hi", "response_a": "x", "response_b": "y", "model_a": "A", "model_b": "B", "winner": "A"}
    (pair,) = pairs_from_rows([row], winner_map={"A": "model_b", "B": "model_a"}).pairs
    assert pair.winner == Winner.MODEL_B


def test_words_are_mapped_in_every_format_that_has_one_column_of_winners():
    for format in ("arena_100k", "arena_140k", "chatbot_arena", "mt_bench"):
        pair = read_one(change(format, winner="left"), winner_map={"left": "model_a"})
        assert pair.winner == Winner.MODEL_A and "both_bad" not in pair.meta
    assert read_one(change("alpaca_eval", preference=-1), winner_map={"-1": "model_b"}).winner == Winner.MODEL_B
    for format in ("chosen_rejected", "arena_55k", "lm_eval"):
        with pytest.raises(UsageError, match=f"format {format} has no column of winners"):
            read_one(ROWS[format], winner_map={"left": "model_a"})


def test_the_kaggle_columns_beside_plain_texts(tmp_path):
    path = tmp_path / "train.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        one_hot = {"winner_model_a": 1, "winner_model_b": 0, "winner_tie": 0}
        row = {"id": 1, "model_a": "heron", "model_b": "stork", **ASK, **one_hot}
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerow(row)
    expected = Pair("Hi", "Hello.", "Yes?", id="1", winner="model_a", model_a="heron", model_b="stork")
    assert read_pairs(path).pairs == [expected]


# --- columns that users name


def renamed(row, **names):
    return {
        **{name: value for name, value in row.items() if name not in names},
        **{v: row[k] for k, v in names.items()},
    }


@pytest.mark.parametrize("format", [f for f in FORMATS if f != "lm_eval"])
def test_columns_can_be_named_beside_every_layout(format, notes):
    columns = {
        "canonical": {"prompt": "q", "winner": "w"},
        "arena_55k": {"prompt": "q", "model_a": "first"},
        "chosen_rejected": {"prompt": "q", "chosen": "good"},
        "alpaca_eval": {"instruction": "q", "output_1": "first", "generator_2": "second"},
        "comparia": {"model_a_name": "first", "selected_category": "kind"},
        "openai_preferences": {"preferred_output": "good"},
        "ms_swift": {"rejected_response": "bad"},
        "llama_factory": {"chosen": "good", "rejected": "bad"},
        "llama_factory_ranked": {"instruction": "q", "output": "good"},
        "rewardbench2": {"prompt": "q", "chosen": "good"},
        "rm_bench": {"prompt": "q", "chosen": "good"},
        "ultrafeedback": {"instruction": "q", "completions": "good"},
        "nectar": {"prompt": "q", "answers": "good"},
        "judgebench": {"question": "q", "label": "w"},
        "llmbar": {"output_1": "first", "label": "w"},
        "ppe": {"prompt": "q", "winner": "w"},
        "helpsteer2": {"prompt": "q", "preference_strength": "w"},
        "helpsteer3": {"context": "talk", "overall_preference": "w"},
        "pku_saferlhf": {"better_response_id": "w", "response_0": "first"},
        "shp": {"history": "q", "labels": "w"},
        "webgpt": {"answer_0": "first"},
        "summaries": {"choice": "w"},
        "multipref": {"text": "q", "completion_a": "first"},
    }.get(format, {"winner": "w", "model_a": "first"})
    row, expected = renamed(ROWS[format], **columns), read_one(ROWS[format])
    of_column = {names[0]: ours for ours, (names, *more) in get_format(format).roles.items() if not more}
    for fields in (columns, {of_column.get(column, column): name for column, name in columns.items()}):
        assert read_one(row, fields=fields) == expected
        assert read_one(row, fields=fields, format=format) == expected
        assert not {"q", "w", "p", "first", "good"} & set(notes.messages[-1].rpartition(": ")[2].split(", "))


def test_parts_of_the_prompt_and_a_category_can_be_named_anywhere():
    row = {"instruct": "Be kind.", "kind": 7, **ROWS["arena_100k"]}
    pair = read_one(row, fields={"system": "instruct", "category": "kind"})
    assert pair.prompt[0] == "System: Be kind." and pair.category == "7"
    row = {"q": "Sort.", "passage": "b a", "chosen": "a b", "rejected": "b a"}
    assert read_one(row, fields={"prompt": "q", "input": "passage"}).prompt == "Sort.\n\nb a"


def test_a_field_that_the_format_does_not_have_is_a_usage_error():
    with pytest.raises(UsageError, match="column c is named for winner, which files of format chosen_rejected do not"):
        read_one({**ROWS["chosen_rejected"], "c": 1}, fields={"winner": "c"})


def test_columns_can_be_left_alone(notes, tmp_path):
    row = {**ASK, "context": {"page": 3}, "note": "x"}
    with pytest.raises(DataError, match="field context is"):
        read_one(row)
    pair = read_one(row, ignore=["context"])
    assert pair.prompt == "Hi" and pair.meta == {"note": "x"}
    path = lines(tmp_path / "x.jsonl", {**ANSWER_ROWS["canonical"], "context": 3})
    assert read_outputs(path, ignore=("context",))[0].prompt == "Hi"


def test_columns_of_answers_can_be_named_beside_every_layout(tmp_path):
    row = {"q": "Hi", "output": "Hello.", "generator": "heron", "kind": "k", "sys": "s"}
    path = lines(tmp_path / "x.jsonl", row)
    (answer,) = read_outputs(path, fields={"prompt": "q", "category": "kind", "system": "sys"})
    assert (answer.prompt, answer.model, answer.category) == (("System: s", "Human: Hi"), "heron", "k")
    path = lines(tmp_path / "y.jsonl", {**ANSWER_ROWS["arena_hard_v2"], "who": "stork", "kind": "k"})
    (answer,) = read_outputs(path, fields={"model": "who", "category": "kind"})
    assert (answer.model, answer.category) == ("stork", "k")


def test_a_prompt_beside_the_columns_of_another_layout_is_not_taken_for_the_named_one(notes):
    row = {"question": "Hi", "prompt": "template", **without("canonical", "prompt")}
    assert read_one(row, fields={"prompt": "question"}).prompt == "Hi"
    assert "prompt = question" in notes.text and "columns not used: prompt" in notes.text


# --- tables with lists in text


def test_messages_as_text_in_the_cells_of_a_table(tmp_path):
    row = {"prompt": talk("Hi"), "response_a": "Hello.", "response_b": "Yes?"}
    for name, write in (("json", json.dumps), ("python", str)):
        with open(tmp_path / f"{name}.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            writer.writeheader()
            writer.writerow({**row, "prompt": write(row["prompt"])})
        assert read_pairs(tmp_path / f"{name}.csv").pairs == [Pair(**ASK)]
    talks = change("mt_bench")
    talks = {n: json.dumps(v) if isinstance(v, list) else v for n, v in talks.items()}
    with open(tmp_path / "mt.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(talks))
        writer.writeheader()
        writer.writerow(talks)
    assert read_pairs(tmp_path / "mt.csv").pairs == [read_one(ROWS["mt_bench"])]


def test_a_csv_file_cannot_say_whether_an_answer_is_empty_or_missing(tmp_path, notes):
    path = tmp_path / "x.csv"
    path.write_text("prompt,response_a,response_b,category\nHi,a,b,\nBye,,b,c\n", "utf-8")
    assert [pair.response_a for pair in read_pairs(path).pairs] == ["a", ""]
    assert f"{path}: no text in the cell of an answer in 1 row (row 2 (line 3)); a CSV file cannot say" in notes.text
    notes.clear()
    path.write_text("prompt,response,model\nHi,,\n", "utf-8")
    assert read_outputs(path, model="heron")[0].response == "" and "in 1 row (row 1 (line 2))" in notes.text


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl"])
def test_an_answer_that_is_a_word_for_none_is_an_answer_and_is_named(tmp_path, notes, name):
    rows = [("Hi", "a", "b"), ("Bye", "nan", "b"), ("So?", "a", "None "), ("Why?", "None of them.", "b")]
    columns = ("prompt", "response_a", "response_b")
    cells = "\n".join(map(",".join, [columns, *rows])) + "\n"
    path = tmp_path / name
    path.write_text(cells, "utf-8") if name == "x.csv" else lines(
        path, *(dict(zip(columns, r, strict=True)) for r in rows)
    )
    assert [pair.response_a for pair in read_pairs(path).pairs] == ["a", "nan", "a", "None of them."]
    (said,) = [record.getMessage() for record in notes.records if record.levelname == "WARNING"]
    assert "an answer is only nan, None or the like in 2 rows (row 2" in said and "write null in its place" in said


def test_a_winner_and_a_probability_that_name_different_sides_are_named(notes):
    rows = [{**ASK, "id": str(n), "winner": w, "p_b": p} for n, (w, p) in enumerate(
        [("model_a", 0.9), ("model_a", 0.5), ("model_b", 0.2), ("model_b", 0.8), ("tie", 0.9), (None, 0.9)]
    )]  # fmt: skip
    assert len(pairs_from_rows(rows).pairs) == len(rows)
    (said,) = [record.getMessage() for record in notes.records if record.levelname == "WARNING"]
    assert said.startswith("rows: winner and p_b name different sides in 2 pairs (id 0, 2); the winner counts where a")


def test_a_part_that_is_no_text_says_how_to_leave_it_alone():
    with pytest.raises(
        DataError, match=r"field context is 3; .*; leave the column alone \(--ignore context\), correct"
    ):
        read_one({**ASK, "context": 3})


def test_prompts_that_a_file_repeats_are_matched_by_their_order_and_that_is_said(tmp_path, notes):
    rows = [{"prompt": "Sum up.", "passage": p, "n": 1, "response": p.lower()} for p in "AB"]
    path = lines(tmp_path / "x.jsonl", *rows, {"prompt": "Hi", "response": "x", "passage": None})
    assert len({answer.id for answer in read_outputs(path)}) == 3
    (said,) = [r.getMessage() for r in notes.records if r.levelname == "WARNING" and "may hold" not in r.message]
    assert said.startswith(
        f"{path}: 1 answer to a prompt that the file has already answered; such answers meet those of"
    )
    assert said.endswith(
        "differ in passage, which is not read: if it is part of the prompt, name it (--field context=passage)"
    )
    notes.clear()
    read_outputs(path, fields={"context": "passage"})
    assert not [record for record in notes.records if record.levelname == "WARNING"]


def test_prompts_that_are_json_lists_in_a_text_are_named(tmp_path, notes):
    path = lines(tmp_path / "x.jsonl", {**ASK, "prompt": json.dumps(talk("Hi"))}, {**ASK, "prompt": "[1] is what?"})
    assert isinstance(read_pairs(path).pairs[0].prompt, str)
    assert f"{path}: 1 prompt is a list written as text, read as it stands; write real lists" in notes.text
    path.write_text('{"prompt": "[\\"Hi\\"]", "response": "x"}\n', "utf-8")
    notes.clear()
    read_outputs(path)
    assert "1 prompt is a list written as text" in notes.text
