"""Reading and writing pairs in every container, compressed or broken; nothing is half-written."""

import gzip
import io
import json
import os
import re
import stat
import sys

import pytest
from pair_rows import GOOD, message, random_pairs, zipped

from harness_plugin.errors import DataError, UsageError
from harness_plugin.files import atomic_write
from harness_plugin.files.checked import RowError
from harness_plugin.files.rows import read_object
from harness_plugin.files.systems import reached, whole_stream
from harness_plugin.files.writing import TEMPORARY, lock, moved_into_place
from harness_plugin.pairs import Pair, Winner, read_pairs, write_pairs

# --- containers


def test_written_pairs_read_back_equal_plain_and_compressed(tmp_path):
    pairs = list({pair.id: pair for pair in random_pairs(seed=3)}.values())
    for name in ("x.jsonl", "x.jsonl.gz", "x.jsonl.zst"):
        write_pairs(tmp_path / name, pairs)
        found = read_pairs(tmp_path / name)
        assert found.format == "canonical" and found.skipped == []
        assert [(p, p.key, p.meta) for p in found.pairs] == [(p, p.key, p.meta) for p in pairs]


def test_the_same_pairs_give_the_same_compressed_bytes(tmp_path):
    pairs = random_pairs(seed=4, count=20)
    for ending in ("gz", "zst"):
        write_pairs(tmp_path / f"one.jsonl.{ending}", pairs)
        write_pairs(tmp_path / f"two.jsonl.{ending}", pairs)
        assert (tmp_path / f"one.jsonl.{ending}").read_bytes() == (tmp_path / f"two.jsonl.{ending}").read_bytes()


@pytest.mark.parametrize("pack", [lambda data: data, gzip.compress, zipped])
def test_standard_input_is_read_plain_or_compressed(monkeypatch, pack):
    data = pack((json.dumps(GOOD) + "\n").encode())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    found = read_pairs("-")
    assert found.path == "-" and found.pairs == [Pair.from_dict(GOOD)]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(pack(b'{"prompt": 1}\n'))))
    assert message("-", format="canonical").startswith("standard input row 1: field response_a is missing")


def test_pairs_go_to_standard_output(capfdbinary):
    write_pairs("-", [Pair.from_dict(GOOD)])
    assert json.loads(capfdbinary.readouterr().out) == Pair.from_dict(GOOD).to_dict()


def test_blank_lines_a_bom_and_odd_line_separators_are_no_rows(tmp_path):
    path = tmp_path / "x.jsonl"
    text = json.dumps({**GOOD, "prompt": "one\u2028two\u0085"}, ensure_ascii=False)
    path.write_bytes(b"\xef\xbb\xbf\n" + text.encode() + b"\r\n\n  \n" + b'{"prompt": 1}')
    assert message(path).startswith(f"{path} row 5: field response_a is missing (fields found: prompt)")
    assert read_pairs(path, skip_bad_rows=True).pairs[0].prompt == "one\u2028two\u0085"


def test_csv_cells_hold_one_turn_and_empty_cells_are_null(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(
        'prompt,response_a,response_b,winner,p_b,model_a,note\r\n"two\nlines, and ""quotes""",,[1],,0.25,,n\r\n',
        "utf-8",
    )
    pair = read_pairs(path).pairs[0]
    assert (pair.prompt, pair.response_a, pair.response_b) == ('two\nlines, and "quotes"', "", "[1]")
    assert (pair.winner, pair.p_b, pair.model_a, pair.meta) == (None, 0.25, None, {"note": "n"})


def test_csv_errors_name_the_row_and_its_last_line(tmp_path):
    path = tmp_path / "x.csv"
    head = "prompt,response_a,response_b,p_b\n"
    path.write_text(head + '"a\nb",x,y,0.5\n1,2,3,often\n', "utf-8")
    assert message(path).startswith(f"{path} row 2 (line 4): field p_b is 'often'; allowed: a number from 0 to 1")
    path.write_text(head + "1,2,3\n", "utf-8")
    assert message(path).startswith(f"{path} row 1 (line 2): 3 cells, starting '1'; allowed: 4 cells")
    path.write_text(head + '1,2,3,0\n1,2,"never closed,0\n', "utf-8")
    assert f"{path} row 2 (line 3): not CSV" in message(path)
    path.write_text(f"meta,{head}" + '"{""a"": 1, ""a"": 2}",1,2,3,0\n', "utf-8")
    assert message(path).startswith(f"{path} row 1 (line 2): field meta is '{{")
    path.write_text("prompt,prompt\n1,2\n", "utf-8")
    assert "more than one column 'prompt'" in message(path)
    path.write_bytes(head.encode() + b"1,\xff,3,0\n")
    assert f"{path} line 2: byte 0xff at position 2 is not UTF-8" in message(path)


@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize("separator", [";", "\t", "|"])
@pytest.mark.parametrize("before", ["", "sep={}\r\n"])
def test_columns_may_be_separated_by_something_else_than_commas(tmp_path, separator, quote, before):
    path = tmp_path / "x.csv"
    rows = (["prompt", "response_a", "response_b", "what, if any"], ["a, or so", "b", "c", "d"])
    text = "".join(separator.join(f"{quote}{cell}{quote}" for cell in row) + "\r\n" for row in rows)
    for name, start in (("x.csv", ""), ("x.csv", "\ufeff"), ("x.tsv", ""), ("x", "")):
        path = tmp_path / name
        path.write_text(start + before.format(separator) + text, "utf-8", newline="")
        (pair,) = read_pairs(path).pairs
        assert (pair.prompt, pair.response_b, pair.meta) == ("a, or so", "c", {"what, if any": "d"})


def test_separators_within_the_name_of_a_column_are_no_separators_of_columns(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("prompt,response_a,response_b,who won (a|b|tie|none|unknown)\nq,c,d,e\n", "utf-8")
    (pair,) = read_pairs(path).pairs
    assert (pair.prompt, pair.response_b) == ("q", "d")


@pytest.mark.parametrize("end", ["\r", "\r\r\n", "\r\n"])
def test_lines_of_a_csv_file_may_end_with_a_carriage_return(tmp_path, end):
    path = tmp_path / "x.csv"
    path.write_text(f'prompt,response_a,response_b{end}"a{end}b",c,d{end}e,f,g{end}', "utf-8", newline="")
    assert [(p.prompt, p.response_b) for p in read_pairs(path).pairs] == [(f"a{end}b", "d"), ("e", "g")]


def test_what_spreadsheets_add_to_a_csv_file_is_no_row(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("\r\n\nsep=,\n,prompt,response_a,response_b,,\n0,a,b,c,,\n,,,,,\n1,d,e,,,\n,,,,,\n", "utf-8")
    assert [(p.prompt, p.response_b) for p in read_pairs(path).pairs] == [("a", "c"), ("d", "")]
    assert read_pairs(path).pairs[0].meta == {"column 1": "0", "column 5": None, "column 6": None}
    path.write_text("\nsep=,\nprompt,response_a,response_b\n,,\na,b\n", "utf-8")
    assert message(path).startswith(f"{path} row 1 (line 5): 2 cells")


TWICE = '{"prompt": "ask", "response_a": "x", "response_b": "y", "winner": "model_a", "winner": "model_b"}'


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("x.jsonl", f"{json.dumps(GOOD)}\n{TWICE}\n", "x.jsonl row 2: "),
        ("x.json", f"[{json.dumps(GOOD)}, {TWICE}]", "x.json row 2: "),
        ("x.json", TWICE.replace(", ", ",\n"), "x.json: "),
    ],
)
def test_a_name_that_a_row_has_twice_is_refused_and_neither_value_is_taken(tmp_path, name, text, said):
    path = tmp_path / name
    path.write_text(text)
    assert message(path).startswith(f"{tmp_path}/{said}'winner' is given twice; allowed: each name once")


@pytest.mark.parametrize("text", ["{0}\n{1}\n{0}\n", "[{0}, {1},\n{0}]"])
def test_a_row_that_has_a_name_twice_can_be_left_out_alone(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text.format(json.dumps(GOOD), TWICE))
    table = read_pairs(path, skip_bad_rows=True)
    assert len(table.pairs) == 2 and "row 2: 'winner' is given twice" in str(table.skipped)


def test_a_cell_longer_than_the_csv_modules_default_is_read(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(f"prompt,response_a,response_b\n{'long ' * 60_000},a,b\n", "utf-8")
    assert len(read_pairs(path).pairs[0].prompt) == 300_000


@pytest.mark.parametrize("packed", [False, True])
def test_parquet_is_read_with_lists_of_turns_and_null_columns(tmp_path, packed):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [{**GOOD, "prompt": ["one", "two"], "p_b": 0.25}, {**GOOD, "prompt": ["three"], "winner": None}]
    path = tmp_path / "x.parquet"
    parquet.write_table(arrow.Table.from_pylist(rows), path)
    if packed:
        path = tmp_path / "x.parquet.gz"
        path.write_bytes(gzip.compress((tmp_path / "x.parquet").read_bytes()))
    pairs = read_pairs(path).pairs
    assert [pair.prompt for pair in pairs] == [("one", "two"), "three"]
    assert [(pair.p_b, pair.winner) for pair in pairs] == [(0.25, Winner.MODEL_A), (None, None)]


def test_a_json_array_is_read_row_by_row(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps([GOOD, 3], indent=1), "utf-8")
    assert message(path).startswith(f"{path} row 2: 3 is not an object")
    path.write_text('[{"prompt": "cut', "utf-8")
    assert f"{path} is not JSON" in message(path)


@pytest.mark.parametrize(
    ("data", "message"), [(b"[1]", "is [1]; allowed: an object"), (b'{"a"', "is not JSON"), (b"\xff", "is not JSON")]
)
def test_the_object_of_a_json_file_is_read_plain_or_compressed(tmp_path, data, message):
    path = tmp_path / "x.json"
    for pack in (bytes, gzip.compress):
        path.write_bytes(pack(b'{"a": 1}'))
        assert read_object(path) == {"a": 1}
        path.write_bytes(pack(data))
        with pytest.raises(RowError, match=re.escape(message)):
            read_object(path)


# --- files that are not what they seem


def test_broken_files_are_data_errors(tmp_path):
    whole = gzip.compress(b"".join(json.dumps({**GOOD, "id": n}).encode() + b"\n" for n in range(5000)))
    cases = {
        "empty.jsonl": (b"", "is empty"),
        "empty.csv.gz": (gzip.compress(b""), "is empty"),
        "blank.jsonl": (b"\n \n", "has no pairs"),
        "array.json": (b"[]", "has no pairs"),
        "header.csv": (b"prompt,response_a,response_b\n", "has no pairs"),
        "cut.jsonl.gz": (whole[:-200], "is cut off or corrupt"),
        "sum.jsonl.gz": (whole[:-8] + bytes(8), "is cut off or corrupt"),
        "tail.jsonl.gz": (whole + b"tail", "is cut off or corrupt"),
        "page.jsonl.gz": (b"<html>", "is named .gz but does not start as gzip data does"),
        "page.jsonl.zst": (b"<html>", "is named .zst but does not start as zstd data does"),
        "page.parquet": (b"<html>", "is a web page"),
        "text.parquet": (b"plain", "is not a readable parquet file"),
        "utf16.jsonl": (
            json.dumps(GOOD).encode("utf-16"),
            "is text in UTF-16; such files are not read; save it as UTF-8",
        ),
        "latin.jsonl": (b'{"prompt": "\xe9"}\n', "row 1: byte 0xe9 at position 12 is not UTF-8"),
        "digits.jsonl": (b'{"p_b": ' + b"1" * 5000 + b"}\n", "row 1: "),
        "deep.jsonl": (b"[" * 100_000 + b"\n", "is not JSON"),
        "deeper.jsonl": (b'{"prompt":' + b"[" * 100_000 + b"\n", "row 1: "),
        "text.jsonl": (b'{"prompt": "a"} trailing\n', "row 1: "),
        "number.jsonl": (b"17\n", "row 1: 17 is not an object"),
    }
    for name, (data, expected) in cases.items():
        (tmp_path / name).write_bytes(data)
        text = message(tmp_path / name)
        assert text.startswith(str(tmp_path / name)) and expected in text, (name, text)


def test_a_cut_zstd_file_is_noticed_and_frames_may_follow_each_other(tmp_path):
    zstandard = pytest.importorskip("zstandard")
    frames = b"".join(zstandard.compress(json.dumps({**GOOD, "id": n}).encode() + b"\n") for n in range(3))
    path = tmp_path / "x.jsonl.zst"
    path.write_bytes(frames)
    assert [pair.id for pair in read_pairs(path).pairs] == ["0", "1", "2"]
    path.write_bytes(frames[:-3])
    assert "is cut off or corrupt" in message(path)
    path.write_bytes(frames[:-9] + b"\xff" * 9)
    assert "is cut off or corrupt" in message(path)


def test_missing_files_and_folders_are_data_errors(tmp_path):
    assert "cannot be read (No such file" in message(tmp_path / "none.jsonl")
    assert "cannot be read (Is a directory)" in message(tmp_path)


@pytest.mark.parametrize(
    ("module", "name", "data"),
    [("zstandard", "x.jsonl.zst", b"\x28\xb5\x2f\xfd..."), ("pyarrow", "x.parquet", b"PAR1....PAR1")],
)
def test_a_missing_package_is_named_with_its_install_command(tmp_path, monkeypatch, module, name, data):
    for known in [known for known in sys.modules if known.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, known)
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / name).write_bytes(data)
    assert f"run: pip install {module}" in message(tmp_path / name)


# --- writing


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text("old", "utf-8")

    def failing():
        yield Pair("p", "a", "b")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_pairs(path, failing())
    assert path.read_text("utf-8") == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.jsonl"]


def test_atomic_write_keeps_mode_and_links_and_writes_text_as_given(tmp_path):
    real, link = tmp_path / "real.txt", tmp_path / "link.txt"
    real.write_text("old", "utf-8")
    real.chmod(0o640)
    link.symlink_to(real)
    with atomic_write(link) as file:
        file.write("łódź\r\n\n")
        assert real.read_text("utf-8") == "old"
    assert real.read_bytes() == "łódź\r\n\n".encode()
    assert link.is_symlink() and stat.S_IMODE(real.stat().st_mode) == 0o640
    with atomic_write("/dev/null", binary=True) as file:
        file.write(b"gone")


def test_places_that_cannot_be_written_are_data_errors(tmp_path):
    with pytest.raises(DataError, match=r"cannot make .*No such file"), atomic_write(tmp_path / "none" / "x"):
        pass
    with pytest.raises(DataError, match=r"cannot open .*Is a directory"), atomic_write(tmp_path):
        pass
    if sys.platform == "linux":
        with pytest.raises(DataError, match="No space left"), atomic_write("/dev/full", binary=True) as file:
            file.write(b"x")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_others_write_is_moved_into_place_when_it_is_whole(tmp_path, kind):
    target = tmp_path / "target"

    def write(place):
        if kind == "folder":
            place.mkdir()
        (place / "part" if kind == "folder" else place).write_text("whole", "utf-8")

    with pytest.raises(KeyboardInterrupt), moved_into_place(target) as place:
        write(place)
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with moved_into_place(target) as place:
        write(place)
        assert not target.exists()
        assert len(list(tmp_path.glob("target.*.tmp"))) == 1, "what a killed run leaves can be told and removed"
    assert (target / "part" if kind == "folder" else target).read_text("utf-8") == "whole"
    assert list(tmp_path.iterdir()) == [target]


def test_a_stream_to_a_file_system_of_arrow_is_a_file_when_it_is_whole(tmp_path):
    pytest.importorskip("pyarrow")
    with reached(str(tmp_path), "used") as (system, path):
        with pytest.raises(KeyboardInterrupt), whole_stream(system, f"{path}/x.parquet"):
            raise KeyboardInterrupt
        assert not (tmp_path / "x.parquet").exists()
        with whole_stream(system, f"{path}/x.parquet") as stream:
            stream.write(b"whole")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("x.parquet", b"whole")]


def test_pairs_are_not_written_under_a_name_that_promises_another_format(tmp_path):
    for name in ("x.csv", "x.parquet", "x.csv.gz"):
        with pytest.raises(UsageError, match="cannot be written as"):
            write_pairs(tmp_path / name, [])


def test_temporary_files_of_killed_writers_are_removed_and_those_of_living_ones_stay(tmp_path):
    old, new, held = (tmp_path / f"{TEMPORARY}{name}.tmp" for name in ("old", "new", "held"))
    with open(held, "wb") as writing:
        assert lock(writing.fileno())
        for file in (old, new):
            file.write_bytes(b"half")
        for file in (old, held):
            os.utime(file, (1e9, 1e9))
        with atomic_write(tmp_path / "out.json") as out:
            out.write("{}")
        assert sorted(file.name for file in tmp_path.iterdir()) == sorted([held.name, new.name, "out.json"])
