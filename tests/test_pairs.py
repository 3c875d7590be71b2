"""The package `pairs`: what a pair is, and its ids, and reading with bad rows and own columns."""

import hashlib
import json
import subprocess
import sys

import pytest
from pair_rows import GOOD, message, random_pairs, write_lines

from harness_plugin.errors import UsageError
from harness_plugin.pairs import Pair, content_id, pairs_from_rows, read_pairs

# --- what a pair is


def test_swap_is_its_own_inverse_and_moves_everything_that_has_a_side():
    for pair in random_pairs(seed=1):
        swapped = pair.swap()
        assert swapped.swap() == pair
        assert (swapped.prompt, swapped.id, swapped.category) == (pair.prompt, pair.id, pair.category)
        assert (swapped.response_a, swapped.response_b) == (pair.response_b, pair.response_a)
        assert (swapped.model_a, swapped.model_b) == (pair.model_b, pair.model_a)
        other = {"model_a": "model_b", "model_b": "model_a", "tie": "tie", None: None}
        assert swapped.winner == other[pair.winner]
        assert (swapped.p_b is None) if pair.p_b is None else (swapped.p_b + pair.p_b == 1.0)
        assert swapped.meta == pair.meta


def test_a_probability_keeps_its_written_form():
    assert Pair("p", "a", "b", p_b=0.1).p_b == 0.1
    assert Pair("p", "a", "b", p_b=0.1).swap().p_b == 0.9
    assert str(Pair("p", "a", "b", p_b=-0.0).p_b) == "0.0"


def test_ids_come_from_the_content_and_never_change_between_processes():
    pair = Pair("p", "a", "b")
    assert pair.id == pair.key == content_id("p", "a", "b") == hashlib.sha256(b'["p","a","b"]').hexdigest()[:16]
    assert pair.prompt_key == content_id("p")
    assert pair.swap().key != pair.key and pair.swap().prompt_key == pair.prompt_key
    assert content_id("ab", "c") != content_id("a", "bc")
    assert content_id(("a", "b")) != content_id("a\nb")
    assert Pair("p", "a", "b", id="mine").key == pair.key


def test_one_turn_is_a_plain_string_whatever_it_came_in():
    assert Pair(["p"], ("a",), "b") == Pair("p", "a", "b")
    assert Pair(["p", "q"], "a", "b").prompt == ("p", "q")


def test_a_dictionary_round_trip_keeps_every_field():
    for pair in random_pairs(seed=2):
        row = json.loads(json.dumps(pair.to_dict()))
        again = Pair.from_dict(row)
        assert again == pair and again.meta == pair.meta
        assert None not in row.values()


def test_unknown_fields_go_to_meta_and_stay_json():
    pair = Pair.from_dict({**GOOD, "source": "here", "odd": float("nan"), "meta": {"kept": 1}})
    assert pair.meta == {"kept": 1, "source": "here", "odd": None}


def test_importing_pairs_loads_nothing_heavy():
    code = (
        "import sys, harness_plugin.pairs; "
        "print([m for m in ('torch', 'pandas', 'numpy', 'pyarrow', 'lm_eval', 'datasets') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("prompt", 7, "a string, or a list of at least one string"),
        ("prompt", None, "a string, or a list of at least one string"),
        ("prompt", [], "a list of at least one string"),
        ("response_b", ["x", 3], "a list of at least one string"),
        ("prompt", ["x", None], "a list of at least one string"),
        ("response_b", "half \ud83d of it", "lone surrogates"),
        ("prompt", ["fine", "\udc00"], "lone surrogates"),
        ("winner", "A", "'model_a', 'model_b', 'tie', or null"),
        ("winner", "", "'model_a', 'model_b', 'tie', or null"),
        ("winner", ["tie"], "'model_a', 'model_b', 'tie', or null"),
        ("p_b", 1.01, "a number from 0 to 1"),
        ("p_b", -1e-9, "a number from 0 to 1"),
        ("p_b", True, "a number from 0 to 1"),
        ("p_b", "0.5", "a number from 0 to 1"),
        ("p_b", float("nan"), "a number from 0 to 1"),
        ("p_b", float("inf"), "a number from 0 to 1"),
        ("p_b", 10**400, "a number from 0 to 1"),
        ("model_a", 3, "a string or null"),
        ("category", ["c"], "a string or null"),
        ("id", True, "a string, a whole number, or null"),
        ("id", 1.5, "a string, a whole number, or null"),
        ("meta", "text", "an object"),
        ("winner ", "tie", None),
    ],
)
def test_a_bad_field_is_named_with_file_row_value_and_what_was_allowed(tmp_path, field, value, allowed):
    path = write_lines(tmp_path / "battles.jsonl", GOOD, {**GOOD, field: value})
    if allowed is None:  # a misspelt optional field is no error: it is kept in meta
        assert read_pairs(path).pairs[1].meta == {"winner ": "tie"}
        return
    text = message(path)
    assert text.startswith(f"{path} row 2: field {field} is ")
    assert allowed in text
    shown = repr("\udc00") if value == ["fine", "\udc00"] else repr(value)
    assert shown[:70] in text


def test_empty_texts_and_nul_are_read_as_they_are():
    pair = pairs_from_rows([{"prompt": "", "response_a": "\x00", "response_b": "", "winner": None}]).pairs[0]
    assert (pair.prompt, pair.response_a, pair.response_b, pair.winner) == ("", "\x00", "", None)


def test_a_field_in_the_row_and_in_its_meta_is_refused(tmp_path):
    path = write_lines(tmp_path / "x.jsonl", {**GOOD, "source": "a", "meta": {"source": "b"}})
    assert "row 1: field source is 'a'" in message(path)


# --- ids in a file


def test_rows_without_ids_get_content_ids_and_repeats_are_numbered(tmp_path):
    other = {**GOOD, "prompt": "Name a lake."}
    pairs = read_pairs(write_lines(tmp_path / "x.jsonl", GOOD, other, GOOD, {**GOOD, "winner": "tie"})).pairs
    key = pairs[0].key
    assert [pair.id for pair in pairs] == [key, pairs[1].key, f"{key}-2", f"{key}-3"]
    assert [pair.key for pair in pairs] == [key, pairs[1].key, key, key]


def test_a_numbered_id_never_takes_one_that_a_later_row_has(tmp_path):
    rows = [{**GOOD, "id": "x"}, {**GOOD, "id": "x"}, {**GOOD, "id": "x-2", "prompt": "Name a sea."}]
    pairs = read_pairs(write_lines(tmp_path / "x.jsonl", *rows)).pairs
    assert [pair.id for pair in pairs] == ["x", "x-3", "x-2"]


def test_an_id_for_two_different_pairs_names_both_rows(tmp_path):
    rows = [{**GOOD, "id": "x"}, GOOD, {**GOOD, "id": "x", "response_b": "Another."}]
    path = write_lines(tmp_path / "x.jsonl", *rows)
    assert message(path).startswith(f"{path} row 3: field id is 'x', the id of row 1")
    found = read_pairs(path, skip_bad_rows=True)
    assert len(found.pairs) == 2 and "row 3" in str(found.skipped[0])


def test_a_whole_number_is_an_id():
    assert pairs_from_rows([{**GOOD, "id": 0}]).pairs[0].id == "0"


# --- bad rows, own column names


def test_bad_rows_can_be_left_out_and_are_listed_in_order(tmp_path):
    rows = ["{", {**GOOD, "winner": "C"}, GOOD, {"prompt": "p"}, "[]", {**GOOD, "prompt": "q"}]
    path = write_lines(tmp_path / "x.jsonl", *rows)
    found = read_pairs(path, skip_bad_rows=True)
    assert [pair.prompt for pair in found.pairs] == [GOOD["prompt"], "q"]
    assert [f"row {n}:" in str(error) for n, error in zip((1, 2, 4, 5), found.skipped, strict=True)] == [True] * 4
    assert message(path).startswith(f"{path} row 1:")


def test_a_bad_first_row_does_not_hide_the_format_when_bad_rows_are_left_out(tmp_path):
    path = write_lines(tmp_path / "x.jsonl", {"prompt": "p"}, GOOD)
    assert "row 1: the columns fit no known format" in message(path)
    found = read_pairs(path, skip_bad_rows=True)
    assert (len(found.pairs), len(found.skipped), found.format) == (1, 1, "canonical")
    text = message(write_lines(tmp_path / "y.jsonl", {"x": 1}, {"x": 2}), skip_bad_rows=True)
    assert "every row" in text and "columns found: x; formats known: canonical" in text


def test_pairs_can_be_members_of_a_set():
    assert len({Pair("p", "a", "b", meta={"n": 1}), Pair("p", "a", "b"), Pair("p", "b", "a")}) == 2


def test_a_file_with_no_good_row_stops_even_when_bad_rows_are_left_out(tmp_path):
    path = write_lines(tmp_path / "x.jsonl", {**GOOD, "winner": "C"}, "{")
    text = message(path, skip_bad_rows=True)
    assert "every row" in text and "(2)" in text and "row 1: field winner is 'C'" in text
    assert "every row" in message(write_lines(tmp_path / "y.jsonl", "{", "{"), skip_bad_rows=True)


def test_own_column_names_are_read_and_checked(tmp_path):
    row = {"question": "p", "left": "a", "right": "b", "vote": "tie", "prompt": "shadowed"}
    fields = {"prompt": "question", "response_a": "left", "response_b": "right", "winner": "vote"}
    path = write_lines(tmp_path / "x.jsonl", row)
    found = read_pairs(path, fields=fields)
    assert found.format == "canonical" and found.pairs == [Pair("p", "a", "b", winner="tie")]
    assert "no row of" in message(path, fields={**fields, "category": "kind"})
    text = message(path, fields={**fields, "response_b": "rihgt"})
    assert "row 1: column 'rihgt' (for field response_b) is missing; columns found: left, prompt, question" in text
    with pytest.raises(UsageError, match="field 'answer' is unknown"):
        read_pairs(path, fields={"answer": "left"})
    with pytest.raises(UsageError, match="column question is named for prompt, which files of format mt_bench do not"):
        read_pairs(path, format="mt_bench", fields=fields)
