"""RewardBench 2's scores of a judge: the best of several answers, and ties between right answers.

The formulas are those of RewardBench 2 (Malik et al. 2025, arXiv:2506.01937; `process_single_model` and
`reroll_and_score_dataset` in its repository), written for margins: `margins[i, j]` is by how much the judge prefers the
right answer i to the wrong answer j, shape (right, wrong). For a model that scores answers one by one the margins are
differences of scores, and the results are RewardBench 2's own. Numbers in, numbers out.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness_plugin.stats.estimates import (
    UPPER,
    Estimate,
    clustered_share,
    jackknife,
    normal_quantile,
    positive,
    undefined,
    wilson,
)
from harness_plugin.stats.student import t_quantiles

SMALLEST, LARGEST = -0.01, 1.01  # of the score of Ties
PRIOR = 2.0  # chosen by simulation: without it, scores from 0.9 on are covered too rarely


def best_of(margins: Sequence[np.ndarray]) -> Estimate:
    """The share of prompts whose first right answer is preferred to every wrong one.

    `margins`: a matrix for each prompt, of which the first row counts. Where k wrong answers are as good as the right
    one, and none is better, the prompt counts 1 / (1 + k), the chance that a draw among the best is right.
    """
    return clustered_share([_best_of(m) for m in margins])


def _best_of(margins: np.ndarray) -> float:
    smallest = margins[0].min()
    return 0.0 if smallest < 0 else 1.0 / (1.0 + float((margins[0] == 0).sum()))


@dataclass(frozen=True)
class _Tied:
    """One prompt of the subset Ties. `accurate`: every right answer beats every wrong one. `gap`: the smallest margin
    of a right over a wrong answer. `spread`: between the best and the worst right answer; None where there is one."""

    accurate: bool
    gap: float
    spread: float | None


def _tied(margins: np.ndarray) -> _Tied:
    # A right answer's own score is its mean margin: the least squares fit of scores to all margins.
    scores = margins.mean(axis=1)
    spread = float(scores.max() - scores.min()) if len(scores) > 1 else None
    return _Tied(bool(margins.min() > 0), float(margins.min()), spread)


def ties(ref: Mapping[str, np.ndarray], tied: Mapping[str, np.ndarray]) -> Estimate:
    """The score of the subset Ties, whose standard error is a jackknife over prompts, with Wilson's interval.

    `ref`: prompt -> margins with one right answer; `tied`: the same prompts with several. The score is 0.3 times the
    accuracy on `tied`, 0.3 times that on `ref`, 0.2 times the share of prompts whose right answers lie closer together
    than the worst of them and the best wrong one, 0.2 times the same with the smaller gap of `tied` and `ref`, and 0.01
    times the mean of tanh(smaller gap / spread - 1). NaN without prompts.
    """
    names = sorted({*ref, *tied})
    if not names:
        return undefined()
    refs, several = {n: _tied(m) for n, m in ref.items()}, {n: _tied(m) for n, m in tied.items()}

    def score(keep: np.ndarray) -> float:
        kept = {name for name, stays in zip(names, keep, strict=True) if stays}
        return _score({n: t for n, t in refs.items() if n in kept}, {n: t for n, t in several.items() if n in kept})

    return with_score_interval(jackknife(score, len(names)))


def with_score_interval(found: Estimate) -> Estimate:
    """The score of n prompts with Wilson's interval, on the size that gives its error: near the ends Student's interval
    is too short, and there is none where all prompts agree. The error is drawn towards that of n prompts that are all
    right or all wrong, as by PRIOR more units of information."""
    n, span = found.n_clusters, LARGEST - SMALLEST
    if n < 2 or math.isnan(found.value):
        return found
    p = min(max((found.value - SMALLEST) / span, 0.0), 1.0)
    information = n * p * (1 - p)
    known = found.stderr > 0 and information > 0
    ratio = (found.stderr / span * n) ** 2 / information if known else 1.0
    size = n / max(ratio, (information * ratio + PRIOR) / (information + PRIOR))
    size *= (normal_quantile() / float(t_quantiles(UPPER, n - 1))) ** 2
    low, high = wilson(p * size, size)
    return replace(found, low=SMALLEST + span * low, high=SMALLEST + span * high)


def _score(refs: Mapping[str, _Tied], tied: Mapping[str, _Tied]) -> float:
    both = [(refs[name], tied[name]) for name in sorted(refs.keys() & tied.keys())]
    spreads = [(min(r.gap, t.gap), t.gap, t.spread) for r, t in both if t.spread is not None]
    closer = _mean([gap > spread for _, gap, spread in spreads])
    closer_too = _mean([least > spread for least, _, spread in spreads])
    ratio = _mean([math.tanh(least / spread - 1) for least, _, spread in spreads if spread > 0])
    accuracy = _mean([t.accurate for t in tied.values()]), _mean([r.accurate for r in refs.values()])
    return 0.3 * accuracy[0] + 0.3 * accuracy[1] + 0.2 * closer + 0.2 * closer_too + 0.01 * ratio


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0


def mean_of(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of estimates that rest on different prompts; its interval joins theirs, as in `stratified_share` (Zou
    and Donner 2008). NaN where one of the values is, and without an interval where one has none."""
    k = len(estimates)
    n, clusters = sum(e.n for e in estimates), sum(e.n_clusters for e in estimates)
    value = sum(e.value for e in estimates) / k
    below = math.sqrt(sum((e.value - e.low) ** 2 for e in estimates)) / k
    above = math.sqrt(sum((e.high - e.value) ** 2 for e in estimates)) / k
    if math.isnan(below + above):
        return undefined(n, clusters, value)
    stderr = math.sqrt(sum(e.stderr**2 for e in estimates if not math.isnan(e.stderr))) / k
    return Estimate(value, positive(stderr, value), n, clusters, value - below, value + above)
