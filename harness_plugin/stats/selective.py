"""From which confidence on may a judge decide, so that its error is bounded? Thresholds with a guarantee.

The thresholds that are tried are fixed beforehand. They are tested one after the other from the strictest on, until the
first that fails (fixed-sequence testing; Angelopoulos et al. 2021, "Learn then test", arXiv:2110.01052; for judges Jung
et al. 2024, arXiv:2407.18370). Each test is a bound for right and wrong that is exact and takes clusters into account
(`bounded`). So with probability `level` the true error at the threshold is at most the wanted one. numpy only.
"""

import math
from collections.abc import Callable

import numpy as np

from harness_plugin.stats.bounded import excludes
from harness_plugin.stats.estimates import cluster_codes

LEVEL = 0.95
STEP, LARGEST = 0.05, 30.0  # of the thresholds, in log odds
STARTS = (0.125, 0.25, 0.5, 1.0)  # shares of the items at which a sequence begins; each has its part of 1 - level


def threshold_for_error(log_odds, wrong, clusters, error: float, level: float = LEVEL) -> float | None:
    """The smallest log odds such that of the items with at least as much, a share of at most `error` is wrong; None
    where there is none that is proved by these items.

    log_odds: how sure the judge is, at least 0, shape (n,). wrong: from 0 (right) to 1 (wrong), (n,). clusters: names,
    (n,) or None. With probability `level` over the items, the true share is at most `error`. A sequence that begins
    with few items fails by bad luck; so one begins at each of STARTS, at a level of its own (Bonferroni).
    """
    return _threshold(log_odds, wrong, clusters, error, level, among_judged=True)


def threshold_for_agreement(log_odds, differs, clusters, agreement: float) -> float | None:
    """The smallest log odds such that with probability LEVEL no more than 1 - agreement of **all** items have both:
    at least as much, and a verdict that differs from the wanted one (`differs`, from 0 to 1, shape (n,)). None where
    not even the surest item is shown to be so good."""
    return _threshold(log_odds, differs, clusters, 1 - agreement, LEVEL, among_judged=False)


def _threshold(log_odds, loss, clusters, limit: float, level: float, among_judged: bool) -> float | None:
    log_odds, loss = (np.asarray(x, dtype=np.float64).reshape(-1) for x in (log_odds, loss))
    if not 0 < limit < 1 or not 0 < level < 1:
        raise ValueError(f"limit {limit} at level {level}: both need to be between 0 and 1")
    if len(log_odds) != len(loss) or not len(loss):
        raise ValueError(f"{len(log_odds)} log odds and {len(loss)} losses: needs as many, and at least one")
    codes, _ = cluster_codes(clusters, len(loss))
    starts = STARTS if among_judged else (0.0,)
    alpha = (1 - level) / len(starts)

    def proved(chosen: np.ndarray) -> bool:
        return _proved(chosen, loss, codes, limit, alpha, among_judged)

    found = [_lowest(log_odds, max(start * len(loss), 1), proved) for start in starts]
    return min((at for at in found if at is not None), default=None)


def _lowest(log_odds: np.ndarray, fewest: float, proved: Callable[[np.ndarray], bool]) -> float | None:
    """The lowest log odds that a sequence of tests reaches, from the highest with at least `fewest` items on; it ends
    where the items that are chosen, a mask of shape (n,), are not `proved`. None where its first test fails."""
    passed, last = None, -1
    for at in np.arange(round(LARGEST / STEP), -1, -1) * STEP:
        chosen = log_odds >= at
        count = int(chosen.sum())
        if count < fewest:
            continue
        if count != last and not proved(chosen):  # the same items give the same answer
            break
        passed, last = float(at), count
    return passed


def _proved(chosen, loss, codes, limit: float, alpha: float, among_judged: bool) -> bool:
    """Whether the mean loss of the chosen items (of all items, those that are not chosen having none) is shown to be at
    most `limit`."""
    counted = chosen if among_judged else np.ones(len(chosen), dtype=bool)
    _, groups = np.unique(codes[counted], return_inverse=True)
    sizes = np.bincount(groups).astype(np.float64)
    sums = np.bincount(groups, np.where(chosen, loss, 0.0)[counted], len(sizes))
    return excludes(-sums, sizes, -1.0, alpha, -limit)


def confidence_of(log_odds: float) -> float:
    """The probability of the likelier side from its log odds: from 0.5 to 1."""
    return 1 / (1 + math.exp(-min(log_odds, 700.0)))
