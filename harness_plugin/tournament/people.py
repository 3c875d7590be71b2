"""Verdicts and people's labels on some of them -> who is better for people, and what the judge is worth to know it.

Numbers come from `stats.anchored` and `stats.anchored_ratings`. No model, no file.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness_plugin.files.rounding import rounded_or_none
from harness_plugin.scoring.judgement import Judgement
from harness_plugin.scoring.judgement_arrays import JudgementArrays, judgement_arrays
from harness_plugin.stats import TIE, Concern, Pairwise
from harness_plugin.stats.anchored import Anchored, anchored_difference, anchored_mean
from harness_plugin.stats.anchored_plan import LabelPlan, label_plan
from harness_plugin.stats.anchored_ratings import AnchoredRatings, anchored_ratings
from harness_plugin.stats.estimates import UPPER, Estimate, undefined
from harness_plugin.stats.multiple import pairwise
from harness_plugin.stats.student import t_quantile
from harness_plugin.tournament.board_numbers import POINTS, SHARE, numbers, tests_of
from harness_plugin.tournament.labels import Labels

SURE = 6.0  # standard deviations from which on labels cannot have been drawn at random
# What each concern about the labels means to a reader; the models follow.
CONCERNS = {
    "few_clusters": "people judged battles of fewer than 30 prompts, so intervals for people are rough",
    "uncompared": "people judged no battle of it",
    "disconnected": "no chain of battles that people judged connects it with the other models, so it has no rating for "
    "people",
    "unbeaten": "won every battle that people judged, so it has no rating for people",
    "winless": "lost every battle that people judged, so it has no rating for people",
    "separated": "in a group that, in the battles that people judged, only wins or only loses against the rest, so it "
    "has no rating for people",
    "no_ties": "people named no tie",
    "all_ties": "people named nothing but ties",
    "unbounded": "the labels have no maximum of the likelihood, so there are no ratings for people",
    "few_own_labels": "people judged fewer than 10 battles of it, so its rating for people has no interval",
    "not_drawn": "people judged far more battles of some pairs of models than of others. So these battles were not "
    "drawn at random from all battles, and numbers for people may be wrong, most of all where a model has few labels",
    "few_labels": "there are too few labels for ratings for people",
}


def for_people(
    board: dict, verdicts: Sequence[Judgement], labels: Labels, baseline: str | None, models: Iterable[str] = ()
) -> dict:
    """The `leaderboard` of these verdicts with what people prefer: in each model's row win rate and rating for people,
    by labels and judge together and by the labels alone, the judge's error, and the labels; and under `people` what the
    labels are worth, tests, and concerns. All intervals are 95% and clustered by prompt; what cannot be known is None.
    """
    c = judgement_arrays(verdicts, models)
    base = None if baseline is None else c.models.index(baseline)
    given = _given(c, labels)
    rates = [_rate(c, given, m, base) for m in range(len(c.models))]
    ratings, davidson = _ratings(c, given, base), _ratings(c, given, base, True) if c.p[:, TIE].any() else None
    tests = ratings.ratings.tests() if base is None else rate_tests(rates, base)
    order = [c.models.index(row["model"]) for row in board["models"]]
    ranges, rows = tests.rank_ranges(), []
    for row, m in zip(board["models"], order, strict=True):
        with_ties = {} if davidson is None else numbers("rating_davidson_people", davidson.ratings.estimate(m), POINTS)
        rows.append(row | _columns(rates[m], ratings, m) | with_ties | _ranks(tests, ranges, m))
    return board | {"models": rows, "people": _summary(c, given, labels, ratings, tests, order, base)}


def plan_for_people(
    verdicts: Sequence[Judgement], labels: Labels, baseline: str | None, half: float
) -> dict[str, LabelPlan | None]:
    """For each model how many labels of its battles give its win rate for people this half-width; the baseline and
    models without a battle are left out."""
    c = judgement_arrays(verdicts)
    given, base = _given(c, labels), None if baseline is None else c.models.index(baseline)
    plans = {}
    for m, name in enumerate(c.models):
        if (sides := _sides(c, given, m, base)) is not None:
            people, judge, more = sides
            plans[name] = label_plan(people, judge, given.codes, half, **more)
    return plans


@dataclass(frozen=True)
class _Given:
    """Arrays of n battles, shape (n,) each: `y`, people's share for B (NaN without a label); `ties`, their share of
    ties; `chance`: of being labelled; `known`: identical answers, which are a tie without being judged; `codes`:
    numbers of prompts."""

    y: np.ndarray
    ties: np.ndarray
    chance: np.ndarray
    known: np.ndarray
    codes: np.ndarray


def _given(c: JudgementArrays, labels: Labels) -> _Given:
    known = c.identical
    y = np.array([math.nan if share is None else share for share in labels.shares])
    chance = np.ones(len(y)) if labels.probabilities is None else np.array(labels.probabilities)
    return _Given(np.where(known, 0.5, y), np.where(known, 1.0, np.array(labels.ties)), chance, known, c.clusters)


def _rate(c: JudgementArrays, given: _Given, m: int, base: int | None) -> Anchored | None:
    """The model's win rate for people, against the baseline or as the mean over all opponents; None for the baseline,
    and for a model without a battle."""
    if (sides := _sides(c, given, m, base)) is None:
        return None
    people, judge, more = sides
    return anchored_mean(people, judge, given.codes, **more)


def _sides(c: JudgementArrays, given: _Given, m: int, base: int | None) -> tuple[np.ndarray, np.ndarray, dict] | None:
    """What people and the judge say of the model in each battle, and the other arguments of `anchored_mean`."""
    own = (c.i == m) | (c.j == m)
    if base is not None:
        own &= (c.i == base) | (c.j == base)
    if m == base or not own.any():
        return None
    second, other = c.j == m, np.where(c.j == m, c.i, c.j)
    met = np.bincount(other[own], minlength=len(c.models))
    weight = np.where(own, 1 / np.maximum(met[other], 1), 0.0)
    people = np.where(second, given.y, 1 - given.y)
    judge = np.where(second, c.win_b, 1 - c.win_b)
    return people, judge, {"weight": weight, "probability": given.chance, "known": given.known}


def _ratings(c: JudgementArrays, given: _Given, base: int | None, with_ties: bool = False) -> AnchoredRatings:
    return anchored_ratings(
        c.i,
        c.j,
        given.y,
        c.win_b,
        ties=np.stack([given.ties, c.p[:, TIE]]) if with_ties else None,
        probability=given.chance,
        known=given.known,
        clusters=given.codes,
        models=len(c.models),
        anchor=base,
    )


def rate_tests(rates: list[Anchored | None], base: int) -> Pairwise:
    """Between all models, of their win rates against the baseline, which itself has one half.

    The intervals are those of the win rates and of their differences. The error of a test is what gives Student's
    interval the end that lies nearer to no difference, so that the test agrees with the interval that is printed.
    """
    m = len(rates)
    difference, stderr, low, high = (np.full((m, m), np.nan) for _ in range(4))
    clusters = np.zeros((m, m), dtype=int)
    for a in range(m):
        for b in range(a + 1, m):
            found = _rate_difference(rates, a, b, base)
            difference[a, b], difference[b, a] = found.value, -found.value
            low[a, b], low[b, a] = found.low, -found.high
            high[a, b], high[b, a] = found.high, -found.low
            clusters[a, b] = clusters[b, a] = found.n_clusters
            if not math.isnan(found.low):
                towards = found.value - found.low if found.value > 0 else found.high - found.value
                stderr[a, b] = stderr[b, a] = towards / t_quantile(UPPER, found.n_clusters - 1)
    return replace(pairwise(difference, stderr, clusters), low=low, high=high)


def _rate_difference(rates: list[Anchored | None], a: int, b: int, base: int) -> Estimate:
    """The win rate of model a less that of b."""
    first, second = rates[a], rates[b]
    if base not in (a, b):
        return undefined() if first is None or second is None else anchored_difference(first, second)
    rate = second if a == base else first
    found = undefined() if rate is None else rate.estimate
    ends = found.low - 0.5, found.high - 0.5
    low, high = ends if b == base else (-ends[1], -ends[0])
    return replace(found, value=(found.value - 0.5) * (1 if b == base else -1), low=low, high=high)


def _columns(rate: Anchored | None, ratings: AnchoredRatings, m: int) -> dict:
    nothing = undefined(value=0.5)
    estimate, alone, bias = (
        (nothing, nothing, undefined())
        if rate is None
        else (
            rate.estimate,
            rate.labels_alone,
            rate.bias,
        )
    )
    return {
        "labels": estimate.n,
        **numbers("win_rate_people", estimate),
        **numbers("win_rate_labels_alone", alone),
        **numbers("judge_error", bias),
        "labels_worth": None if rate is None else rounded_or_none(rate.worth, 1),
        **numbers("rating_people", ratings.ratings.estimate(m), POINTS),
        **numbers("rating_labels_alone", ratings.labels_alone.estimate(m), POINTS),
    }


def _ranks(tests: Pairwise, ranges: np.ndarray, m: int) -> dict:
    """The ranks that the model may have for people; None where it could not be tested."""
    known = bool(np.isfinite(tests.p[m]).any())
    low, high = ranges[m].tolist() if known else (None, None)
    return {"rank_people_low": low, "rank_people_high": high}


def _summary(c: JudgementArrays, given: _Given, labels: Labels, ratings: AnchoredRatings, tests, order, base) -> dict:
    asked = np.isfinite(given.y) & ~given.known
    worth = ratings.worth
    return {
        "labels": int(asked.sum()),
        "labels_worth": rounded_or_none(worth, 1),
        "battles": int((~given.known).sum()),
        "prompts": len(np.unique(given.codes[asked])),
        "annotators": labels.annotators or None,
        "probabilities": "equal" if labels.probabilities is None else "given",
        "judge_weight": rounded_or_none(ratings.tuning, SHARE),
        "correlation": rounded_or_none(ratings.correlation, SHARE),
        "judge_adds": not ratings.adds_nothing,
        "tests": tests_of(c.models, order, tests, POINTS if base is None else SHARE),
        "concerns": [
            {"kind": k.kind, "models": [c.models[m] for m in k.models], "meaning": CONCERNS[k.kind]}
            for k in (*ratings.ratings.concerns, *_of_the_draw(c, given, asked, labels))
        ],
    }


def _of_the_draw(c: JudgementArrays, given: _Given, asked: np.ndarray, labels: Labels) -> list[Concern]:
    """Whether the labelled battles cannot have been drawn with equal probabilities: a chi-squared test of the labels of
    each pair of models, by the normal approximation of Wilson and Hilferty (1931)."""
    pairs = (np.minimum(c.i, c.j) * len(c.models) + np.maximum(c.i, c.j))[~given.known]
    _, codes, battles = np.unique(pairs, return_inverse=True, return_counts=True)
    n, freedom = int(asked.sum()), len(battles) - 1
    if labels.probabilities is not None or freedom < 1 or n <= freedom:
        return []
    expected = n * battles / battles.sum()
    found = np.bincount(codes.reshape(-1), asked[~given.known], len(battles))
    ratio, spread = float(((found - expected) ** 2 / expected).sum()) / freedom, 2 / (9 * freedom)
    return [Concern("not_drawn", ())] if (ratio ** (1 / 3) - (1 - spread)) / math.sqrt(spread) > SURE else []
