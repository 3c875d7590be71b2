"""Lists that stand as text in a cell: JSON, Python's and numpy's spellings of them, and texts that are none."""

import json
import time

import numpy as np
import pytest

from harness_plugin.files.written_lists import written_list

ARRAY = np.array
MESSAGES = [{"role": "user", "content": 'Don\'t "say"\nit\\n'}, {"role": "assistant", "content": "#1, 'x' 'y'"}]
LISTS = [["one"], ["one", "two 'three'"], ["a\nb", "c"], [["q", "a"], ["r", "b"]], MESSAGES, [1, True, None], []]


@pytest.mark.parametrize("value", LISTS, ids=str)
def test_a_list_is_read_from_each_spelling(value):
    assert written_list(json.dumps(value)) == value
    assert written_list(str(value)) == value
    if value and not isinstance(value[0], list):
        array = np.empty(len(value), dtype=object)
        array[:] = value
        assert written_list(str(array)) == value, "numpy writes no commas"


def test_arrays_inside_of_an_array_are_lists():
    parts = ARRAY([{"type": "text", "text": "Hi"}, {"type": "text", "text": "You"}], dtype=object)
    talk = ARRAY([{"role": "user", "content": parts}, {"role": "assistant", "content": None}], dtype=object)
    assert written_list(str(talk)) == [
        {"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": "You"}]},
        {"role": "assistant", "content": None},
    ]
    assert written_list(str([{"content": ARRAY(["a", "b"])}])) == [{"content": ["a", "b"]}]
    assert written_list("[1.5 nan]") == [1.5, None]
    assert written_list("[('q', 'a'), ('r',)]") == [["q", "a"], ["r"]], "tuples are lists, as in JSON"


@pytest.mark.parametrize(
    "text",
    [
        *("", "Hi", "[draft] a poem", "['a' 'b'", "['a'] and more", "[[see](http://x)]", "[x for x in y]", "[#]"),
        *("{'a': 1}", "[" * 5000, '[{"a": 1, "a": 2}]', "[open('x')]", "['\x00']\x00", "[\\", "[0777]", "['a', ...] b"),
    ],
)
def test_other_texts_are_no_lists(text):
    assert written_list(text) is None


@pytest.mark.parametrize("text", ["['" + r"\'" * 200_000, '["' + r"a \"b\" " * 50_000])
def test_open_quotes_take_time_that_grows_with_the_length_alone(text):
    start = time.process_time()
    assert written_list(text) is None
    assert time.process_time() - start < 5  # seconds; the square of the length takes minutes
