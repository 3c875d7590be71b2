"""The values of a row, as `files.checked` checks and quotes them, and texts as `files.printable` prints them."""

import math

import pytest

from harness_plugin.errors import DataError
from harness_plugin.files.checked import (
    RowError,
    excerpt,
    json_object,
    number,
    optional_id,
    optional_text,
    placed,
    remedy,
    required,
    text,
)
from harness_plugin.files.printable import one_line, readable


def refusal(check, *arguments, **more):
    with pytest.raises(RowError) as caught:
        check(*arguments, **more)
    return str(caught.value)


@pytest.mark.parametrize("value", [None, True, "1", math.nan, math.inf, 10**400, -0.1, 1.1, [], {}], ids=excerpt)
def test_a_number_is_finite_within_its_limits_and_no_truth_value(value):
    said = refusal(number, {"p": value}, "p", "a.jsonl row 3", 0, 1)
    quoted = excerpt(value).rstrip(".")
    assert said == f"a.jsonl row 3: field p is {quoted}; allowed: a finite number from 0 to 1; correct the row"


def test_numbers_become_floats_and_without_limits_any_finite_one_will_do():
    assert number({"n": 3}, "n") == 3.0 and isinstance(number({"n": 3}, "n"), float)
    assert refusal(number, {"n": "3"}, "n").startswith("field n is '3'; allowed: a finite number; ")


def test_a_missing_field_is_told_apart_from_null_and_the_fields_that_are_there_are_listed():
    for check in (number, text, required):
        assert refusal(check, {"b": 1, "a": 2}, "n").startswith("field n is missing (fields found: a, b); ")
    assert refusal(text, {}, "n", "x row 1").startswith("x row 1: field n is missing (fields found: none); ")
    assert required({"n": None}, "n") == [None] and refusal(text, {"n": None}, "n").startswith("field n is None; ")


def test_texts_can_be_encoded_and_only_optional_or_listed_ones_may_be_empty():
    assert text({"t": "x"}, "t") == "x" and refusal(text, {"t": ""}, "t").startswith("field t is ''; ")
    assert optional_text({"t": ""}, "t") == "" and optional_text({"t": None}, "t") is optional_text({}, "t") is None
    for check in (text, optional_text, optional_id):
        assert "text without lone surrogates (one stands at character 1" in refusal(check, {"t": "a\ud800"}, "t")
        allowed = "a string, a whole number, or null" if check is optional_id else "a string"
        assert refusal(check, {"t": 1.5}, "t") == f"field t is 1.5; allowed: {allowed}; correct the row"


def test_ids_are_strings_or_whole_numbers():
    assert [optional_id({"id": value}, "id") for value in (7, "7", "", None)] == ["7", "7", "", ""]
    assert [optional_id({"id": value}, "id") for value in (7.0, -0.0, 2**70, float("nan"))] == [
        "7",
        "0",
        str(2**70),
        "",
    ]
    for value in (1.5, 2.0**53, float("inf"), True, ["q"]):
        assert "allowed: a string, a whole number, or null" in refusal(optional_id, {"id": value}, "id")
    assert refusal(optional_id, {"id": True}, "id").startswith("field id is True; ")


def test_an_object_is_a_dictionary():
    assert json_object({"a": 1}, "x") == {"a": 1}
    assert refusal(json_object, [1], "x row 2: doc") == "x row 2: doc is [1]; allowed: an object; correct the row"


def test_the_place_and_what_to_do_are_added_by_whoever_knows_them():
    error = placed(RowError("field a is 1", "allowed: 2", "correct the row"), "x row 4")
    assert type(error) is RowError and str(error) == "x row 4: field a is 1; allowed: 2; correct the row"
    again = "x row 4: field a is 1; allowed: 2; judge again"
    with pytest.raises(DataError, match=again), remedy("do it again"), remedy("judge again"):
        raise error
    with pytest.raises(DataError, match="the file is empty; make it"), remedy("judge again"):
        raise DataError("the file is empty", "", "make it")


def test_excerpts_are_short_and_never_fail():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    assert excerpt("a") == "'a'" and len(excerpt("a" * 1000)) == 80
    assert excerpt(deep) == "a list nested too deeply"


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("  a\tb\r\nc ", "a b c"),
        ("a\x1b[31mb\x00c\x9b", "a [31mb c"),
        ("a\u202eb\u2028c\ufeff", "a b c"),
        ("a\ud800b", "a b"),
        (ValueError("x\ny"), "x y"),
    ],
)
def test_one_line_has_no_character_that_moves_hides_or_ends_it(value, line):
    assert one_line(value) == line


def test_one_line_is_cut_with_an_ellipsis():
    assert one_line("a" * 9, 9) == "a" * 9 and one_line("a" * 10, 9) == "a" * 8 + "…"


def test_readable_text_can_be_written_and_turns_become_one_text():
    assert readable("a\ud800b") == "a?b" and readable(["x", "y"]) == "x\n\ny" and readable(None) == "None"
