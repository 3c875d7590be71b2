"""Judging that stops when the comparisons are clear: which prompts come first, when it is enough, and what a
leaderboard says then.

Prompts come in the order of their keys, which are hashes of their texts: a shuffle that every run repeats, and that
`--prompts` draws from. So a stopped run is a run on the first prompts, and one on all of them continues it.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from harness_plugin.files.rounding import rounded
from harness_plugin.scoring.judgement import Judgement
from harness_plugin.scoring.judgement_arrays import judgement_arrays
from harness_plugin.stats import win_table
from harness_plugin.stats.multiple import ALPHA
from harness_plugin.stats.sequential import Compared, Look, compare_at, interval_at, looks_at
from harness_plugin.tournament.battles import Answers, Battles, some_battles
from harness_plugin.tournament.board_numbers import POINTS, SHARE, comparison_row

UNLIMITED = re.compile("rating.*|bias|value")  # numbers of a leaderboard that are no shares and no correlations


@dataclass(frozen=True)
class Part:
    """The battles of the first prompts, and the look after they are judged. `prompts`: how many have a battle."""

    battles: Battles
    look: Look
    prompts: int


@dataclass(frozen=True)
class Stopped:
    """Where judging ended. `whole`: all that could have been judged; `looks`: how many were planned, None for looks at
    any time; `number`: of the look it ended with, from 1; `clear`: whether all comparisons were clear then."""

    part: Part
    whole: Part
    looks: int | None
    number: int
    clear: bool

    @property
    def saved(self) -> int:
        """Battles that were not judged."""
        return len(self.whole.battles.pairs) - len(self.part.battles.pairs)

    def counts(self) -> dict:
        """What was judged and what was saved, JSON-able."""
        return {
            "looks": self.looks,
            "look": self.number,
            "clear": self.clear,
            "prompts": self.part.prompts,
            "prompts_planned": self.whole.prompts,
            "battles_judged": len(self.part.battles.pairs),
            "battles_saved": self.saved,
        }


def parts_of(
    answers: Answers, whole: Battles, looks: int | None, baseline: str | None = None, prompts: int | None = None
) -> list[Part]:
    """Growing parts of `whole`, which is `battles` of the other arguments, one for each look; the last is all of it."""
    total = len(whole.met)
    *early, (_, last) = looks_at(total, looks)
    parts = [Part(some_battles(answers, baseline, n), look, n) for n, look in early]
    return [*parts, Part(whole, last, total)]


def all_clear(part: Part, verdicts: Sequence[Judgement], baseline: str | None) -> bool:
    """Whether every comparison is clear: against a baseline each win rate differs from one half, else the win rates of
    any two models differ. Holm's method over the comparisons; all looks together err with 5%."""
    return all(c.p_holm <= ALPHA for c in _compared(part, verdicts, baseline)[1])


def board_at(board: dict, stopped: Stopped, verdicts: Sequence[Judgement]) -> dict:
    """The leaderboard with the intervals, tests and ranges of ranks of a run that looked before the end.

    The usual ones would be too narrow, because judging stops where the numbers happen to be extreme. Win rates, their
    differences (under `tests`) and `comparisons` have the bounds of the look itself; all other intervals are widened by
    `Look.widening`. Adds `stopping`.
    """
    look, models = stopped.part.look, [row["model"] for row in board["models"]]
    names, compared = _compared(stopped.part, verdicts, board["baseline"])
    table, columns = _table(verdicts, board["baseline"], models)
    at = {name: k for k, name in enumerate(columns)}
    pairs = [(at[a], at[b]) for a, b in combinations(models, 2)]
    tests = [_row(c, columns) for c in compare_at(look, table, pairs, ALPHA)]
    factor = look.widening(ALPHA, stopped.part.prompts)
    widened = _widened({k: v for k, v in board.items() if k != "tests"}, factor)
    rows = [row | _win_rate(row, table[:, at[row["model"]]], look) for row in widened["models"]]
    return widened | {
        "models": [row | _ranks(row["model"], tests) for row in rows],
        "tests": tests,
        "differences_of": "win_rate",
        "smallest_difference": None,
        "stopping": stopped.counts() | {"alpha": ALPHA, "comparisons": [_row(c, names) for c in compared]},
    }


def _compared(part: Part, verdicts: Sequence[Judgement], baseline: str | None) -> tuple[list[str], list[Compared]]:
    """The comparisons that must be clear, of all models that meet somebody, by numbers of the names."""
    table, names = _table(verdicts, baseline, part.battles.who_met)
    if baseline is None:
        return names, compare_at(part.look, table, list(combinations(range(len(names)), 2)), ALPHA)
    base = names.index(baseline)
    return names, compare_at(part.look, table, [(m, base) for m in range(len(names)) if m != base], ALPHA, -0.5)


def _table(verdicts: Sequence[Judgement], baseline: str | None, models: Iterable) -> tuple[np.ndarray, list[str]]:
    """The mean win probability at each prompt of each model, (prompts, models), and the models' names."""
    c = judgement_arrays(verdicts, models)
    base = None if baseline is None else c.models.index(baseline)
    return win_table(c.i, c.j, c.win_b, c.clusters, base, len(c.models)), c.models


def _row(c: Compared, names: list[str]) -> dict:
    return comparison_row((names[c.first], names[c.second]), (c.difference, c.low, c.high), (c.p, c.p_holm), SHARE)


def _ranks(model: str, tests: list[dict]) -> dict:
    """The range of ranks that the tests leave to a model."""
    sure = [t for t in tests if t["p_holm"] is not None and t["p_holm"] <= ALPHA and model in (t["model"], t["other"])]
    lost = sum((t["difference"] > 0) == (t["other"] == model) for t in sure)
    others = len({name for t in tests for name in (t["model"], t["other"])}) - 1
    return {"rank_low": 1 + lost, "rank_high": 1 + others - (len(sure) - lost)}


def _win_rate(row: dict, values: np.ndarray, look: Look) -> dict:
    """The interval of the win rate, if it has one. Its value need not be the mean over prompts where some answers are
    missing."""
    if row["win_rate_low"] is None:
        return {}
    values = values[np.isfinite(values)]
    moved = row["win_rate"] - float(values.mean())
    low, high = (min(max(end + moved, 0.0), 1.0) for end in interval_at(look, values, 0.0, 1.0, ALPHA))
    return {"win_rate_low": rounded(low, SHARE), "win_rate_high": rounded(high, SHARE)}


def _widened(value, factor: float):
    """Every number with an interval, `x` with `x_low` and `x_high`, at any depth."""
    if isinstance(value, list):
        return [_widened(item, factor) for item in value]
    if not isinstance(value, dict):
        return value
    found = {k: _widened(v, factor) for k, v in value.items()}
    for name in [k for k in value if value.get(f"{k}_low") is not None and value.get(f"{k}_high") is not None]:
        least, most = _limits(name)
        for end, limit, cut in (("low", least, max), ("high", most, min)):
            moved = value[name] + factor * (value[f"{name}_{end}"] - value[name])
            found[f"{name}_{end}"] = rounded(cut(moved, limit), POINTS if name.startswith("rating") else SHARE)
    return found


def _limits(name: str) -> tuple[float, float]:
    if UNLIMITED.fullmatch(name):
        return -math.inf, math.inf
    return (-1.0, 1.0) if "correlation" in name else (0.0, 1.0)
