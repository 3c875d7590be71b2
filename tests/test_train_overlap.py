"""Prompts of evaluation files must not be in the data, and what cutting costs is counted."""

import json

import pytest
import tiny

from harness_plugin.errors import DataError, TrainError
from harness_plugin.pairs import Pair, write_pairs
from harness_plugin.prompt import Renderer
from harness_plugin.train.split import (
    describe_report,
    evaluation_prompts,
    overlap_key,
    refuse_overlap,
    token_report,
)


def pair(prompt, a, b, id="", **label):
    return Pair(prompt, a, b, id=id, **(label or {"p_b": 0.75}))


# Evaluation files


@pytest.fixture
def evaluation(tmp_path):
    """Real files of evaluations: name -> path."""
    write_pairs(
        tmp_path / "pairs.jsonl.gz", [pair("q1", "a", "b"), pair(("one", "two"), "a", "b"), pair("q3", "a", "b")]
    )
    rows = [{"instruction": q, "output": "x", "generator": "heron"} for q in ("q3", "q9")]
    (tmp_path / "outputs.json").write_text(json.dumps(rows), encoding="utf-8")
    talk = [{"role": "user", "content": "q8"}, {"role": "assistant", "content": {"answer": "x"}}]
    answer = {"uid": "u1", "model": "heron", "messages": talk}
    (tmp_path / "answers.jsonl").write_text(json.dumps(answer) + "\n", encoding="utf-8")
    return {name: tmp_path / name for name in ("pairs.jsonl.gz", "outputs.json", "answers.jsonl")}


def keys(*prompts):
    return {overlap_key(prompt) for prompt in prompts}


def test_prompts_are_found_in_files_of_pairs_and_of_answers(evaluation):
    assert evaluation_prompts(evaluation["pairs.jsonl.gz"]) == keys("q1", ("one", "two"), "q3")
    assert evaluation_prompts(evaluation["outputs.json"]) == keys("q3", "q9")
    assert evaluation_prompts(str(evaluation["answers.jsonl"])) == keys("q8")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            '{"a": 1}\n',
            ["neither as pairs (row 1: the columns fit no known format", "nor as a model's answers (row 1: "],
        ),
        ('{"prompt": "q", "response_a": "x", "response_b": "y"}\n{"prompt": "q2"}\n', ["row 2", "response_a"]),
        ('{"question_id": "q1", "model_id": "m", "choices": [{"turns": ["x"]}]}\n', ["comes without its prompt"]),
        ('[{"instruction": "q", "output": "x"}, {"output": "y"}]', ["row 2", "instruction"]),
        ('{"prompt": "q", "response_a": "x", "response_b": "y"}\n{"prompt": "q2", "response_a": "x"}\n', ["row 2"]),
        ("", ["is empty"]),
        ("{", ["is not JSON"]),
        ("\x00\x01", []),
    ],
)
def test_a_file_that_is_neither_is_refused(tmp_path, text, words):
    file = tmp_path / "evaluation.json"
    file.write_text(text, encoding="utf-8")
    tiny.refusal(DataError, lambda: evaluation_prompts(file), "evaluation.json", *words)


def test_a_file_that_is_not_there_is_refused_once(tmp_path):
    assert (
        tiny.refusal(DataError, lambda: evaluation_prompts(tmp_path / "no"), "cannot be read").count("cannot be read")
        == 1
    )


def test_overlaps_are_refused_with_files_pairs_and_a_list(evaluation, tmp_path):
    rows = [
        pair("q3", "a", "b", "r3"),
        pair("q0", "a", "b", "r0"),
        pair(["one", "two"], "c", "d", "r2"),
        pair("q3", "c", "d", "r1"),
        pair("q9", "c", "d", "r9"),
    ]
    prompts = {name: sorted(evaluation_prompts(file)) for name, file in evaluation.items()}
    listing = tmp_path / "overlaps.jsonl"
    text = tiny.refusal(
        TrainError,
        lambda: refuse_overlap(rows, prompts, listing),
        "3 of the prompts",
        "outputs.json (2), pairs.jsonl.gz (2)",
        "pairs r1, r2, r3, r9",
        str(listing),
    )
    assert "answers.jsonl" not in text and "more" not in text
    found = [json.loads(line) for line in listing.read_text(encoding="utf-8").splitlines()]
    key = {q: Pair(q, "", "").prompt_key for q in ("q3", "q9", ("one", "two"))}
    expected = [
        ("outputs.json", key["q3"], ["r1", "r3"]),
        ("outputs.json", key["q9"], ["r9"]),
        ("pairs.jsonl.gz", key["one", "two"], ["r2"]),
        ("pairs.jsonl.gz", key["q3"], ["r1", "r3"]),
    ]
    assert [(r["file"], r["prompt_key"], r["pairs"]) for r in found] == sorted(expected)
    written = listing.read_bytes()
    turned = {name: reversed(prompts[name]) for name in reversed(prompts)}
    assert tiny.refusal(TrainError, lambda: refuse_overlap(rows[::-1], turned, listing)) == text
    assert listing.read_bytes() == written, "in any order of rows and files"
    assert "listed" not in tiny.refusal(TrainError, lambda: refuse_overlap(rows, prompts))


def test_many_overlaps_are_one_line_and_a_list_that_cannot_be_written_hides_none(tmp_path):
    rows = [pair(f"q{n:03}", "a", "b", f"r{n:03}") for n in range(300)]
    found = {"bench": [overlap_key(p.prompt) for p in rows]}
    listing = tmp_path / "no folder" / "list.jsonl"
    text = tiny.refusal(
        TrainError,
        lambda: refuse_overlap(rows, found, listing),
        "300 of the prompts",
        "bench (300)",
        "r000, r001, r002, r003, r004 and 295 more",
        "cannot make",
        "so there is no list",
    )
    assert len(text) < 600
    tiny.refusal(TrainError, lambda: refuse_overlap(rows, found, tmp_path / "list.jsonl"), "all listed in")
    listed = [json.loads(line) for line in (tmp_path / "list.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["prompt_key"] for row in listed] == sorted(p.prompt_key for p in rows)


@pytest.mark.parametrize("prompt", [" q3\r\n", "Q3", "q\uff13", "q3\u200b", "one\n two", ("One", "two ")])
def test_white_space_case_and_the_spelling_of_unicode_do_not_hide_an_overlap(evaluation, prompt):
    prompts = {"pairs": evaluation_prompts(evaluation["pairs.jsonl.gz"])}
    tiny.refusal(TrainError, lambda: refuse_overlap([pair(prompt, "a", "b", "r1")], prompts), "pairs (1)", "r1")


def test_without_an_overlap_nothing_happens(tmp_path, evaluation):
    prompts = {name: evaluation_prompts(file) for name, file in evaluation.items()}
    listing = tmp_path / "list.jsonl"
    refuse_overlap([pair("q 3", "a", "b"), pair("q3?", "a", "b"), pair(("two", "one"), "a", "b")], prompts, listing)
    refuse_overlap([], prompts, listing)
    refuse_overlap([pair("q3", "a", "b")], {}, listing)
    assert not listing.exists()


# Tokens


def test_the_report_counts_what_cutting_costs():
    full = [(10, 20, 30), (10, 100, 10), (5, 100, 100), (0, 0, 8)]
    kept = [(10, 20, 30), (10, 50, 10), (5, 49, 60), (0, 0, 8)]
    report = token_report(full, kept)
    assert report == {
        "pairs": 4,
        "full": {"prompts": 25, "responses": 368, "total": {"p50": 60, "p90": 205, "p99": 205}},
        "kept": {"prompts": 25, "responses": 227, "total": {"p50": 60, "p90": 114, "p99": 114}},
        "cut": 0.5,
        "response_halved": 0.25,
        "lost": pytest.approx(141 / 393),
    }
    assert json.loads(json.dumps(report)) == report
    order = [3, 1, 0, 2]
    assert token_report([full[i] for i in order], [kept[i] for i in order]) == report
    first, second = describe_report(report).splitlines()
    assert "4 pairs" in first and "50% at most 60 (kept 60)" in first and "99% at most 205 (kept 114)" in first
    assert second == "50.0% of the pairs are cut, 25.0% lose more than half of a response; 35.9% of all tokens are lost"
    assert token_report([(9, 1, 1)], [(0, 1, 1)])["cut"] == 1
    assert token_report([(9, 1, 1)], [(0, 1, 1)])["response_halved"] == 0, "a prompt is no response"
    assert token_report([(0, 0, 0)], [(0, 0, 0)])["lost"] == 0


def test_the_report_of_what_a_renderer_keeps(pairs):
    report = {}
    for length in (10**6, 64):
        views = [Renderer(tiny.tokenizer(), length, "budget").render(p) for p in pairs]
        fields = [(v.prompt, v.response_a, v.response_b) for v in views]
        full = [tuple(f.original for f in row) for row in fields]
        report[length] = token_report(full, [tuple(f.kept for f in row) for row in fields])
        assert report[length]["cut"] == pytest.approx(sum(v.truncated for v in views) / len(views))
    assert report[10**6]["cut"] == report[10**6]["lost"] == report[10**6]["response_halved"] == 0
    assert report[64]["full"] == report[10**6]["full"] and report[64]["kept"]["total"]["p99"] <= 64
    assert 0 < report[64]["response_halved"] <= report[64]["cut"] < 1


@pytest.mark.parametrize(
    ("full", "kept", "word"),
    [
        ([], [], "no pairs"),
        ([(1, 1, 1)], [(1, 2, 1)], "contradict"),
        ([(1, 1, 1)], [(1, -1, 1)], "contradict"),
        ([(1, 1, 1)], [], "contradict"),
        ([(1, 1, 1)], [(1, 1, 1)] * 2, "contradict"),
        ([(1, 1)] * 3, [(1, 1)] * 3, "contradict"),
    ],
)
def test_counts_that_cannot_be_make_no_report(full, kept, word):
    tiny.refusal(TrainError, lambda: token_report(full, kept), word)
