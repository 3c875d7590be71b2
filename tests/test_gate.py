"""The gate: stored runs to a decision, its exit codes, and what people and machines read of it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import gate_rows
import numpy as np
import pytest
from commands import code_of

from harness_plugin.gate.compare import compare
from harness_plugin.gate.simulate import simulate
from harness_plugin.gate.stored_run import PAIRS, Item, Run
from harness_plugin.pairs import Pair
from harness_plugin.stats.paired import drop_test
from harness_plugin.stats.student import t_tail

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return gate_rows.score_files(tmp_path_factory.mktemp("gate"))


# -- decisions ---------------------------------------------------------------------------------------------------------


def test_an_unchanged_judge_passes_a_worse_one_fails_and_few_pairs_tell_nothing(gate, runs, tmp_path):
    assert gate(runs["old"], runs["again"], "--margin", "0.02")[0] == 0
    code, said, _ = gate(runs["old"], runs["worse"], "--margin", "0.02")
    assert code == 1 and "regression" in said and "brier_2way" in said
    few = [gate_rows.scores(tmp_path, f"few{n}.jsonl", 12, seed=n) for n in (0, 1)]
    assert [gate(*few, "--margin", "0.005", "--on-inconclusive", how)[0] for how in ("pass", "warn", "fail")] == [
        0,
        0,
        4,
    ]
    assert gate(runs["old"], runs["old"])[0] == 0


def test_the_smallest_drop_that_is_reported_is_said_and_shrinks_with_the_pairs(gate, runs, tmp_path):
    small = [gate_rows.scores(tmp_path, f"s{n}.jsonl", 150, seed=n) for n in (0, 1)]
    drops = []
    for files, verdict in ((small, "inconclusive"), ([runs["old"], runs["again"]], "pass")):
        said = json.loads(gate(*files, "--margin", "0.02", "--json")[1])
        drops.append(said["metrics"][0]["smallest_drop"])
        assert said["schema"] == 1 and said["verdict"] == verdict
        assert any("needs about" in note for note in said["notes"]) == (verdict == "inconclusive")
    assert 0 < drops[1] < drops[0]


def results_of(folder, name, values, outputs=None):
    """The folder of an lm-eval run with these values of acc. `outputs`: what the model answered; None: the value."""
    place = folder / name
    place.mkdir()
    rows = [
        {
            "doc_id": k,
            "doc": {"n": k},
            "doc_hash": f"{k:016x}" * 4,
            "prompt_hash": f"{k:016x}" * 4,
            "target_hash": "0" * 64,
            "filter": "none",
            "metrics": ["acc"],
            "resps": [[str(value if outputs is None else outputs[k])]],
            "acc": value,
        }
        for k, value in enumerate(values)
    ]
    (place / "samples_t_2026-01-01T00-00-00.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    summary = {
        "results": {"t": {}},
        "configs": {"t": {}},
        "higher_is_better": {"t": {"acc": True}},
        "n-samples": {"t": {"effective": len(values)}},
        "n-shot": {"t": 0},
        "versions": {"t": 1},
    }
    (place / "results_2026-01-01T00-00-00.json").write_text(json.dumps(summary))
    return place


@pytest.mark.parametrize(
    ("n", "state"), [(1, "inconclusive"), (5, "inconclusive"), (140, "inconclusive"), (160, "pass")]
)
def test_equal_values_pass_only_where_so_many_of_them_rule_out_a_drop_of_the_margin(gate, tmp_path, n, state):
    values = [k % 2 for k in range(n)]
    old = results_of(tmp_path, "old", values)
    new = results_of(tmp_path, "new", values, [f"answer {k}" for k in range(n)])
    said = json.loads(gate(old, new, "--json")[1])
    assert said["verdict"] == state and said["metrics"][0]["difference"] == 0
    assert ("needs about 150 prompts" in " ".join(said["notes"])) == (1 < n < 150)
    assert gate(old, old)[:2] == (0, gate(old, old)[1]) and "all outputs are the same" in gate(old, old)[1]


def test_a_handful_that_collapses_is_never_exit_code_0(gate, tmp_path):
    for n in (1, 2, 4):
        old, new = results_of(tmp_path, f"old{n}", [1] * n), results_of(tmp_path, f"new{n}", [0] * n)
        for how in ("pass", "warn", "fail"):
            code, said, _ = gate(old, new, "--on-inconclusive", how)
            assert code == 4 and "every prompt got worse" in said
    assert gate(results_of(tmp_path, "old5", [1] * 5), results_of(tmp_path, "new5", [0] * 5))[0] == 1
    for name, values in (("some", [0, 0, 1]), ("by_less_than_the_margin", [0.99, 0.99, 0.99])):
        others = gate(results_of(tmp_path, f"old_{name}", [1, 1, 1]), results_of(tmp_path, f"new_{name}", values))
        assert others[0] == 0 and "inconclusive" in others[1]


def test_a_category_of_one_prompt_has_no_line_of_its_own(gate, tmp_path):
    names = ["lone", "lone", *("b", "c") * 19]  # two pairs have one prompt
    rows = [row | {"category": name} for row, name in zip(gate_rows.score_rows(40), names, strict=True)]
    file = gate_rows.write(tmp_path / "scores.jsonl", rows)
    metrics = json.loads(gate(file, file, "--json")[1])["metrics"]
    assert [m["name"] for m in metrics if m["role"] == "category"] == ["b", "c"]


def test_probabilities_of_0_and_1_do_not_show_that_a_judge_is_the_same():
    def run(**values):
        return Run(PAIRS, "run", {"acc": True}, {}, {}, {"p": Item("p", "prompt", values)})

    def changed(**values):
        return compare(run(**values), run(**values)).changed

    assert changed(p_right=1.0, brier=0.0) == 1, "many logits give them"
    assert changed(p_right=0.9, brier=0.0) == 0 and changed(acc=1.0) == 0


def test_a_judge_that_says_the_same_up_to_rounding_is_unchanged_and_one_that_does_not_is_not(gate, tmp_path):
    def scored(shift):
        rows = [gate_rows.score_row(k, 0.3 + k / 50 + shift * (-1) ** k, "model_b") for k in range(20)]
        return gate_rows.write(tmp_path / f"{shift}.jsonl", rows)

    old = scored(0.0)
    code, said, _ = gate(old, scored(1e-6), "--on-inconclusive", "fail")
    assert code == 0 and "all outputs are the same" in said and "10 prompts alone would not rule out" in said
    code, said, _ = gate(old, scored(1e-3), "--on-inconclusive", "fail")
    assert code == 4 and "20 of 20 outputs changed" in said


def test_prompts_and_items_are_both_said_and_either_may_decide(gate, tmp_path):
    """One prompt of 60 pairs loses much, 40 prompts of one pair gain a little."""

    def scored(name, big, small):
        rows = [gate_rows.score_row(k, big if k < 60 else small, "model_b") for k in range(100)]
        keys = ["big" if k < 60 else f"k{k}" for k in range(100)]
        return gate_rows.write(tmp_path / name, [r | {"prompt_key": k} for r, k in zip(rows, keys, strict=True)])

    old, new = scored("old.jsonl", 0.6, 0.6), scored("new.jsonl", 0.4, 0.62)
    metric = ("--metric", "p_right", "--json")
    by = {how: json.loads(gate(old, new, *metric, "--weigh", how)[1]) for how in ("prompts", "items")}
    for how, sign in (("prompts", 1), ("items", -1)):
        first = by[how]["metrics"][0]
        assert first["difference"] * sign > 0 and first["difference"] == first[f"difference_by_{how}"]
        assert f"over {how}, which decides" in " ".join(by[how]["notes"])
    assert by["items"]["metrics"][0]["difference_by_items"] == pytest.approx(-0.6 * 0.2 + 0.4 * 0.02)
    assert by["prompts"]["verdict"] != "pass"


def test_a_prompt_with_many_items_makes_the_test_over_items_less_sure():
    """Half of the items are of one prompt: that is worth 4 prompts of one size, and not 31."""
    clusters = np.array([0] * 30 + list(range(1, 31)))
    fell = np.random.default_rng(5).uniform(-0.4, 0.2, 60)
    found = drop_test(0.5 + fell, np.full(60, 0.5), clusters, 0.05, by_items=True)
    degrees = 60**2 / (30**2 + 30) - 1
    assert found.degrees == pytest.approx(degrees)
    assert found.p == pytest.approx(t_tail(-found.difference / found.stderr, degrees))
    assert drop_test(0.5 + fell, np.full(60, 0.5), clusters, 0.05).degrees == 30, "prompts count the same by default"


def test_what_is_rounded_to_zero_has_no_minus(gate, tmp_path):
    """The rounding of another machine on one of 40 documents."""
    old, new = results_of(tmp_path, "old", [0.6] * 40), results_of(tmp_path, "new", [0.6] * 39 + [0.599998])
    for option in ((), ("--json",)):
        code, said, _ = gate(old, new, *option)
        assert code == 0 and not re.search(r"-0\.?0*(?![\d.])", said), said


def test_a_small_p_beside_an_interval_that_holds_0_is_explained(gate, tmp_path):
    old, new = results_of(tmp_path, "old", [0.6] * 8), results_of(tmp_path, "new", [0.4] * 7 + [0.5])
    code, said, _ = gate(old, new)
    assert code == 1 and "p decides whether there is a drop" in said


def test_runs_that_differ_in_what_is_not_under_test_are_not_compared(gate, runs, tmp_path):
    rows = gate_rows.score_rows(600)
    flipped = [row | {"winner": "tie"} if n == 5 else row for n, row in enumerate(rows)]
    one_order = [row | {"z_ba": None, "position_bias": None} for row in rows]
    cases = {
        "labels": (gate_rows.write(tmp_path / "labels.jsonl", flipped), "label"),
        "orders": (gate_rows.write(tmp_path / "orders.jsonl", one_order), "orders"),
        "missing": (gate_rows.write(tmp_path / "missing.jsonl", rows[:500]), "100"),
    }
    for name, (file, word) in cases.items():
        code, said, _ = gate(runs["old"], file)
        assert code == 3 and "not comparable" in said and word in said, name
        assert ("or allow it with --max-missing" in said) == (name == "missing")
    assert gate(runs["old"], cases["missing"][0], "--max-missing", "0.2")[0] == 0
    assert gate(runs["old"], runs["old"], "--max-missing", "0")[0] == 0
    others = gate_rows.write(tmp_path / "others.jsonl", [row | {"key": f"f{row['key'][1:]}"} for row in rows])
    code, said, _ = gate(runs["old"], others, "--max-missing", "1")
    assert code == 3 and "no item is in both; name two runs on the same prompts" in said


def test_another_judge_is_what_a_score_file_tests_and_is_compared(gate, runs):
    code, said, _ = gate(runs["old"], runs["other"])
    assert code == 0 and "bbbb" in said


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--margin", "-1"], "give 0, or 1e-06 or more"),
        (["--alpha", "0.7"], "alpha"),
        (["--metric", "nonsense"], "nonsense"),
    ],
)
def test_arguments_that_mean_nothing_are_usage_errors(gate, runs, arguments, word):
    code, _, said = gate(runs["old"], runs["again"], *arguments)
    assert code == 2 and word in said


@pytest.mark.parametrize("option", ["--model", "--task", "--baseline-model"])
def test_options_for_another_kind_of_runs_are_refused(gate, runs, tmp_path, option):
    assert gate("bless", runs["old"], "-o", tmp_path / "blessed.jsonl")[0] == 0
    for arguments in (
        ["check", runs["old"], runs["again"]],
        ["check", tmp_path / "blessed.jsonl", runs["again"]],
        ["power", runs["old"], runs["again"]],
        ["power"],
    ):
        code, _, said = gate(*arguments, option, "heron")
        assert code == 2 and option in said, arguments
    if option != "--baseline-model":
        code, _, said = gate("bless", runs["again"], "-o", tmp_path / "new.jsonl", option, "heron")
        assert code == 2 and f"{option} heron has no effect on {runs['again']}" in said


def test_a_file_of_pairs_that_is_not_there_is_said_before_a_text_is_needed(gate, runs):
    code, said, _ = gate(runs["old"], runs["again"], "--pairs", "nowhere.jsonl")
    assert code == 3 and "nowhere.jsonl cannot be read" in said


def test_texts_come_from_a_file_of_pairs_that_a_uri_names(gate, tmp_path):
    pytest.importorskip("pyarrow")
    pairs = [Pair(f"Question {n}?", f"yes {n}", f"no {n}", id=f"p{n}") for n in range(12)]
    (tmp_path / "pairs.jsonl").write_text(
        "".join(
            json.dumps({"prompt": p.prompt, "response_a": p.response_a, "response_b": p.response_b}) + "\n"
            for p in pairs
        ),
        "utf-8",
    )
    files = []
    for name, p_b in (("old", 0.7), ("new", 0.6)):
        rows = [gate_rows.score_row(n, p_b, "model_b") | {"key": pair.key} for n, pair in enumerate(pairs)]
        files.append(gate_rows.write(tmp_path / f"{name}.jsonl", rows))
    _, said, _ = gate(*files, "--pairs", f"file://{tmp_path}/pairs.jsonl", "--json")
    assert json.loads(said)["worst"][0]["texts"]["prompt"].startswith("Question ")


# -- where teams look --------------------------------------------------------------------------------------------------


def test_junit_says_nothing_of_numbers_that_are_not_known(gate, tmp_path):
    """Of one document there is no p, and no drop that would be reported."""
    old, new = results_of(tmp_path, "old", [0.6]), results_of(tmp_path, "new", [0.7])
    assert gate(old, new, "-o", str(tmp_path / "out"))[0] == 0
    said = (tmp_path / "out" / "junit.xml").read_text(encoding="utf-8")
    assert "inconclusive: baseline 0.6, current 0.7" in said and "nan" not in said and "inf" not in said


def test_the_folder_holds_json_a_comment_and_junit_in_which_a_regression_is_a_failure(gate, runs, tmp_path):
    kinds = {"again": (0, None), "worse": (1, "failure"), "nowhere": (3, "error")}
    for name, (expected, kind) in kinds.items():
        code, _, _ = gate(runs["old"], runs.get(name, "nowhere.jsonl"), "--margin", "0.02", "-o", tmp_path / name)
        assert code == expected
        assert {f.name for f in (tmp_path / name).iterdir()} == {"gate.json", "comment.md", "junit.xml"}
        said = json.loads((tmp_path / name / "gate.json").read_text("utf-8"))
        assert said["schema"] == 1 and said["exit_code"] == expected
        suite = ElementTree.parse(tmp_path / name / "junit.xml").getroot()
        found = {tag for tag in ("failure", "error") if suite.find(f".//testcase/{tag}") is not None}
        assert found == ({kind} if kind else set())
    worst = json.loads((tmp_path / "worse" / "gate.json").read_text("utf-8"))["worst"]
    assert len(worst) == 20


def test_github_gets_a_summary_outputs_and_few_annotations_and_hostile_names_stay_data(
    gate, runs, tmp_path, monkeypatch, capsys
):
    gate("bless", runs["old"], "-o", tmp_path / "b.jsonl")
    rows = [r | {"category": "::error::x\n@team<script>"} for r in gate_rows.score_rows(600, worse=0.15)]
    hostile = gate_rows.write(tmp_path / "hostile.jsonl", rows)
    for name in ("SUMMARY", "OUTPUT"):
        monkeypatch.setenv("GITHUB_STEP_SUMMARY" if name == "SUMMARY" else "GITHUB_OUTPUT", str(tmp_path / name))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    capsys.readouterr()
    assert code_of(["gate", runs["old"], hostile, "-o", str(tmp_path / "out")]) == 1
    commands = [line for line in capsys.readouterr().err.splitlines() if line.startswith("::")]
    assert 1 <= len(commands) <= 4 and commands[0].startswith("::error title=")
    outputs = dict(line.split("=", 1) for line in (tmp_path / "OUTPUT").read_text("utf-8").splitlines())
    assert outputs["verdict"] == "regression" and float(outputs["difference"]) > 0, "a Brier score: higher is worse"
    summary = (tmp_path / "SUMMARY").read_text("utf-8")
    assert "regression" in summary and "<script>" not in summary and "@team" not in summary


# -- cost and honesty --------------------------------------------------------------------------------------------------


def cpu_seconds(code, *arguments):
    """(the finished process of Python code, the CPU seconds that it took): waiting for a core is not counted."""
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


@pytest.mark.slow
def test_ten_thousand_items_are_compared_fast_and_without_torch(tmp_path):
    """In CPU seconds beside those of a program that only reads the two files, which depend on the machine too."""
    files = [gate_rows.scores(tmp_path, f"many{n}.jsonl", 10_000, seed=n) for n in (0, 1)]
    code = "import sys; from harness_plugin.cli import main\n"
    code += "try:\n main()\nfinally:\n print(*sys.modules, file=sys.stderr)"
    reading = "import json, sys, numpy\nfor file in sys.argv[1:]: list(map(json.loads, open(file)))"
    seconds = []
    for _ in range(3):
        done, gate = cpu_seconds(code, "gate", *files)
        seconds.append((gate, cpu_seconds(reading, *files)[1]))
    loaded = set(done.stderr.split())
    assert "numpy" in loaded and not loaded & {"torch", "transformers", "scipy", "pandas", "lm_eval"}
    gate, read = map(min, zip(*seconds, strict=True))
    assert gate < 18 * read, "it was nine times as much"


@pytest.mark.slow
def test_no_more_unchanged_builds_fail_than_alpha_allows_and_a_drop_of_two_points_is_seen():
    rows = {(r.n, r.drop): r for r in simulate(4000, 0.05, 0.02, 0.65, 0)}
    assert all(r.failed["gate"] <= 0.06 + 0.007 for (n, drop), r in rows.items() if drop == 0)
    assert rows[805, 0.02].failed["gate"] >= 0.85
    naive = next(name for name in rows[805, 0.0].failed if "<" in name)
    assert rows[805, 0.0].failed[naive] > 0.4, "a gate of 'the score dropped' fails half of all unchanged builds"


def test_power_says_how_many_prompts_a_margin_needs(gate, runs):
    code, said, _ = gate("power", "--sd", "0.2", "--margin", "0.02")
    detect, clear = map(int, re.search(r"--sd\s+0\.200\s+(\d+)\s+(\d+)", said).groups())
    assert code == 0 and 600 < detect < 640, "(1.645 + 0.842)^2 0.2^2 / 0.02^2 = 619"
    assert detect < clear < 1.25 * detect, "to rule out a drop, one unseen prompt is taken to have lost everything"
    assert gate("power", runs["old"], runs["again"])[0] == 0 and gate("power", runs["old"])[0] == 2
