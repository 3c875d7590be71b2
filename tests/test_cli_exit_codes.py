"""Exit code 1 means a regression and nothing else: every accident ends in one line and another code."""

import json
import os
import subprocess
import sys
from pathlib import Path

import evidence
import gate_rows
import pytest
import tiny
from commands import code_of

import harness_plugin.cli as cli
from harness_plugin.cli.failures import explained

STAMP = evidence.STAMP


@pytest.fixture
def ended(capsys):
    """ended(*arguments) -> (exit code, stderr) of a command that must not end in a traceback."""

    def run(*arguments):
        capsys.readouterr()
        code = code_of(list(map(str, arguments)))
        said = capsys.readouterr()
        text = said.out + said.err
        assert "Traceback" not in text and "internal error" not in text, text
        return code, text

    return run


def results(folder, **fields):
    tiny.change_json(folder / evidence.RESULTS, **fields)


def sample(folder, number=3, **fields):
    evidence.change_row(next(folder.glob("samples_*")), number, **fields)


# -- damaged evidence -------------------------------------------------------------------------------------------------

PAIRS = {
    "config is null": lambda f: results(f, config=None),
    "config is a list": lambda f: results(f, config=[]),
    "a doc without winner": lambda f: sample(f, doc={**json.loads(_line(f, 2))["doc"], "winner": None}, number=2),
    "a doc without a field": lambda f: sample(f, number=2, doc={"pair_id": "p1", "swapped": False}),
    "a winner of another type": lambda f: sample(f, doc={**json.loads(_line(f, 4))["doc"], "winner": []}),
    "log-likelihoods of no type": lambda f: sample(f, filtered_resps=[["x"], 1, None]),
    "log-likelihoods too large": lambda f: sample(f, filtered_resps=[[10**400, 1]] * 3),
    "an infinite fingerprint": lambda f: results(f, config={"arena_rm": {"temperature": float("inf")}}),
    "no counts": lambda f: results(f, **{"n-samples": 5}),
}
SUMS = {
    "a number that no float holds": lambda f: sample(f, acc=10**400),
    "a number whose square no float holds": lambda f: sample(f, acc=1e308),
    "a doc_id that no float holds": lambda f: sample(f, doc_id=10**400),
    "metrics is a number": lambda f: sample(f, metrics=3),
    "metrics holds lists": lambda f: sample(f, metrics=[[]]),
    "higher_is_better is a list": lambda f: results(f, higher_is_better=[]),
    "versions is null": lambda f: results(f, versions=None),
    "model_name is a list": lambda f: results(f, model_name=[1]),
    "a hash that is a list": lambda f: sample(f, doc_hash=[]),
}
JUDGED = {
    "judge.hash is a list": lambda f: board(f, judge={"hash": []}),
    "judge is null": lambda f: board(f, judge=None),
    "models is a number": lambda f: board(f, models=5),
    "battles is a list": lambda f: board(f, battles=[]),
    "baseline is a list": lambda f: board(f, baseline=["ibis"]),
    "an infinite fingerprint": lambda f: board(f, judge={"hash": "0123456789abcdef", "temperature": float("inf")}),
    "a fingerprint that is no number": lambda f: board(f, judge={"hash": "0123456789abcdef", "tie_nu": float("nan")}),
    "deep JSON": lambda f: (f / "leaderboard.json").write_text("[" * 100_000, encoding="utf-8"),
    "deep verdicts": lambda f: (f / "verdicts.jsonl").write_text('{"a":' * 100_000, encoding="utf-8"),
}


# What nothing rests on, or what one of two runs may lack.
HARMLESS = ("config is null", "config is a list", "versions is null", "model_name is a list", "no counts")
HARMLESS += ("an infinite fingerprint", "a fingerprint that is no number")


def _line(folder, number):
    return next(folder.glob("samples_*")).read_text(encoding="utf-8").splitlines()[number]


def board(folder, **fields):
    tiny.change_json(folder / "leaderboard.json", **fields)


KINDS = {"pairs": (evidence.pairs_folder, PAIRS), "sums": (evidence.sums_folder, SUMS)}
KINDS["judged"] = evidence.judge_folder, JUDGED


@pytest.mark.parametrize("kind", KINDS)
def test_whole_evidence_passes(ended, tmp_path, kind):
    made = KINDS[kind][0](tmp_path / "run")
    code, said = ended("gate", made, made)
    assert code == 0 and said.startswith("pass"), said


@pytest.mark.parametrize("kind, name", [(kind, name) for kind, (_, cases) in KINDS.items() for name in cases])
def test_damaged_evidence_is_not_comparable(ended, tmp_path, kind, name):
    make, cases = KINDS[kind]
    good, bad = make(tmp_path / "good"), make(tmp_path / "bad")
    cases[name](bad)
    for runs in ((good, bad), (bad, good), (bad, bad)):
        code, said = ended("gate", *runs, "--json", "-o", tmp_path / "out", "--margin", "0.02")
        assert code == (0 if name in HARMLESS or (runs == (bad, bad) and code == 0) else 3), said


def test_a_file_that_is_only_shown_does_not_decide(ended, tmp_path):
    """Answers of a judged run are read when something got worse, to show them."""
    good, bad = (evidence.judge_folder(tmp_path / name) for name in ("good", "bad"))
    evidence.change_row(bad / "judged_answers.jsonl", 0, prompt_key=[])
    evidence.change_row(bad / "judged_answers.jsonl", 1, answers=[])
    assert ended("gate", good, bad)[0] == 0
    assert ended("gate", "bless", bad, "-o", tmp_path / "baseline.jsonl")[0] == 3


def test_files_nested_too_deeply_are_refused(ended, adapter_copy, tiny_base, tmp_path):
    folder, recipe, pairs = adapter_copy(manifest=True), tmp_path / "deep.yaml", tmp_path / "pairs.jsonl"
    recipe.write_text("[" * 3000, encoding="utf-8")
    code, said = ended("train", recipe, "--data", pairs, "-o", tmp_path / "out")
    assert code == 2 and "is not YAML" in said
    pairs.write_text('{"prompt": ' + "[" * 100_000 + "\n", encoding="utf-8")
    assert ended("score", pairs, "--device", "cpu")[0] == 3
    for file in ("adapter_config.json", "arena_rm.json"):
        whole = (folder / file).read_bytes()
        (folder / file).write_text("[" * 100_000, encoding="utf-8")
        code, said = ended("doctor", "--peft", folder, "--pretrained", tiny_base("gemma"), "--device", "cpu")
        assert code == 3 and file in said and "nested too deeply" in said
        (folder / file).write_bytes(whole)


# -- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["gate", "A", "B", "--alpha", "1e-300"],
        ["gate", "A", "B", "--alpha", "nan"],
        ["gate", "A", "B", "--margin", "1e-300"],
        ["gate", "A", "B", "--margin", "inf"],
        ["gate", "A", "B", "--max-missing", "nan"],
        ["gate", "power", "--sd", "inf"],
        ["gate", "power", "--sd", "1e300"],
        ["gate", "power", "--sd", "nan"],
        ["gate", "power", "--margin", "0"],
        ["gate", "power", "--margin", "1e-300"],
        ["gate", "power", "--alpha", "1e-300"],
        ["gate", "power", "--power", "0.99999999999999999"],
        ["gate", "simulate", "--correlation", "nan", "--builds", "5"],
        ["score", "A", "--temperature", "nan"],
        ["score", "A", "--max-length", "-1"],
    ],
    ids=" ".join,
)
def test_numbers_outside_their_range_are_wrong_usage(ended, tmp_path, arguments):
    files = {"A": gate_rows.scores(tmp_path, "a.jsonl", 40), "B": gate_rows.scores(tmp_path, "b.jsonl", 40, seed=1)}
    assert ended(*[files.get(argument, argument) for argument in arguments])[0] == 2


@pytest.mark.parametrize("arguments", [["judge", ""], ["judge", "a.jsonl", "-o", ""], ["gate", "a", ""], ["score", ""]])
def test_an_empty_argument_is_wrong_usage_and_not_the_current_folder(ended, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    code, said = ended(*arguments)
    assert code == 2 and f"argument {arguments.index('') + 1} is empty; a variable of the shell may not be set" in said
    assert not list(tmp_path.iterdir())


# -- the program around it --------------------------------------------------------------------------------------------


def test_an_exception_that_nobody_expected_is_one_line_that_says_what_to_send(monkeypatch, capsys):
    def broken(*args, **kwargs):
        raise OverflowError("too\nlarge")

    monkeypatch.setattr("harness_plugin.gate.power.power_table", broken)
    assert code_of(["gate", "power"]) == 3
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "internal error: OverflowError: too large" in said and "arena-rm doctor" in said
    for arguments in (["--debug", "gate", "power"], ["gate", "power", "--debug"]):
        assert code_of(arguments) == 3
        said = capsys.readouterr().err
        assert "Traceback" in said and said.splitlines()[-1].startswith("arena-rm: internal error")


@pytest.mark.parametrize(
    "error, code, words",
    [
        (SystemExit(1), 3, ""),
        (SystemExit("no such task"), 3, "no such task"),
        (MemoryError(), 3, "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), 3, "out of memory"),
        (OSError(28, "No space left on device", "/data/out"), 3, "/data/out: No space left on device; free some space"),
        (OSError(13, "Permission denied", "/data/out"), 3, "/data/out: Permission denied; the command has to use it; "),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), 3, "torch is not installed"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (RecursionError("maximum recursion depth exceeded"), 3, "internal error"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_exception_has_a_code_that_is_not_1(monkeypatch, capsys, error, code, words):
    def raising(*args, **kwargs):
        raise error

    monkeypatch.setattr("harness_plugin.gate.power.power_table", raising)
    assert code_of(["gate", "power"]) == code
    said = capsys.readouterr().err
    assert words in said and said.count("\n") <= 1


def test_a_command_that_passes_its_arguments_on_keeps_debug_out_of_them():
    commands = {name: cli.group.get_command(None, name) for name in cli.COMMANDS}
    assert [name for name, c in commands.items() if cli.debug_option not in c.params] == ["gate", "lm-eval"]
    assert explained(BrokenPipeError()) == (141, "")


def test_a_file_where_a_folder_is_to_be_made_is_said(tmp_path, capsys):
    file = gate_rows.scores(tmp_path, "a.jsonl", 40)
    for folder in (file, f"{file}/one/two"):
        assert code_of(["gate", "bless", file, "-o", f"{folder}/base.jsonl"]) == 3
        said = capsys.readouterr().err
        assert f"arena-rm: {file}: a file is there; a folder is needed in its place; name another path" in said


WITHOUT = """import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked())
from harness_plugin.cli import main
main(sys.argv[1:])
"""


def started(*arguments, without=(), shell="", **env):
    """(exit code, stdout, stderr) of `arena-rm` in a process, where the packages `without` cannot be imported."""
    program = [sys.executable, "-c", WITHOUT.format(names=set(without) or {""}), *map(str, arguments)]
    line = f'exec "$@" {shell}'
    done = subprocess.run(
        ["bash", "-c", line, "bash", *program],
        capture_output=True,
        cwd=Path(cli.__file__).parents[2],
        env={**os.environ, **env},
    )
    return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")


@pytest.mark.slow
@pytest.mark.parametrize("shell, code", [(">&-", 0), ("2>&-", 0), (">/dev/full", 3), ("2>/dev/full", 0)])
def test_a_stream_that_cannot_be_written_to_is_no_regression(tmp_path, shell, code):
    file = gate_rows.scores(tmp_path, "a.jsonl", 40)
    assert started("gate", file, file, shell=shell)[0] == code


@pytest.mark.slow
def test_a_closed_stdout_does_not_become_the_next_file(tmp_path):
    file = gate_rows.scores(tmp_path, "a.jsonl", 40)
    assert started("gate", "bless", file, "-o", tmp_path / "base.jsonl", shell=">&-")[0] == 0
    assert started("gate", tmp_path / "base.jsonl", file)[0] == 0


@pytest.mark.slow
def test_text_that_the_terminal_cannot_show_is_written_out(tmp_path):
    rows = [row | {"category": "日本 🦊" + row["category"]} for row in gate_rows.score_rows(60)]
    file = gate_rows.write(tmp_path / "a.jsonl", rows)
    for encoding in ("cp1252", "ascii"):
        code, out, _ = started("gate", file, file, PYTHONIOENCODING=encoding)
        assert code == 0 and out.startswith("pass") and "\\u65e5\\u672c \\ud83e\\udd8a" in out
    _, out, _ = started("gate", file, file, "--json", PYTHONIOENCODING="cp1252")
    assert "日本 🦊c0" in [metric["name"] for metric in json.loads(out)["metrics"]]


SMALL = ("torch", "transformers", "peft", "accelerate", "lm_eval", "yaml", "safetensors", "huggingface_hub")


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["score", "pairs.jsonl"],
        ["judge", "answers.json"],
        ["show", "pairs.jsonl"],
        ["calibrate", "embedded", "pairs.jsonl", "--out", "out"],
        ["gate", "duel", "old.json", "new.json"],
        ["train", "card", "--data", "pairs.jsonl", "-o", "out"],
        ["lm-eval", "--tasks", "arena_pairs"],
    ],
    ids=" ".join,
)
def test_a_package_that_is_not_installed_is_named(tmp_path, arguments):
    pair = {"prompt": "p", "response_a": "a", "response_b": "b", "winner": "model_a"}
    (tmp_path / "pairs.jsonl").write_text(2 * (json.dumps(pair) + "\n"), encoding="utf-8")
    for name, models in (("answers.json", "xy"), ("old.json", "x"), ("new.json", "x")):
        answers = [{"instruction": "p", "output": f"{name} {model}", "generator": model} for model in models]
        (tmp_path / name).write_text(json.dumps(answers), encoding="utf-8")
    here = [tmp_path / a if a.endswith((".jsonl", ".json")) or a == "out" else a for a in arguments]
    code, _, said = started(*here, without=SMALL, ARENA_RM_HOME=str(tmp_path))
    assert code == 3 and "Traceback" not in said
    assert "is not installed" in said.splitlines()[-1], said


@pytest.mark.slow
def test_doctor_and_the_gate_run_without_the_packages_that_compute(tmp_path):
    file = gate_rows.scores(tmp_path, "a.jsonl", 40)
    assert started("gate", file, file, without=SMALL)[0] == 0
    code, out, _ = started("doctor", without=SMALL, ARENA_RM_HOME=str(tmp_path))
    assert code == 3 and "works as typed" not in out
    assert all(f"{name}: pip install" in out for name in ("torch", "lm_eval", "pyyaml")), out
