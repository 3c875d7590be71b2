"""Runs of `arena-rm judge` with a real if tiny judge, for the tests of what they leave and what they cost."""

import json

import pytest
import tiny

FILES = {"verdicts.jsonl", "judged_answers.jsonl", "leaderboard.json", "leaderboard.csv", "report.md", "report.html"}
MODELS = ("heron", "ibis", "stork")
PROMPTS = [tiny.words(5, n) for n in range(6)]


def judged_into(arena, options, tmp_path):
    """judge(*args) -> (verdicts, leaderboard.json, stdout, stderr) of a run into tmp_path/out that ended well, with a
    cache of this test's own and without pictures."""

    def run(*args):
        own = ["--cache-file", tmp_path / "cache.sqlite"] if "--no-cache" not in args else []
        code, out, err = arena("judge", *options, *own, "--no-plots", "-o", tmp_path / "out", *args)
        assert code == 0, err
        assert {f.name for f in (tmp_path / "out").iterdir()} == FILES
        board = json.loads((tmp_path / "out" / "leaderboard.json").read_text("utf-8"), parse_constant=pytest.fail)
        return verdicts_in(tmp_path / "out"), board, out, err

    return run


def answer_files(tmp_path):
    """answers(model, prompts=PROMPTS, answer=None) -> a file of its answers in tmp_path/answers."""
    (tmp_path / "answers").mkdir()

    def write(model, prompts=PROMPTS, answer=None):
        rows = [
            {
                "instruction": p,
                "output": said_by(model, n) if answer is None else answer,
                "generator": model,
                "dataset": ("coding", "chat")[n % 2],
            }
            for n, p in enumerate(prompts)
        ]
        path = tmp_path / "answers" / f"{len(list((tmp_path / 'answers').iterdir()))}.json"
        path.write_text(json.dumps(rows), "utf-8")
        return path

    return write


def said_by(model, n):
    """Three to nineteen words, always the same for a model and the place of its prompt."""
    return tiny.words(3 + n * len(model) % 17, sum(ord(c) * 31**k for k, c in enumerate(model)) * 100 + n)


def verdicts_in(folder):
    return [json.loads(line) for line in (folder / "verdicts.jsonl").read_text("utf-8").split("\n")[:-1]]


def bytes_in(folder):
    return {f.name: f.read_bytes() for f in folder.iterdir()}
