"""Thousands of damaged files of every kind that a command reads. Each ends in words and in an exit code that is true.

`pytest tests/fuzz -s` prints how many inputs ended how: some 1,100 in a minute. `ARENA_RM_FUZZ=10` makes it ten times
as many. The seeds are fixed, so that a failure comes again; the assertion names the input's number.
"""

import contextlib
import io
import os
import random
import shutil
from collections import Counter
from pathlib import Path

import evidence
import gate_rows
import pytest
import tiny
import yaml
from label_rows import judged_folder, saved, vote
from mutations import mutated
from tournament_rows import three_files

from harness_plugin.cli import main
from harness_plugin.errors import ArenaError
from harness_plugin.pairs import read_pairs
from harness_plugin.scoring.store import ScoreCache

TIMES = int(os.environ.get("ARENA_RM_FUZZ", "1"))
pytestmark = pytest.mark.slow


def ended(*arguments) -> tuple[int, str]:
    """(exit code, all that was printed) of a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as stop:
            return int(stop.code or 0), out.getvalue() + err.getvalue()
    raise AssertionError("main came back")


def fuzzed(kind: str, files: list[Path], count: int, run) -> Counter:
    """Damages one of the files at a time, and puts it back as it was. run() -> how it ended, for the counts."""
    whole = {file: file.read_bytes() for file in files}
    outcomes: Counter[str] = Counter()
    for number in range(TIMES * count):
        draw = random.Random(f"{kind} {number}")
        file = draw.choice(files)
        file.write_bytes(mutated(draw, whole[file]))
        try:
            outcomes[run()] += 1
        except AssertionError as e:
            raise AssertionError(f"{kind} {number} ({file.name}): {e}") from e
        finally:
            file.write_bytes(whole[file])
    print(f"{kind}: {TIMES * count} inputs, {dict(outcomes.most_common())}")
    return outcomes


def quiet(code: int, said: str, *codes: int) -> str:
    assert code in codes and "Traceback" not in said and "internal error" not in said, f"exit {code}: {said[-600:]}"
    assert "\x1b" not in said and not any(line.lstrip().startswith("::") for line in said.splitlines()), said[:600]
    return f"exit {code}"


# -- the gate ---------------------------------------------------------------------------------------------------------


def score_file(folder: Path, worse: bool) -> Path:
    folder.mkdir()
    return Path(gate_rows.scores(folder, "run.jsonl", 120, worse=0.3 * worse))


def baseline_file(folder: Path, worse: bool) -> Path:
    assert ended("gate", "bless", score_file(folder, worse), "-o", folder / "base.jsonl")[0] == 0
    return folder / "base.jsonl"


def judged(folder: Path, worse: bool) -> Path:
    return evidence.judge_folder(folder, worse)


def sums(folder: Path, worse: bool) -> Path:
    return evidence.sums_folder(folder, wrong=2 if worse else 30)


def pairs(folder: Path, worse: bool) -> Path:
    return evidence.pairs_folder(folder, 120, -1 if worse else 1)


RUNS = {"scores": score_file, "baselines": baseline_file, "judged runs": judged, "lm-eval": sums, "arena_pairs": pairs}


@pytest.mark.parametrize("kind", RUNS)
def test_damaged_evidence_is_no_verdict(monkeypatch, tmp_path, kind):
    """Of a run that is as good as the baseline no damage makes a regression, and of a worse one no damage makes a
    pass."""
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    good, worse = RUNS[kind](tmp_path / "good", False), RUNS[kind](tmp_path / "worse", True)
    assert ended("gate", good, good)[0] == 0 and ended("gate", good, worse)[0] == 1
    copy = tmp_path / "copy"
    shutil.copytree(good.parent if good.is_file() else good, copy)
    again = copy / good.name if good.is_file() else copy

    def same() -> str:
        return quiet(*ended("gate", again, good, "--json", "-o", tmp_path / "out"), 0, 2, 3, 4)

    def fell() -> str:
        code, said = ended("gate", good, worse)
        assert code or not said.startswith("pass"), said
        return quiet(code, said, 0, 1, 2, 3, 4)

    files = [again] if again.is_file() else sorted(file for file in again.iterdir() if file.suffix != ".html")
    fuzzed(f"{kind}, unchanged", files, 70, same)
    fuzzed(f"{kind}, worse", [worse] if worse.is_file() else sorted(worse.glob("*.json*")), 70, fell)


# -- judges -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["arena_rm.json", "adapter_config.json", "adapter_model.safetensors"])
def test_damaged_adapters_are_refused_or_another_judge(monkeypatch, adapter_copy, tiny_base, name):
    folder = adapter_copy(manifest=True)
    command = ["doctor", "--json", "--peft", folder, "--pretrained", tiny_base("gemma"), "--device", "cpu"]
    fuzzed(f"adapters, {name}", [folder / name], 50, lambda: quiet(*ended(*command), 0, 2, 3))


def test_damaged_recipes_are_refused(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    shipped = Path(__file__).parents[2] / "train" / "configs" / "card.yaml"
    tiny_recipe = yaml.safe_load(shipped.read_text(encoding="utf-8")) | {"base": str(tmp_path / "no base")}
    recipe.write_text(yaml.safe_dump(tiny_recipe), encoding="utf-8")
    command = ["train", recipe, "--data", tmp_path / "nothing.jsonl", "-o", tmp_path / "out"]
    fuzzed("recipes", [recipe], 80, lambda: quiet(*ended(*command), 2, 3))


# -- data -------------------------------------------------------------------------------------------------------------


def test_damaged_stores_never_give_another_score(tmp_path):
    file, digests = tmp_path / "scores.sqlite", [bytes([n]) * 32 for n in range(60)]
    with ScoreCache(file) as cache:
        cache.bind({"judge": 1}, 1).put({digest: [float(n)] for n, digest in enumerate(digests)})

    def read() -> str:
        try:
            with ScoreCache(file) as cache:
                found = cache.bind({"judge": 1}, 1).get(digests)
                cache.put({b"new" * 11: [1.0]})
        except ArenaError as e:
            assert "\n" not in str(e)
            return "refused"
        finally:
            for left in tmp_path.glob("scores.sqlite-*"):
                left.unlink()
        assert all(logits == (float(digests.index(digest)),) for digest, logits in found.items())
        return "whole" if len(found) == len(digests) else "some scores are missing"

    fuzzed("stores", [file], 100, read)


def test_damaged_pairs_are_read_or_refused_in_one_line(tmp_path):
    from harness_plugin.pairs import write_pairs

    file = tmp_path / "pairs.jsonl"
    write_pairs(file, tiny.pairs()[:8])

    def read() -> str:
        try:
            read_pairs(file, skip_bad_rows=True)
            return "read"
        except ArenaError as e:
            assert "\n" not in str(e)
            return "refused"

    fuzzed("pairs", [file], 100, read)


# -- labels -----------------------------------------------------------------------------------------------------------


def test_damaged_runs_never_put_another_text_or_probability_before_people(tmp_path):
    """Whatever is damaged, the design that comes out is the one of the whole run, or none."""
    folder, page = tmp_path / "judged", tmp_path / "label.html"
    (tmp_path / "answers").mkdir()
    judged_folder(folder, three_files(tmp_path / "answers"))
    command = ["label", folder, "--n", "6", "--design", "confidence", "-o", page]
    assert ended(*command)[0] == 0
    design = page.with_name("label.design.jsonl")
    whole = design.read_bytes(), page.read_bytes()

    def drawn() -> str:
        outcome = quiet(*ended(*command), 0, 2, 3)
        assert (design.read_bytes(), page.read_bytes()) == whole
        return outcome

    fuzzed("labels, judged runs", sorted(folder.glob("*.jsonl")), 100, drawn)


def test_damaged_votes_are_merged_or_refused(tmp_path):
    rows = [vote(n, ("model_a", "tie", None)[n % 3], name) for n in range(6) for name in ("Ann", "Bob")]
    file = Path(saved(tmp_path / "votes.jsonl", rows))
    command = ["label", "--merge", file, "-o", tmp_path / "labels.jsonl"]
    assert ended(*command)[0] == 0
    fuzzed("votes", [file], 150, lambda: quiet(*ended(*command), 0, 2, 3))
