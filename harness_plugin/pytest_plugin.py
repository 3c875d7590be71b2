"""For pytest: a fixture that judges answers and fails a test when stored results got worse.

pytest loads this file in every run, so it imports nothing else of ours until the fixture is used. The judge is loaded
on the first question and kept for the session; override the fixture `arena_rm_settings` to choose another.
"""

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytest


@dataclass(frozen=True)
class Judgement:
    """What the judge says of two answers, both orders averaged. `score`: a logit, positive where B is preferred."""

    p_a: float
    p_b: float
    p_tie: float
    score: float
    position_bias: float

    @property
    def preferred(self) -> str | None:
        """ "a" or "b", the likelier one; None where they are even."""
        return None if self.score == 0 else "b" if self.score > 0 else "a"


class ArenaRM:
    """What the fixture `arena_rm` gives. `settings`: the judge, as arguments of `harness_plugin.model.ModelSpec`."""

    def __init__(self, settings: dict[str, Any]):
        self.settings = settings

    def judge(self, prompt, a, b) -> Judgement:
        """The judgement of two answers to a prompt; each is a string, or a list of turns."""
        from harness_plugin.pairs import Pair
        from harness_plugin.scoring.presentations import score_pairs, score_row

        engine = self._engine
        (scored,) = score_pairs(engine, engine.model.renderer, [Pair(prompt, a, b)])
        row = score_row(scored, engine.model.calibration)
        return Judgement(*(row[name] for name in ("p_a", "p_b", "p_tie", "score", "position_bias")))

    @cached_property
    def _engine(self):
        from harness_plugin.engine import Engine
        from harness_plugin.model import ModelSpec, load_model

        return Engine(load_model(ModelSpec.from_args(dict(self.settings))))

    def assert_no_regression(self, current, baseline, *, metric=None, **options):
        """Fails the test where `current` is worse than `baseline`: two paths, as for `arena-rm gate`, whose options and
        defaults the arguments have. `metric`: a name or several; `options`: margin, alpha, power, on_inconclusive,
        model, baseline_model, task, pairs, ignore, max_missing.

        Returns the GateResult of a pass. Inconclusive warns, fails or is silent, as said. Raises DataError where the
        runs cannot be compared and UsageError for arguments that mean nothing.
        """
        __tracebackhide__ = True
        from harness_plugin.errors import DataError
        from harness_plugin.gate import Reading, Rules, State, run_gate
        from harness_plugin.gate.rules import WARN
        from harness_plugin.report.gate import headline, terminal

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
