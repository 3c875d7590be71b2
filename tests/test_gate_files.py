"""What the gate reads: files that are broken or no run, and the baselines that it writes."""

import json
import os
import random
from dataclasses import replace
from pathlib import Path

import gate_rows
import pytest

from harness_plugin.gate import Reading, Rules, State, run_gate
from harness_plugin.gate.compare import NotComparable, compare
from harness_plugin.gate.readers.any_run import read_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return gate_rows.score_files(tmp_path_factory.mktemp("gate"))


# -- broken files ------------------------------------------------------------------------------------------------------


def broken(draw: random.Random, data: bytes) -> bytes:
    """The file cut, with bytes changed, lines doubled or moved, values replaced: something a disk or a person does."""
    lines, kind = data.splitlines(keepends=True), draw.randrange(8)
    at = draw.randrange(len(lines))
    if kind == 0:
        return data[: draw.randrange(len(data))]
    if kind == 1:
        noisy = bytearray(data)
        for _ in range(draw.randrange(1, 20)):
            noisy[draw.randrange(len(noisy))] = draw.randrange(256)
        return bytes(noisy)
    if kind == 2:
        return b"".join(lines[:at] + lines[at + 1 :])
    if kind == 3:
        return b"".join([*lines, lines[at]])
    row = json.loads(lines[at])
    name = draw.choice(sorted(row))
    odd = [None, -1, 2, float("nan"), float("inf"), 10**400, "", "\ud800", [], {}, True, "<script>", [[1]], 0.5, "tie"]
    if kind == 4:
        row.pop(name)
    else:
        row[name] = draw.choice(odd)
    lines[at] = (json.dumps(row) + "\n").encode("utf-8", "surrogatepass")
    return b"".join(lines)


@pytest.mark.slow
def test_two_thousand_broken_files_are_never_a_traceback_and_never_a_pass(tmp_path):
    """A pass would need every pair to be there with the values that were stored. What a break leaves as it was (a key
    nobody reads) may pass, so a pass is checked against what the file says."""
    good = gate_rows.scores(tmp_path, "good.jsonl", 24)
    data, file, draw = Path(good).read_bytes(), tmp_path / "bad.jsonl", random.Random(0)
    read = ("key", "prompt_key", "winner", "score", "p_a", "p_b", "p_tie", "judge", "z_ba", "category")
    states = []
    for _ in range(2000):
        file.write_bytes(broken(draw, data))
        result = run_gate(good, str(file), Rules(margin=0.0), Reading())
        states.append(result.state)
        assert "\n" not in result.reason
        if result.state == State.PASS:
            rows = [json.loads(line) for line in file.read_bytes().splitlines()]
            kept = [{name: row.get(name) for name in read if name != "category"} for row in rows]
            told = [{name: row[name] for name in read if name != "category"} for row in gate_rows.score_rows(24)]
            values = [
                {k: v for k, v in row.items() if k not in ("score", "p_a", "p_b", "p_tie", "z_ba", "judge")}
                for row in kept
            ]
            assert values == [{k: v for k, v in row.items() if k in values[0]} for row in told]
    assert states.count(State.NOT_COMPARABLE) > 1000


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"[]", b"{}", b"null", b"\xff\xfe", b'{"winner": "model_a"}\n', b"PK\3\4"]
)
def test_files_that_are_no_run_say_so(gate, runs, tmp_path, content):
    file = tmp_path / "run.jsonl"
    file.write_bytes(content)
    for order in ((runs["old"], file), (file, runs["old"])):
        code, said, _ = gate(*order)
        assert code == 3 and "not comparable" in said and "pass" not in said.split()
    assert gate(runs["old"], tmp_path / "nowhere.jsonl")[0] == 3


# -- baselines ---------------------------------------------------------------------------------------------------------


EDITS = [
    ('"cluster": "k1"', '"cluster": "k9"'),
    ('"acc": true', '"acc": false'),
    ('"orders": "both"', '"orders": "ab"'),
    ('"fixed": {', '"fixed": {}, "was": {'),
    ('"kind": "pairs"', '"kind": "judge"'),
]


def test_a_blessed_baseline_is_small_the_same_each_time_and_stands_for_its_run(gate, runs, tmp_path):
    file = tmp_path / "baselines" / "judge.jsonl"
    assert gate("bless", runs["old"], "-o", file)[0] == 0
    first = file.read_bytes()
    assert len(first) < 600 * 400 and gate("bless", runs["old"], "-o", file)[1].endswith(
        "is not changed: the run is the same\n"
    )
    assert [gate(file, runs[name], "--margin", "0.02")[0] for name in ("old", "again", "worse")] == [0, 0, 1]
    code, _, said = gate("bless", runs["worse"], "-o", file)
    assert code == 2 and "--yes" in said and file.read_bytes() == first
    code, said, _ = gate("bless", runs["worse"], "-o", file, "--yes")
    assert code == 0 and "regression" in said and file.read_bytes() != first
    lines = first.decode().splitlines(keepends=True)
    text = first.decode()
    edited = [text.replace(a, b, 1) for a, b in EDITS]
    assert text not in edited
    for changed in ("".join(lines[:-1]), *edited):
        file.write_text(changed, encoding="utf-8")
        code, said, _ = gate(file, runs["old"])
        assert code == 3 and "changed by hand" in said


def test_bless_replaces_a_baseline_and_nothing_else(gate, runs, tmp_path):
    notes, scores = tmp_path / "notes.md", tmp_path / "scores.jsonl"
    notes.write_text("# Notes\n", encoding="utf-8")
    scores.write_bytes(Path(runs["old"]).read_bytes())
    for file in (notes, scores):
        before = file.read_bytes()
        code, _, said = gate("bless", scores, "-o", file, "--yes")
        assert code == 2 and "holds something else than a baseline" in said and file.read_bytes() == before
    os.mkfifo(tmp_path / "pipe")
    code, _, said = gate("bless", scores, "-o", tmp_path / "pipe", "--yes")
    assert code == 2 and "is no file" in said
    for damaged in ('{"arena_rm_baseline": 1}\n', '{"arena_rm_baseline": 2, "kind": "pai', ""):
        notes.write_text(damaged, encoding="utf-8")
        assert gate("bless", scores, "-o", notes, "--yes")[0] == 0 and gate(notes, scores)[0] == 0


def test_a_metric_whose_better_direction_differs_is_not_compared(runs):
    before, now = (read_run(runs[name]) for name in ("old", "again"))
    with pytest.raises(NotComparable, match="higher is better, for acc: True then, False now"):
        compare(before, replace(now, metrics=now.metrics | {"acc": False}))
