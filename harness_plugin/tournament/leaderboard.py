"""Verdicts -> who is better, by how much, and how sure that is. Numbers come from `stats`; no model, no file.

A verdict is a row of `verdicts.jsonl`: `model_a`, `model_b`, `prompt_key`, `p_a`, `p_b`, `p_tie`, `position_bias`,
`score`, `length_a`, `length_b`, `truncated`, and `category` where one is known.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from harness_plugin.errors import DataError
from harness_plugin.stats import (
    Estimate,
    LengthControlled,
    Pairwise,
    Ratings,
    WinRate,
    bradley_terry_ratings,
    clustered_mean,
    clustered_share,
    column_tests,
    davidson_ratings,
    jackknife,
    length_controlled_ratings,
    length_controlled_win_rates,
    rank_codes,
    round_robin_win_rates,
    spearman,
    win_rates,
    win_table,
)
from harness_plugin.tournament.match import Battles

SCHEMA = 1
SHARE, POINTS = 4, 1  # digits behind the point of a share and of a rating
# What each concern of `stats.ratings` means to a reader; the models follow.
CONCERNS = {
    "few_clusters": "fewer than 30 prompts, so intervals are rough",
    "uncompared": "no battle",
    "disconnected": "no chain of battles leads to the others, so no rating",
    "unbeaten": "won every battle, so the rating has no upper end",
    "winless": "lost every battle, so the rating has no lower end",
    "separated": "in a group that only wins or only loses against the rest",
    "no_ties": "the judge gives no ties a chance",
    "unbounded": "the ratings have no maximum of likelihood",
}


@dataclass(frozen=True)
class Columns:
    """Verdicts as arrays, one entry per battle; models are indices into `models` (sorted names)."""

    models: list[str]
    i: np.ndarray
    j: np.ndarray
    p: np.ndarray  # P(j preferred), a tie half
    tie: np.ndarray
    clusters: np.ndarray
    lengths: tuple[np.ndarray, np.ndarray]
    bias: np.ndarray
    score: np.ndarray
    categories: np.ndarray

    def subset(self, mask) -> "Columns":
        arrays = (self.i, self.j, self.p, self.tie, self.clusters)
        lengths = tuple(x[mask] for x in self.lengths)
        return Columns(
            self.models, *(x[mask] for x in arrays), lengths, self.bias[mask], self.score[mask], self.categories[mask]
        )


def columns(verdicts: list[dict], models: Iterable[str] = ()) -> Columns:
    """`models`: names of those that may have no verdict. Raises DataError without a verdict."""
    if not verdicts:
        raise DataError("no verdicts", "there is nothing to rank", "judge some battles first")
    names = sorted({v[side] for v in verdicts for side in ("model_a", "model_b")} | set(models))
    index = {name: k for k, name in enumerate(names)}

    def column(read, kind=float):
        return np.array([read(v) for v in verdicts], dtype=kind)

    return Columns(
        names,
        column(lambda v: index[v["model_a"]], int),
        column(lambda v: index[v["model_b"]], int),
        np.clip(column(lambda v: v["p_b"] + v["p_tie"] / 2), 0.0, 1.0),
        column(lambda v: v["p_tie"]),
        column(lambda v: v["prompt_key"], str),
        (column(lambda v: v["length_a"]), column(lambda v: v["length_b"])),
        column(lambda v: math.nan if v.get("position_bias") is None else v["position_bias"]),
        column(lambda v: v["score"]),
        column(lambda v: v.get("category") or "", object),
    )


def leaderboard(
    verdicts: list[dict], baseline: str | None = None, models: Iterable[str] = (), counts: Mapping | None = None
) -> dict:
    """The content of leaderboard.json. `models`: all that took part; `counts`: more columns, name -> model -> number.

    Models stand best first: by win rate against the baseline, or by rating without one. All intervals are 95% and
    clustered by prompt. What cannot be known is None. Raises DataError without a verdict.
    """
    c = columns(verdicts, models)
    base = None if baseline is None else c.models.index(baseline)
    ratings = bradley_terry_ratings(c.i, c.j, c.p, clusters=c.clusters, models=len(c.models), anchor=base)
    rates = _rates(c, base)
    tests = ratings.tests() if base is None else column_tests(win_table(c.i, c.j, c.p, c.clusters, base, len(c.models)))
    controlled = _at_equal_length(c, base)
    order = _order(rates, ratings, base)
    lengths = [_mean_length(c, m) for m in range(len(c.models))]
    rows = _rows(c, order, rates, ratings, tests, controlled, _with_ties(c, base), lengths)
    digits = POINTS if base is None else SHARE
    return {
        "schema": SCHEMA,
        "baseline": baseline,
        "models": [row | {k: of.get(row["model"], 0) for k, of in (counts or {}).items()} for row in rows],
        "battles": len(verdicts),
        "prompts": len(set(c.clusters.tolist())),
        "truncated": sum(bool(v.get("truncated")) for v in verdicts),
        "tests": _tests(c, order, tests, digits),
        "smallest_difference": _round(tests.smallest_difference(), digits),
        "differences_of": "rating" if base is None else "win_rate",
        "length_slope": numbers("value", controlled.slope),
        **_length(c),
        "length_rating_correlation": _along_length(lengths, ratings.rating),
        "head_to_head": _head_to_head(c, order),
        "position": _position(c),
        "categories": _by_category(c, base),
        "concerns": [
            {"kind": k.kind, "models": [c.models[m] for m in k.models], "meaning": CONCERNS[k.kind]}
            for k in ratings.concerns
        ],
    }


def summary(
    board: dict, battles: Battles, judge: dict, red_team: dict | None = None, agreement: dict | None = None
) -> dict:
    """The `leaderboard` of these battles, and what else leaderboard.json says. `judge`: the judge's identity and its
    `hash`; `red_team` and `agreement`: what `red_team_report` and `agreement` gave."""
    return board | {
        "judge": judge,
        "identical": len(battles.identical),
        "missing_prompts": battles.missing,
        "red_team": red_team,
        "agreement": agreement,
    }


def _rates(c: Columns, base: int | None) -> list[WinRate]:
    if base is None:
        return round_robin_win_rates(c.i, c.j, c.p, c.clusters, len(c.models))
    return win_rates(c.i, c.j, c.p, base, c.clusters, len(c.models))


def _with_ties(c: Columns, base: int | None) -> Ratings | None:
    if not c.tie.any():
        return None
    p = np.clip(c.p - c.tie / 2, 0.0, 1.0)
    return davidson_ratings(c.i, c.j, p, c.tie, clusters=c.clusters, models=len(c.models), anchor=base)


def _at_equal_length(c: Columns, base: int | None) -> LengthControlled | Ratings:
    """Win rates against the baseline, or ratings without one, had all answers been equally long."""
    if base is None:
        return length_controlled_ratings(c.i, c.j, c.p, *c.lengths, clusters=c.clusters, models=len(c.models))
    return length_controlled_win_rates(c.i, c.j, c.p, *c.lengths, base, c.clusters, len(c.models))


def _order(rates: list[WinRate], ratings: Ratings, base: int | None) -> list[int]:
    values = ratings.rating if base is None else np.array([r.soft.value for r in rates])
    return sorted(range(len(rates)), key=lambda m: (-values[m] if math.isfinite(values[m]) else math.inf, m))


def _rows(c: Columns, order, rates, ratings, tests, controlled, with_ties, lengths) -> list[dict]:
    """One row per model, all with the same keys."""
    ranges = tests.rank_ranges()
    rows = []
    for rank, m in enumerate(order, start=1):
        row = {"model": c.models[m], "rank": rank, "rank_low": int(ranges[m, 0]), "rank_high": int(ranges[m, 1])}
        row |= numbers("win_rate", rates[m].soft) | numbers("win_rate_hard", rates[m].hard)
        row |= {"wins": rates[m].wins, "ties": rates[m].ties, "losses": rates[m].losses}
        if isinstance(controlled, LengthControlled):
            row |= numbers("win_rate_length_controlled", controlled.win_rates[m])
        row |= numbers("rating", ratings.estimate(m), POINTS)
        if isinstance(controlled, Ratings):
            row |= numbers("rating_length_controlled", controlled.estimate(m), POINTS)
        if with_ties is not None:
            row |= numbers("rating_davidson", with_ties.estimate(m), POINTS)
        row |= {"battles": int(ratings.n[m]), "prompts": int(ratings.n_clusters[m]), "mean_length": lengths[m]}
        rows.append(row)
    return rows


def _along_length(lengths: list[float | None], ratings: np.ndarray) -> float | None:
    """Spearman of the models' ratings with their mean lengths, over the models that have both."""
    known = [(n, r) for n, r in zip(lengths, ratings.tolist(), strict=True) if n is not None and math.isfinite(r)]
    return _round(spearman(*(np.array(known).reshape(-1, 2).T)))


def _head_to_head(c: Columns, order: list[int]) -> list[dict]:
    """Each pair of models that met, the better ranked first: its win rate against the other."""
    played = set(c.i.tolist()) | set(c.j.tolist())
    against = {b: win_rates(c.i, c.j, c.p, b, c.clusters, len(c.models)) for b in order if b in played}
    return [
        {
            "model": c.models[a],
            "other": c.models[b],
            **numbers("win_rate", against[b][a].soft),
            "n": against[b][a].soft.n,
        }
        for k, a in enumerate(order)
        for b in order[k + 1 :]
        if b in played and against[b][a].soft.n
    ]


def numbers(name: str, e: Estimate, digits: int = SHARE) -> dict:
    return {name: _round(e.value, digits), f"{name}_low": _round(e.low, digits), f"{name}_high": _round(e.high, digits)}


def _round(value: float, digits: int = SHARE) -> float | None:
    return round(float(value), digits) + 0.0 if math.isfinite(value) else None  # + 0.0: never -0.0


def _mean_length(c: Columns, m: int) -> float | None:
    """Characters of the model's answers, each prompt once."""
    own = {
        key: n
        for mine, lengths in ((c.i == m, c.lengths[0]), (c.j == m, c.lengths[1]))
        for key, n in zip(c.clusters[mine].tolist(), lengths[mine].tolist(), strict=True)
    }
    return _round(float(np.mean(list(own.values()))), 1) if own else None


def _tests(c: Columns, order: list[int], tests: Pairwise, digits: int) -> list[dict]:
    """Each pair of models once, the better ranked first."""
    return [
        {
            "model": c.models[a],
            "other": c.models[b],
            "difference": _round(tests.difference[a, b], digits),
            "low": _round(tests.low[a, b], digits),
            "high": _round(tests.high[a, b], digits),
            "p": _p_value(tests.p[a, b]),
            "p_holm": _p_value(tests.p_holm[a, b]),
        }
        for k, a in enumerate(order)
        for b in order[k + 1 :]
    ]


def _p_value(p: float) -> float | None:
    return float(f"{p:.3g}") if math.isfinite(p) else None


def _position(c: Columns) -> dict:
    """How much the order of showing mattered: mean bias in logits, and the share of battles where both orders name the
    same side."""
    known = np.isfinite(c.bias)
    bias, prompts = c.bias[known], c.clusters[known]
    agree = (1 + np.sign(np.abs(c.score[known]) - np.abs(bias))) / 2
    found = numbers("bias", clustered_mean(bias, prompts))
    return found | numbers("order_agreement", clustered_share(agree, prompts)) | {"n": len(bias)}


def _length(c: Columns) -> dict:
    """How the judge's score goes with the difference in length: the rank correlation, and how often the longer answer
    is the preferred one (of those that differ in length)."""
    longer = c.lengths[1] - c.lengths[0]
    by_score, by_length, differ = rank_codes(c.score), rank_codes(longer), longer != 0
    correlation = jackknife(
        lambda keep: spearman(by_score[keep], by_length[keep]), len(longer), c.clusters, bounds=(-1.0, 1.0)
    )
    preferred = (1 + np.sign(c.score * longer)) / 2
    return numbers("length_correlation", correlation) | numbers(
        "longer_preferred", clustered_share(preferred[differ], c.clusters[differ])
    )


def _by_category(c: Columns, base: int | None) -> dict[str, dict]:
    """Win rates within each category that has two or more prompts."""
    found = {}
    for name in sorted(set(c.categories.tolist()) - {""}):
        part = c.subset(c.categories == name)
        if len(set(part.clusters.tolist())) < 2:
            continue
        rates = _rates(part, base)
        found[name] = {
            model: {**numbers("win_rate", r.soft), "n": r.soft.n}
            for model, r in zip(c.models, rates, strict=True)
            if r.soft.n
        }
    return found
