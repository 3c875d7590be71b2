"""Arrays of JSON are read value by value: the same values and the same refusals as `json.loads`, in any pieces."""

import json
import random

import pytest
from pair_rows import GOOD, message

from harness_plugin.errors import DataError
from harness_plugin.files.checked import GivenTwice
from harness_plugin.files.json_array import array_values
from harness_plugin.files.rows import read_rows

VALUES = [0, -12, 1.5e10, True, None, "", 'a "quoted" \\ ł🙂\n', [], [1, [2]], {}, {"x": {"y": [None, "]"]}}]


def pieces_of(rng, text):
    at = 0
    while at < len(text):
        size = rng.choice([1, 2, 3, 7, 50])
        yield text[at : at + size]
        at += size


def test_values_are_those_of_the_whole_text_in_whatever_pieces_it_comes():
    rng = random.Random(4)
    for _ in range(300):
        values = [rng.choice(VALUES) for _ in range(rng.randrange(6))]
        text = json.dumps(values, indent=rng.choice([None, 1]), ensure_ascii=rng.random() < 0.5)
        text = rng.choice(["", " \n", "\t"]) + text + rng.choice(["", "\n", " \r\n"])
        assert list(array_values(pieces_of(rng, text))) == values


@pytest.mark.parametrize(
    "text",
    [
        *["{", "[", "[1", "[1,", "[1,]", "[,1]", "[1]]", "[1]2", "[tru]", "[01]"],
        "",
        " ",
        "[1 2]",
        '["a',
        '[{"a":}]',
        "[" * 100_000,
    ],
)
def test_what_is_no_array_is_a_value_error(text):
    with pytest.raises(ValueError):
        list(array_values(pieces_of(random.Random(1), text)))


def test_the_place_of_an_error_counts_from_the_beginning():
    with pytest.raises(ValueError, match="Expecting value: character 10"):
        list(array_values(["[1,\n2,", " 3, ?]"]))
    with pytest.raises(ValueError, match="digits"):
        list(array_values(["[" + "1" * 5000 + "]"]))


def test_a_value_with_a_name_given_twice_is_named_in_its_place_and_those_after_it_are_read():
    text = '[{"a": 1}, {"b": [{"a": "x, ]", "a": 2}], "c": "]"}, {"a": 3}]'
    for seed in range(20):
        first, second, third = array_values(pieces_of(random.Random(seed), text))
        assert (first, third) == ({"a": 1}, {"a": 3})
        assert isinstance(second, GivenTwice) and str(second) == "'a' is given twice"
    with pytest.raises(ValueError, match="Expecting"):
        list(array_values(pieces_of(random.Random(1), '[{"a": 1, "a": 2, ?}]')))


def test_the_first_values_need_only_the_beginning():
    def pieces():
        yield "[1, 2, "
        raise AssertionError("more was read")

    values = array_values(pieces())
    assert next(values) == 1
    assert next(values) == 2


def test_rows_of_an_array_before_a_broken_one_are_read_and_bytes_that_are_no_text_are_named(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(b"\xef\xbb\xbf[" + json.dumps(GOOD).encode() + b', {"prompt": ')
    rows = read_rows(path)
    assert next(rows).value == GOOD
    with pytest.raises(DataError, match="is not JSON"):
        next(rows)
    path.write_bytes('[{"prompt": "ł'.encode() + b'\xff"}]')
    assert message(path).startswith(f"{path}: byte 0xff at position 15 is not UTF-8")
