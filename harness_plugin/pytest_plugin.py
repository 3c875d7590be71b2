"""For pytest: a fixture that judges answers and fails a test when stored results got worse.

pytest loads this file in every run, so it imports nothing else of ours until the fixture is used. The judge is loaded
on the first question and kept for the session; override the fixture `arena_rm_settings` to choose another.
"""

from __future__ import annotations

import warnings
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from harness_plugin.scoring import Judgement


class ArenaRM:
    """What the fixture `arena_rm` gives. `settings`: the judge, as arguments of `harness_plugin.model.ModelSpec`."""

    def __init__(self, settings: dict[str, Any]):
        self.settings = settings

    def judge(self, prompt, a, b) -> Judgement:
        """The judgement of two answers to a prompt, both orders averaged; each is a string, or a list of turns."""
        from harness_plugin.pairs import Pair

        (judgement,) = self._judge.judge([Pair(prompt, a, b)])
        return judgement

    @cached_property
    def _judge(self):
        from harness_plugin.judges import open_judge

        return open_judge(**self.settings)

    def assert_no_regression(self, current, baseline, *, metric=None, **options):
        """Fails the test where `current` is worse than `baseline`: two paths, as for `arena-rm gate`, whose options and
        defaults the arguments have. `metric`: a name or several; `options`: margin, alpha, power, on_inconclusive,
        weigh, model, baseline_model, task, pairs, ignore, max_missing.

        Returns the GateResult of a pass. An inconclusive result warns, fails or does nothing, as `on_inconclusive`
        says. Raises DataError where the runs cannot be compared and UsageError for arguments that mean nothing.
        """
        __tracebackhide__ = True
        from harness_plugin.errors import DataError
        from harness_plugin.gate import Reading, Rules, State, run_gate
        from harness_plugin.gate.rules import WARN
        from harness_plugin.report.gate_text import headline, terminal

        metrics = (metric,) if isinstance(metric, str) else tuple(metric or ())
        deciding = {name: options.pop(name) for name in tuple(options) if name in Rules.__dataclass_fields__}
        rules = Rules(metrics, **deciding)
        result = run_gate(str(baseline), str(current), rules, Reading(**options))
        if result.state == State.NOT_COMPARABLE:
            raise DataError(headline(result))
        if result.exit_code:
            raise AssertionError(terminal(result))
        if result.state == State.INCONCLUSIVE and rules.on_inconclusive == WARN:
            warnings.warn(headline(result), stacklevel=2)
        return result


@pytest.fixture(scope="session")
def arena_rm_settings() -> dict[str, Any]:
    """The judge that `arena_rm.judge` asks: none said, the embedded one. Override it in your conftest.py."""
    return {}


@pytest.fixture(scope="session")
def arena_rm(arena_rm_settings) -> ArenaRM:
    """Judges answers, and fails a test when stored results got worse."""
    return ArenaRM(arena_rm_settings)
