"""The fixture `arena_rm` in somebody else's pytest: judging, and failing where stored results got worse."""

import subprocess
import sys

import gate_rows
import pytest

pytest_plugins = "pytester"

CONFTEST = """
import pytest

@pytest.fixture(scope="session")
def arena_rm_settings():
    return {settings!r}
"""
TESTS = """
import pytest

def test_the_judge_prefers_something(arena_rm):
    said = arena_rm.judge("Ask?", "one answer", "another answer")
    turned = arena_rm.judge("Ask?", "another answer", "one answer")
    assert abs(said.p_a + said.p_b + said.p_tie - 1) < 1e-6 and said.preferred in ("a", "b")
    assert said.score == pytest.approx(-turned.score, abs=1e-5)

def test_nothing_got_worse(arena_rm):
    assert arena_rm.assert_no_regression("again.jsonl", "old.jsonl", margin=0.02).exit_code == 0

def test_worse(arena_rm):
    arena_rm.assert_no_regression("worse.jsonl", "old.jsonl", margin=0.02)

def test_nowhere(arena_rm):
    arena_rm.assert_no_regression("nowhere.jsonl", "old.jsonl")
"""


def test_the_fixture_judges_and_fails_what_got_worse(pytester, tiny_base, tiny_adapter):
    settings = {
        "pretrained": str(tiny_base("gemma")),
        "peft": str(tiny_adapter("gemma", manifest=True)),
        "dtype": "float32",
        "device": "cpu",
    }
    pytester.makeconftest(CONFTEST.format(settings=settings))
    pytester.makepyfile(TESTS)
    for name, options in (("old", {}), ("again", {"seed": 1}), ("worse", {"worse": 0.15})):
        gate_rows.scores(pytester.path, f"{name}.jsonl", 300, **options)
    plugin = () if installed() else ("-p", "harness_plugin.pytest_plugin")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", *plugin)
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(["*regression*", "*not comparable*"])


def installed() -> bool:
    from importlib.metadata import entry_points

    return any(e.value == "harness_plugin.pytest_plugin" for e in entry_points(group="pytest11"))


@pytest.mark.parametrize("heavy", ["numpy", "torch", "harness_plugin.gate", "harness_plugin.model"])
def test_nothing_is_loaded_until_the_fixture_is_used(heavy):
    code = f"import sys, harness_plugin.pytest_plugin; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
