"""A JSON file that is one object: a row, or columns of lists that become rows; what may be either is refused."""

import json

import pytest

from harness_plugin.errors import DataError
from harness_plugin.pairs import read_outputs, read_pairs

LISTS = {"prompt": ["Hi", "Bye"], "response": ["Hello.", ""]}
PAIRS = {"prompt": ["Hi", "Bye"], "response_a": ["a", "b"], "response_b": ["c", "d"]}


def written(path, value, **options):
    path.write_text(json.dumps(value, **options), "utf-8")
    return path


def said(path):
    return [(answer.prompt, answer.response) for answer in read_outputs(path)]


@pytest.mark.parametrize("indent", [None, 1])
def test_columns_of_lists_are_rows(tmp_path, indent):
    assert said(written(tmp_path / "x.json", LISTS, indent=indent)) == [("Hi", "Hello."), ("Bye", "")]
    found = read_pairs(written(tmp_path / "y.json", PAIRS, indent=indent)).pairs
    assert [(p.prompt, p.response_a, p.response_b) for p in found] == [("Hi", "a", "c"), ("Bye", "b", "d")]


@pytest.mark.parametrize("name", ["x.json", "x.jsonl"])
def test_columns_of_numbered_cells_are_rows(tmp_path, name):
    numbered = {column: {str(n): cell for n, cell in enumerate(cells)} for column, cells in LISTS.items()}
    assert said(written(tmp_path / name, numbered)) == [("Hi", "Hello."), ("Bye", "")]


def test_one_list_of_rows_under_a_name_is_that_list(tmp_path):
    rows = [{"prompt": "Hi", "response": "Hello."}, {"prompt": "Bye", "response": None}]
    assert said(written(tmp_path / "x.json", {"data": rows}, indent=2)) == [("Hi", "Hello."), ("Bye", None)]


@pytest.mark.parametrize("value", [LISTS, PAIRS])
def test_one_line_that_may_be_a_row_of_turns_or_columns_is_refused(tmp_path, value):
    path = written(tmp_path / "x.jsonl", value)
    with pytest.raises(
        DataError, match=r"x.jsonl is one object whose lists all have 2 entries; they may be the columns"
    ):
        read_outputs(path) if "response" in value else read_pairs(path)
    with pytest.raises(DataError, match=r"x.json is one object whose lists all have 2 entries"):
        read_outputs(written(tmp_path / "x.json", {**value, "model": "heron"}))


def test_a_row_of_turns_is_a_row(tmp_path):
    (pair,) = read_pairs(written(tmp_path / "x.jsonl", {**PAIRS, "id": "1"})).pairs
    assert pair.prompt == ("Hi", "Bye")
    several = tmp_path / "y.jsonl"
    several.write_text((json.dumps(PAIRS) + "\n") * 2, "utf-8")
    assert [p.prompt for p in read_pairs(several).pairs] == [("Hi", "Bye")] * 2
    assert said(written(tmp_path / "one.json", {"prompt": ["Hi"], "response": "Hello."}, indent=1)) == [
        ("Hi", "Hello.")
    ]


def test_json_lines_may_be_called_json_and_a_broken_object_is_named(tmp_path):
    path = tmp_path / "x.json"
    row = {"prompt": "Hi", "response": "Hello."}
    path.write_text("\n" + json.dumps(row) + "\n\n" + json.dumps({**row, "prompt": "Bye"}), "utf-8")
    assert said(path) == [("Hi", "Hello."), ("Bye", "Hello.")]
    path.write_text('{\n"prompt": "Hi",\n', "utf-8")
    with pytest.raises(DataError, match=r"row 1: '\{' is not JSON"):
        read_outputs(path)


def test_an_object_over_several_lines_is_not_read_without_the_line_that_is_no_text(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(json.dumps({"prompt": "Hi", "system": "caf\xe9", "response": "Hello."}, indent=1).encode())
    assert said(path) == [(("System: caf\xe9", "Human: Hi"), "Hello.")]
    text = path.read_text("utf-8").replace("caf\\u00e9", "caf\xe9").encode("latin-1")
    path.write_bytes(text)
    with pytest.raises(DataError, match=r"x.json row 3: byte 0xe9 at position 15 is not UTF-8"):
        read_outputs(path)


def test_two_columns_of_one_name_are_refused_in_a_table_too(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {"prompt": "Hi", "response_a": "a", "response_b": "b", "response_a ": "c"}
    table = arrow.Table.from_arrays([arrow.array([text]) for text in columns.values()], [c.strip() for c in columns])
    parquet.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"x.parquet has more than one column 'response_a'; which one counts"):
        read_pairs(tmp_path / "x.parquet")


@pytest.mark.parametrize("name", ["x.json", "x.jsonl"])
def test_lists_of_objects_are_the_messages_of_one_row(tmp_path, name):
    sides = {
        side: [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": side}] for side in ("good", "bad")
    }
    (pair,) = read_pairs(written(tmp_path / name, {"chosen": sides["good"], "rejected": sides["bad"]})).pairs
    assert pair.prompt == "Hi" and {pair.response_a, pair.response_b} == {"good", "bad"}
