"""lm-eval's own command line with a tiny judge, as a program: one process, and two that share the work."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import lm_eval
import pytest
import torch
from lm_eval.tasks import TaskManager

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]

LEAVE = """
import atexit
import os
import torch.distributed
from harness_plugin.engine.processes import accelerator

# what is registered first runs last
file = f"{os.environ['RANK']}.txt"
atexit.register(lambda: open(file, "w").write("there" if torch.distributed.is_initialized() else "left"))
joined = accelerator(on_cpu=True)
joined.gather(torch.ones(3))
"""
FOREIGN_TASK = """
task: tell_apart
output_type: multiple_choice
custom_dataset: !function rows.load
test_split: test
doc_to_text: "{{prompt}}\\nA: {{response_a}}\\nB: {{response_b}}\\nBetter:"
doc_to_choice: ["A", "B"]
doc_to_target: right
"""
FOREIGN_ROWS = """
from datasets import Dataset

def load(**_):
    row = {"prompt": "Say hi.", "response_a": "Hi.", "response_b": "A long no."}
    return {"test": Dataset.from_list([{**row, "right": 0}, {**row, "response_b": "Hello there.", "right": 1}])}
"""


@pytest.fixture(scope="module")
def args(tiny_base, tiny_adapter):
    base, adapter = tiny_base("gemma3"), tiny_adapter("gemma3", manifest=True)
    return {"pretrained": str(base), "peft": str(adapter), "dtype": "float32"}


@pytest.fixture(autouse=True)
def without_gpu(monkeypatch):
    """lm-eval asks for cuda:0 by itself; numbers of two runs are compared here, so both are the CPU's."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def run(folder, args, *options, launcher=()):
    """A whole `lm_eval --model arena_rm` in `folder`; it must end well. Returns the finished process."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HOME": str(folder / "hf")}
    given = ",".join(f"{name}={value}" for name, value in args.items())
    command = [sys.executable, *launcher, "-m", "harness_plugin", "--model", "arena_rm", "--model_args", given]
    command += ["--log_samples", "--output_path", "out", *options]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr[-4000:]
    return done


def written(folder, task):
    """(results, samples of the task) of the single results folder."""
    (results,) = folder.glob("out/*/results_*.json")
    (samples,) = results.parent.glob(f"samples_{task}_*.jsonl")
    rows = [json.loads(line, parse_constant=pytest.fail) for line in samples.read_text(encoding="utf-8").splitlines()]
    return json.loads(results.read_text(encoding="utf-8")), rows


def numbers(values):
    return {name: value for name, value in values.items() if isinstance(value, (int, float))}


def in_this_process(args, limit):
    """(results, samples) of the same run without a program around it."""
    manager = TaskManager(include_path=str(ROOT / "tasks"), include_defaults=False)
    options = {"tasks": ["arena_pairs"], "task_manager": manager, "limit": limit, "log_samples": True}
    found = lm_eval.simple_evaluate("arena_rm", dict(args), **options)
    return found, found["samples"]["arena_pairs"]


def answers(samples):
    """{document: ln of its choices}; lm-eval writes these numbers as text."""
    return {s["doc_id"]: [float(ll) for ll, _ in s["filtered_resps"]] for s in samples}


def same(first, second):
    """Whether two runs' results and answers are equal, but for rounding: other batches, other sums."""
    results = [numbers(run["results"]["arena_pairs"]) for run in (first[0], second[0])]
    assert results[0] == pytest.approx(results[1], nan_ok=True, abs=1e-5)
    rows = answers(second[1])
    assert answers(first[1]) == {doc: pytest.approx(row, abs=1e-5) for doc, row in rows.items()}
    return True


def test_the_command_line_prints_the_table_and_writes_results_and_samples(args, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "tell_apart.yaml").write_text(FOREIGN_TASK, encoding="utf-8")
    (tmp_path / "mine" / "rows.py").write_text(FOREIGN_ROWS, encoding="utf-8")
    done = run(tmp_path, args, "--tasks", "arena_pairs,tell_apart", "--include_path", "mine", "--limit", "8")
    assert re.search(r"\|arena_pairs *\| +2\|none +\| +0\|acc +\|↑ +\| *\d", done.stdout), done.stdout
    assert re.search(r"\|tell_apart *\|.*\|acc +\|↑ +\| *\d", done.stdout)
    assert "Scoring pairs: 100%" in done.stderr
    found, samples = written(tmp_path, "arena_pairs")
    assert next(tmp_path.glob("out/*")).name.endswith(Path(args["peft"]).name)
    assert found["config"]["arena_rm"]["adapter"] == args["peft"]
    assert found["config"]["model_args"] == args
    assert [s["doc"]["swapped"] for s in samples] == [False, True] * 4
    assert same((found, samples), in_this_process(args, 8))


def test_two_processes_give_the_numbers_of_one(args, tmp_path):
    """Seven documents: one process has a request less, which lm-eval fills up, and a pair has one order only."""
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    done = run(tmp_path, args, "--tasks", "arena_pairs", "--limit", "7", "--use_cache", "cache/c", launcher=torchrun)
    found, samples = written(tmp_path, "arena_pairs")
    assert same((found, samples), in_this_process(args, 7))
    assert found["results"]["arena_pairs"]["n_pairs,none"] == 3
    assert found["n-samples"]["arena_pairs"]["effective"] == 7
    assert sorted(file.name for file in (tmp_path / "cache").glob("*.db")) == ["c_rank0.db", "c_rank1.db"]
    assert done.stdout.count("|arena_pairs") == 1
    assert re.findall(r"(\d)(?:\.0)?/4 \[", done.stderr)[-1] == "4", "each process scores its share only"


def test_processes_leave_their_group_before_python_ends(tmp_path):
    """Else one of some runs is aborted when all its work is done."""
    (tmp_path / "leave.py").write_text(LEAVE, encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "leave.py"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    # a file of each: the lines of two processes may mix in one stream
    assert [(tmp_path / f"{rank}.txt").read_text(encoding="utf-8") for rank in (0, 1)] == ["left", "left"]
