"""The gate on judged chatbots, duels and results of lm-eval, and in pipelines of CI."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import gate_rows
import pytest
import tiny
import yaml
from commands import code_of

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return gate_rows.score_files(tmp_path_factory.mktemp("gate"))


# -- judge runs and duels ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chatbots(tiny_base, tiny_adapter, tmp_path_factory):
    """Answers of three chatbots, and of a new version of the first; `judged(*files)` -> the folder of a run."""
    folder = tmp_path_factory.mktemp("chatbots")
    spec = [
        "--pretrained",
        str(tiny_base("gemma")),
        "--peft",
        str(tiny_adapter("gemma", manifest=True)),
        "--dtype",
        "float32",
        "--no-cache",
    ]

    def answers(name, seed, model=None):
        (folder / name).mkdir()
        rows = [
            {"instruction": f"Ask {n}?", "output": tiny.words(8 + n, 1000 * seed + n), "generator": model or name}
            for n in range(12)
        ]
        file = folder / name / "answers.json"
        file.write_text(json.dumps(rows), encoding="utf-8")
        return str(file)

    files = {name: answers(name, n) for n, name in enumerate(("heron", "ibis", "stork"))}
    files["new"] = answers("new", 7, "heron")

    def judged(name, *chosen):
        out = folder / f"run {name}"
        asked = [*(files[c] for c in chosen), "--baseline", "ibis", "-o", str(out), "--no-plots", *spec]
        assert code_of(["judge", *asked]) == 0
        return str(out)

    return files, judged, spec


def test_two_judgings_are_compared_for_one_chatbot_and_another_judge_is_refused(gate, chatbots, tmp_path):
    _, judged, _ = chatbots
    old, same, new = judged("old", "heron", "ibis"), judged("same", "heron", "ibis"), judged("new", "new", "ibis")
    code, said, _ = gate(old, same, "--model", "heron")
    assert code == 0 and "win_rate" in said
    code, said, _ = gate(old, new, "--model", "heron", "--json")
    found = json.loads(said)
    assert code in (0, 1) and found["items"] == 12 and found["worst"] and "answer" in json.dumps(found["worst"])
    board = Path(new) / "leaderboard.json"
    other = board.read_text("utf-8")
    for part in ("adapter_sha256", "adapter_config", "base_sha256", "base_config", "tokenizer"):
        wrong = re.sub(rf'"{part}": "\w+"', f'"{part}": "0000"', other)
        assert wrong != other
        board.write_text(wrong, encoding="utf-8")
        code, said, _ = gate(old, new, "--model", "heron")
        assert code == 3 and part in said
    board.write_text(re.sub(r'"win_rate": [\d.]+', '"win_rate": NaN', other), encoding="utf-8")
    assert gate(old, new, "--model", "heron")[0] == 3
    board.write_text(other, encoding="utf-8")


def test_a_duel_judges_new_answers_against_old_ones(gate, chatbots, tmp_path):
    files, _, spec = chatbots
    code, said, _ = gate("duel", files["heron"], files["new"], "-o", tmp_path / "duel", *spec)
    assert code in (0, 1) and "win_rate" in said
    assert len((tmp_path / "duel" / "verdicts.jsonl").read_text("utf-8").splitlines()) == 12
    code, said, _ = gate("duel", files["heron"], files["heron"], *spec)
    assert code == 2


# -- lm-eval results ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def results(tiny_base, tiny_adapter, tmp_path_factory):
    """The folder of an lm-eval run of arena_pairs with samples, and its samples file."""
    folder = tmp_path_factory.mktemp("lm_eval")
    args = f"pretrained={tiny_base('gemma')},peft={tiny_adapter('gemma', manifest=True)},dtype=float32,device=cpu"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "harness_plugin",
            "--model",
            "arena_rm",
            "--model_args",
            args,
            "--tasks",
            "arena_pairs",
            "--limit",
            "24",
            "--log_samples",
            "--output_path",
            "out",
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "HF_HOME": str(folder / "hf")},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (samples,) = folder.glob("out/*/samples_arena_pairs_*.jsonl")
    return samples.parent, samples


@pytest.mark.slow
def test_two_results_of_lm_eval_are_compared_pair_by_pair(gate, results, tmp_path):
    folder, samples = results
    code, said, _ = gate(folder, folder, "--json")
    found = json.loads(said)
    assert code == 0 and found["items"] == 12 and found["metrics"][0]["difference"] == 0
    baseline = tmp_path / "b.jsonl"
    assert gate("bless", folder, "-o", baseline)[0] == 0 and gate(baseline, folder)[0] == 0
    again = tmp_path / "again"
    again.mkdir()
    for file in folder.iterdir():
        (again / file.name).write_bytes(file.read_bytes())
    lines = samples.read_text("utf-8").splitlines(keepends=True)
    (again / samples.name).write_text("".join(lines[:-3]), encoding="utf-8")
    assert gate(baseline, again)[0] == 3, "samples are missing"
    (again / samples.name).write_text("".join(lines)[:-40], encoding="utf-8")
    code, said, _ = gate(baseline, again)
    assert code == 3 and "not comparable" in said


# -- in a pipeline -----------------------------------------------------------------------------------------------------


@pytest.fixture
def shell(tmp_path):
    """shell(script, **environment) -> the finished bash, in which `arena-rm` is this checkout's."""
    command = tmp_path / "bin" / "arena-rm"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m harness_plugin.cli "$@"\n')
    command.chmod(0o755)
    path = f"{command.parent}:{os.environ['PATH']}"

    def run(script, **environment):
        return subprocess.run(
            ["bash", "-e", "-c", script],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), **environment},
        )

    return run


def test_the_gitlab_job_of_the_documentation_runs_as_written(gate, chatbots, shell, tmp_path):
    page = (ROOT / "docs" / "gate.md").read_text("utf-8")
    job = next(yaml.safe_load(b)["gate"] for b in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "script:" in b)
    _, judged, _ = chatbots
    now = judged("gitlab", "heron", "ibis")
    assert gate("bless", now, "--model", "heron", "-o", tmp_path / "baselines" / "heron.jsonl")[0] == 0
    (tmp_path / "judged-now").symlink_to(now)
    done = shell("\n".join(job["script"]))
    assert done.returncode == 0, done.stderr
    assert ElementTree.parse(tmp_path / job["artifacts"]["reports"]["junit"]).getroot().tag == "testsuites"


def test_the_shell_of_the_action_runs_as_written(runs, shell, tmp_path):
    action = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
    step = next(s for s in action["runs"]["steps"] if s.get("id") == "gate")
    inputs = {name: field.get("default", "") for name, field in action["inputs"].items()}
    for current, code in (("again", 0), ("worse", 1)):
        given = inputs | {
            "baseline": runs["old"],
            "current": runs[current],
            "margin": "0.02",
            "output": f"out {current}",
        }
        env = {
            name: given[value.removeprefix("${{ inputs.").removesuffix(" }}")] for name, value in step["env"].items()
        }
        done = shell(step["run"], **env, GITHUB_OUTPUT=str(tmp_path / f"output-{current}"))
        assert done.returncode == code, done.stderr
        assert (tmp_path / f"out {current}" / "junit.xml").is_file()
    outputs = (tmp_path / "output-worse").read_text("utf-8")
    wanted = re.findall(r"steps\.gate\.outputs\.([\w-]+)", json.dumps(action["outputs"]))
    assert wanted and all(f"{name}=" in outputs for name in wanted)
