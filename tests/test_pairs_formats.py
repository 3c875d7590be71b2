"""Every published format that `pairs` reads: how it is told from the others, and what a good row becomes."""

import csv
import json

import numpy
import pandas
import pytest
from pair_rows import MODELS, ROWS, change, say, talk, without

from harness_plugin.errors import DataError, UsageError
from harness_plugin.pairs import (
    FORMATS,
    Pair,
    Winner,
    detect_format,
    pair_from_row,
    pairs_from_rows,
    read_outputs,
    read_pairs,
    write_pairs,
)
from harness_plugin.pairs.pair import REQUIRED


def read_one(row):
    return pairs_from_rows([row]).pairs[0]


def refused(row, format=None):
    with pytest.raises(DataError) as caught:
        pairs_from_rows([row], format=format, source="file.jsonl")
    return str(caught.value)


# --- which format it is


@pytest.mark.parametrize("format", FORMATS)
def test_each_format_is_told_by_its_columns_and_reads_in_every_container(format, tmp_path):
    row = ROWS[format]
    found = pairs_from_rows([row])
    assert found.format == format == detect_format(row)
    (tmp_path / "x.jsonl").write_text(json.dumps(row), "utf-8")
    (tmp_path / "x.json").write_text(json.dumps([row], indent=1), "utf-8")
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    storable = {name: value for name, value in row.items() if value != {}}
    parquet.write_table(arrow.Table.from_pylist([storable]), tmp_path / "x.parquet")
    for name in ("x.jsonl", "x.json", "x.parquet"):
        for asked in (None, format):
            again = read_pairs(tmp_path / name, format=asked)
            assert again.format == format and again.pairs == found.pairs
    write_pairs(tmp_path / "canonical.jsonl", found.pairs)
    assert read_pairs(tmp_path / "canonical.jsonl").pairs == found.pairs


@pytest.mark.parametrize("format", ["canonical", "arena_55k", "chosen_rejected", "alpaca_eval"])
def test_formats_of_plain_cells_read_from_csv(format, tmp_path):
    with open(tmp_path / "x.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(ROWS[format]))
        writer.writeheader()
        writer.writerow(ROWS[format])
    found = read_pairs(tmp_path / "x.csv")
    assert found.format == format and found.pairs == [read_one(ROWS[format])]


def test_unknown_columns_are_listed_with_the_formats_known():
    text = refused({"question": "Hi", "better": "Hello."})
    assert text.startswith("file.jsonl row 1: the columns fit no known format; columns found: better, question")
    assert f"formats known: {', '.join(FORMATS)}" in text
    assert "columns found: none" in refused({})


@pytest.mark.parametrize(
    ("wrapped", "column"),
    [
        ({"version": 1, "data": [ROWS["canonical"]]}, "data"),
        ({"rows": [{"row_idx": 0, "row": ROWS["canonical"]}], "num_rows_total": 1}, "rows"),
        ({"train": [ROWS["chosen_rejected"]], "test": []}, "train"),
        ({"q1": ROWS["alpaca_eval"], "q2": ROWS["alpaca_eval"]}, "q1"),
    ],
)
def test_rows_within_an_object_are_found_and_their_column_is_named(wrapped, column, tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(wrapped), "utf-8")
    for read in (read_pairs, read_outputs):
        with pytest.raises(
            DataError, match=f"no known format, and those of what stands in '{column}' do; .* of their own"
        ):
            read(path)


def test_columns_of_two_formats_are_ambiguous_until_one_is_named():
    both = {**ROWS["canonical"], **ROWS["chosen_rejected"]}
    assert "fit more than one format (canonical, chosen_rejected); columns found: chosen, id" in refused(both)
    assert pairs_from_rows([both], format="canonical").pairs[0].winner == Winner.MODEL_A
    with pytest.raises(UsageError, match="format 'arena' is unknown; formats known: canonical, arena_55k"):
        pairs_from_rows([both], format="arena")


def test_a_named_format_that_does_not_fit_says_which_column_is_missing():
    text = refused(ROWS["alpaca_eval"], format="mt_bench")
    assert text.startswith("file.jsonl row 1: field turn is missing (fields found: annotator, dataset")


def test_lists_in_the_texts_of_a_table_are_not_guessed_about(tmp_path):
    path = tmp_path / "test.csv"
    path.write_text('id,prompt,response_a,response_b\n7,"[""Hi""]","[""""]","[""Yes?""]"\n', "utf-8")
    with pytest.raises(DataError, match=r"row 1 \(line 2\): .*turns \(arena_55k\) or the very text"):
        read_pairs(path)
    assert read_pairs(path, format="arena_55k").pairs == [Pair("Hi", "", "Yes?", id="7")]
    assert read_pairs(path, format="canonical").pairs[0].prompt == '["Hi"]'
    pair = Pair('["Hi"]', '["x"]', "[null]")
    write_pairs(tmp_path / "own.jsonl", [pair])  # what we wrote ourselves is never in doubt
    assert read_pairs(tmp_path / "own.jsonl").pairs == [pair]


# --- battles


def test_one_hot_columns_may_hold_truth_values_and_lack_the_one_of_ties(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("prompt,response_a,response_b,winner_model_a,winner_model_b\nHi,a,b,False,True\n", "utf-8")
    found = read_pairs(path)
    assert found.format == "arena_55k" and found.pairs[0].winner == Winner.MODEL_B
    row = change("arena_55k", winner_model_a=True, winner_model_b=False, winner_tie=False)
    assert read_one(row).winner == Winner.MODEL_A
    with pytest.raises(DataError, match=r"field winner_model_a, winner_model_b is \(0, 0\); allowed: exactly one 1"):
        read_one({**without("arena_55k", "winner_tie"), "winner_model_a": 0, "winner_model_b": 0})


def test_arena_55k_rows_have_turns_and_a_one_hot_winner():
    pair = read_one(ROWS["arena_55k"])
    expected = Pair(["Hi", "Count."], ["Hello.", ""], ["Yes?", "1, 2, 3"], id="30192", winner="model_b", **MODELS)
    assert pair == expected and pair.meta == {}
    assert read_one(change("arena_55k", winner_model_b=0, winner_tie=1)).winner == Winner.TIE
    text = {"winner_model_a": "0", "winner_model_b": "0", "winner_tie": "1"}
    assert read_one(change("arena_55k", **text)).winner == Winner.TIE
    unlabelled = pair_from_row(without("arena_55k", "winner_model_a", "winner_model_b", "winner_tie"), "arena_55k")
    assert unlabelled.winner is None


def test_message_lists_become_turns_on_each_side():
    pair = read_one(ROWS["arena_100k"])
    assert pair == Pair(["Hi", "Count."], ["Hello.", "1 2"], ["Yes?", "1, 2, 3"], id="q1", winner="tie", **MODELS)
    assert pair.meta == {"both_bad": True, "turn": 2, "language": "English", "tstamp": 1.5}
    newer = read_one(ROWS["arena_140k"])
    assert newer == Pair("Hi", "Hello.\nThere.", "", id="f-1", winner="tie", **MODELS)
    assert newer.meta == {"both_bad": True, "language": "en"}
    older = read_one(ROWS["chatbot_arena"])
    assert (older.id, older.winner, older.meta["judge"]) == ("q2", Winner.TIE, "arena_user_1")
    assert "both_bad" not in older.meta


def test_a_system_message_is_the_first_turn():
    system = ("system", "Be brief.")
    row = change(
        "arena_100k",
        conversation_a=say(system, ("user", "Hi"), ("assistant", "")),
        conversation_b=say(system, ("user", "Hi"), ("assistant", [{"type": "text", "text": "Yes?"}])),
    )
    pair = read_one(row)
    assert (pair.prompt, pair.response_a, pair.response_b) == (("System: Be brief.", "Hi"), "", "Yes?")


def test_an_unjudged_battle_has_no_winner():
    assert read_one(change("arena_100k", winner=None)).winner is None
    assert read_one(without("arena_140k", "winner")).winner is None


def test_mt_bench_is_cut_at_the_judged_turn_and_known_by_its_content():
    second = read_one(ROWS["mt_bench"])
    assert (second.prompt, second.response_b, second.winner) == (("Hi", "Count."), ("Yes?", "1, 2, 3"), "model_b")
    first = read_one(change("mt_bench", turn=1, winner="tie (inconsistent)", judge=["gpt-4", "pair-v2"]))
    assert (first.prompt, first.response_a, first.response_b) == ("Hi", "Hello.", "Yes?")
    assert first.winner == Winner.TIE
    assert first.meta == {"question_id": 81, "judge": ["gpt-4", "pair-v2"], "turn": 1, "inconsistent": True}
    votes = pairs_from_rows([ROWS["mt_bench"], change("mt_bench", judge="expert_4")]).pairs
    assert [pair.id for pair in votes] == [second.key, f"{second.key}-2"]


def test_lm_eval_samples_give_each_pair_once():
    sample = ROWS["lm_eval"]
    swapped = {**sample, "doc": {**sample["doc"], "swapped": True}}
    filtered = [{**row, "filter": "strict"} for row in (sample, swapped)]
    found = pairs_from_rows([sample, swapped, *filtered])
    assert found.pairs == [Pair("Hi", "Hello.", "Yes?", id="h-01", winner="tie", category="greetings")]
    with pytest.raises(DataError, match="has no pairs"):
        pairs_from_rows([swapped])


# --- preferences


def test_the_side_of_the_chosen_answer_depends_on_the_texts_only():
    rows = [{"prompt": f"Say {n}.", "chosen": f"{n}!", "rejected": f"not {n}"} for n in range(400)]
    pairs = pairs_from_rows(rows).pairs
    for row, pair in zip(rows, pairs, strict=True):
        better = pair.response_a if pair.winner == Winner.MODEL_A else pair.response_b
        assert better == row["chosen"]
    assert pairs_from_rows(rows[::-1]).pairs == pairs[::-1]
    flipped = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in rows]
    assert [pair.key for pair in pairs_from_rows(flipped).pairs] == [pair.key for pair in pairs]
    assert [pair.winner for pair in pairs_from_rows(flipped).pairs] == [pair.swap().winner for pair in pairs]
    assert 160 <= sum(pair.winner == Winner.MODEL_A for pair in pairs) <= 240  # four standard deviations of a coin


def test_rewardbench_rows_keep_models_on_their_sides_and_the_subset():
    row = change("chosen_rejected", chosen_model="heron", rejected_model="stork")
    pair = read_one(row)
    sides = {pair.response_a: pair.model_a, pair.response_b: pair.model_b}
    assert sides == {"Hello.": "heron", "Go.": "stork"}
    assert (pair.id, pair.category) == ("greetings:4", "greetings")
    again = pairs_from_rows([row, {**row, "chosen": "Good day."}]).pairs  # ids are not promised to be unique
    assert [pair.id for pair in again] == ["greetings:4", "greetings:4-2"]


def test_ultrafeedback_and_multi_turn_histories():
    row = {"prompt": "Hi", "prompt_id": "u1", "chosen": talk("Hi", "Hello."), "rejected": talk("Hi", "Go.")}
    pair = read_one({**row, "score_chosen": 8.5, "messages": talk("Hi", "Hello.")})
    assert pair.prompt == "Hi" and {pair.response_a, pair.response_b} == {"Hello.", "Go."}
    assert pair.meta == {"prompt_id": "u1", "score_chosen": 8.5}
    longer = read_one({"chosen": talk("Hi", "Yes?", "Bye", "Bye."), "rejected": talk("Hi", "Yes?", "Bye", "No.")})
    assert longer.prompt == ("Human: Hi", "Assistant: Yes?", "Human: Bye")
    answers = {"chosen": say(("assistant", "Hello.")), "rejected": say(("assistant", "Go."))}
    assert read_one({"prompt": talk("Hi"), **answers}).prompt == "Hi"
    assert read_one({"prompt": "Hi", **answers}).prompt == "Hi"
    ordered = read_one({"prompt": say(("system", "Be kind."), ("user", "Hi")), **answers})
    assert ordered.prompt == ("System: Be kind.", "Human: Hi")
    assert read_one({"prompt": talk("a", "b", "c"), "chosen": "x", "rejected": "y"}).prompt[1] == "Assistant: b"


def test_transcripts_split_at_their_last_answer():
    start = "\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: A poem,\n\nplease\n\nAssistant:"
    pair = read_one({"chosen": start + " Roses.\n\nViolets.", "rejected": start})
    assert pair.prompt == ("Human: Hi", "Assistant: Yes?", "Human: A poem,\n\nplease")
    assert {pair.response_a, pair.response_b} == {"Roses.\n\nViolets.", ""}
    one = read_one({"chosen": "\n\nHuman: Hi\n\nAssistant: a", "rejected": "\n\nHuman: Hi\n\nAssistant: a"})
    assert (one.prompt, one.response_a, one.response_b) == ("Hi", "a", "a")


@pytest.mark.parametrize(
    ("preference", "p_b", "winner"),
    [
        (1, 0, "model_a"),
        (2, 1, "model_b"),
        (1.25, 0.25, "model_a"),
        (1.5, 0.5, "tie"),
        (0, 0.5, "tie"),
        (None, None, None),
    ],
)
def test_alpaca_preferences_are_probabilities(preference, p_b, winner):
    pair = read_one(change("alpaca_eval", preference=preference))
    assert (pair.p_b, pair.winner) == (p_b, winner)
    assert (pair.model_a, pair.model_b, pair.category) == ("heron", "stork", "koala")
    assert pair.meta == {"annotator": "judge-1"}


@pytest.mark.parametrize("format", ["arena_100k", "arena_140k", "chosen_rejected", "arena_55k", "rewardbench2"])
def test_lists_as_pandas_writes_them_into_csv_are_read(format, tmp_path):
    row = ROWS[format]
    if format == "chosen_rejected":
        row = {"chosen": talk("Hi", "Hello."), "rejected": talk("Hi", 'It\'s "so"\\n')}
    texts = {k: json.loads(v) if k in REQUIRED and isinstance(v, str) and v[0] == "[" else v for k, v in row.items()}
    expected = [(p.prompt, p.response_a, p.response_b, p.winner) for p in pairs_from_rows([row]).pairs]
    for of_list in (list, as_array):
        cells = {k: of_list(v) if isinstance(v, list) else v for k, v in texts.items()}
        path = tmp_path / "x.csv"
        pandas.DataFrame([cells]).to_csv(path, index=False)
        found = read_pairs(path).pairs
        assert [(p.prompt, p.response_a, p.response_b, p.winner) for p in found] == expected


def as_array(values):
    array = numpy.empty(len(values), dtype=object)
    array[:] = [{**v, "content": as_array(v["content"])} if listed(v) else v for v in values]
    return array


def listed(value):
    return isinstance(value, dict) and isinstance(value.get("content"), list)


def test_each_two_of_several_ranked_answers_are_a_pair():
    answers = [{"answer": text, "model": text, "rank": rank} for text, rank in (("x", 1.0), ("y", 3.0), ("z", 3.0))]
    pairs = pairs_from_rows([change("nectar", answers=answers)]).pairs
    assert all(pair.prompt == "Hi" and pair.model_a == pair.response_a for pair in pairs)
    won = {
        frozenset((p.response_a, p.response_b)): p.winner and getattr(p, f"model_{p.winner.value[-1]}", "tie")
        for p in pairs
    }
    assert won == {frozenset("xy"): "x", frozenset("xz"): "x", frozenset("yz"): "tie"}
    completions = [{"response": text, "overall_score": score} for text, score in (("x", 3), ("y", 9.5), ("z", None))]
    pairs = pairs_from_rows([change("ultrafeedback", completions=completions)]).pairs
    winners = {p.winner and (p.response_a if p.winner is Winner.MODEL_A else p.response_b) for p in pairs}
    assert len(pairs) == 3 and winners == {"y", None}, "nobody said how good z is"


def test_answers_that_are_not_ranked_make_no_other_format():
    row = {"prompt": "Hi", "response_a": "x", "response_b": "y", "answers": ["gold"]}
    assert detect_format(row) == "canonical"
    with pytest.raises(DataError, match=r"completions\[1\]: field overall_score is 'good'; allowed: a finite number"):
        entries = [{"response": "x", "overall_score": 1}, {"response": "y", "overall_score": "good"}]
        pairs_from_rows([change("ultrafeedback", completions=entries)])


@pytest.mark.parametrize(
    ("columns", "options"),
    [
        (
            ["prompt", "response 1", "response 2", "label"],
            "--field prompt=prompt --field 'response_a=response 1' --field 'response_b=response 2';",
        ),
        (
            ["question", "right_output", "left_output", "id"],
            "--field prompt=question --field response_a=left_output --field response_b=right_output;",
        ),
        (
            ["query", "system", "answerA", "answerB"],
            "--field prompt=COLUMN --field response_a=answerA --field response_b=answerB;",
        ),
        (["prompt", "answer", "x"], "--field prompt=COLUMN --field response_a=COLUMN --field response_b=COLUMN;"),
    ],
)
def test_the_error_names_the_columns_that_look_like_two_answers(columns, options):
    with pytest.raises(DataError) as caught:
        pairs_from_rows([dict.fromkeys(columns, "x")])
    assert options in str(caught.value)
