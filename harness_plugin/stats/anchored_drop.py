"""Did the new answers get worse for people? A one-sided test where people labelled some of the items that changed.

Items whose output did not change differ by 0, which needs no label. So all labels go to those that changed, and say as
much about the whole as three or four times as many labels of any items, if a quarter or a third of them changed. Knows
arrays only.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from harness_plugin.stats.anchored import Anchored, anchored_mean
from harness_plugin.stats.bounded import lower_bound, tail_score, upper_bound
from harness_plugin.stats.estimates import cluster_codes
from harness_plugin.stats.paired import DropTest, drop_test
from harness_plugin.stats.student import t_quantile, t_tail

# Labelled clusters, and of these those that are no tie, from which on Student's bounds are used.
FEWEST, FEWEST_MOVED = 40, 10


@dataclass(frozen=True, eq=False)
class AnchoredDrop:
    """`test`: of the mean difference for people over all items. `mean`: what it rests on. `few`: whether the labels are
    too few for the judge and for Student's bounds, so that the bounds of `bounded` on the labels alone are used. share:
    of what changed. noise: the standard deviation of the labels less the judge's part, within what changed."""

    test: DropTest
    mean: Anchored
    few: bool
    share: float
    noise: float

    def labels_for(self, margin: float, alpha: float, power: float) -> int | None:
        """The labels of changed items with which a drop of the margin is told from no change with this power:
        ((z_(1 - alpha) + z_power) share * noise / margin)^2. None where the labels do not say how much labels
        vary: there is one, or they are all the same."""
        if not self.noise > 0:
            return None
        z = NormalDist().inv_cdf
        return math.ceil(((z(1 - alpha) + z(power)) * self.share * self.noise / margin) ** 2)


def anchored_drop(
    people, judge, changed, clusters, alpha: float, lowest: float, *, probability=None, by_items: bool = False
) -> AnchoredDrop:
    """Tests whether the mean difference new - base over n items fell, for people.

    people: their difference, (n,), NaN where an item is not labelled. judge: the judge's difference, (n,). changed:
    which items' outputs changed, (n,) of bool; the others differ by 0. clusters: the prompts' names (n,); every prompt
    counts the same, or with `by_items` every item. lowest: the smallest difference that is possible; the largest is
    -lowest. probability: with which each labelled item was chosen (default: all the same).

    With C of K prompts changed, share c, of which n are labelled with differences D and the judge says d, it is
    c (mean D + l (mean d of all C - mean d of the n)), with `anchored_mean`'s error: the unchanged items are a stratum
    of which everything is known. Below 40 labelled prompts or 10 with a difference, the bounds are those of a sample of
    n / c prompts that are all labelled. Raises ValueError without a label on a changed item.
    """
    people, judge = np.asarray(people, dtype=np.float64), np.asarray(judge, dtype=np.float64)
    changed = np.asarray(changed, dtype=bool)
    codes, n = cluster_codes(clusters, len(people))
    counts = np.bincount(codes, minlength=n)
    weight = np.ones(len(people)) if by_items else 1 / counts[codes]
    labelled = changed & np.isfinite(people)
    if not labelled.any():
        raise ValueError("no item that changed is labelled")
    mean = anchored_mean(
        np.where(changed, people, 0.0),
        np.where(changed, judge, 0.0),
        codes,
        weight=weight,
        probability=probability,
        known=~changed,
        share=False,
    )
    chance = np.ones(len(people)) if probability is None else np.asarray(probability, dtype=np.float64)
    w = np.where(labelled, weight / chance, 0.0)
    drawn = np.unique(codes[labelled])
    sums = np.bincount(codes, w * np.where(labelled, people, 0.0), n)[drawn]
    sizes = np.bincount(codes, w, n)[drawn]
    sums, sizes = sums / sizes.mean(), sizes / sizes.mean()
    moved = int((sums != 0).sum())
    few = len(drawn) < FEWEST or moved < FEWEST_MOVED or not mean.estimate.stderr > 0
    share = float(weight[changed].sum() / weight.sum())
    used = mean.labels_alone if few else mean.estimate
    value, stderr = used.value, used.stderr
    if few:
        low, high = _bounds_of_few(sums, sizes, share, lowest, alpha)
        p, method = _p_of_few(people[labelled], w[labelled], codes[labelled], (sums, sizes), alpha, lowest)
    else:
        half = t_quantile(1 - alpha, len(drawn) - 1) * stderr
        low, high = max(value - half, lowest), min(value + half, -lowest)
        p, method = t_tail(-value / stderr, len(drawn) - 1), "t, labels and judge" if mean.tuning else "t, labels alone"
    pseudo = np.full(n, value) if few else value + n * mean.influence
    test = DropTest(
        before=math.nan,
        after=math.nan,
        difference=value,
        by_clusters=value,
        by_items=value,
        stderr=stderr,
        low=low,
        high=high,
        p=p,
        p_mid=math.nan,
        n=n,
        n_items=len(people),
        better=int((sums > 0).sum()),
        worse=int((sums < 0).sum()),
        method=method,
        sums=pseudo,
        sizes=np.ones(n),
        lowest=lowest,
    )
    left = people[labelled] - (0.0 if few else mean.tuning) * judge[labelled]
    return AnchoredDrop(test, mean, few, share, float(left.std(ddof=1)) if len(left) > 1 else math.nan)


def _p_of_few(people, weight, codes, by_prompt, alpha: float, lowest: float) -> tuple[float, str]:
    """The p of no change from the labels alone, and how it was found. Where labels count differently, it is that of
    `bounded`, since the other tests count all items or all prompts the same."""
    sums, sizes = by_prompt
    if len(sums) > 1 and np.ptp(weight) <= 1e-9 * weight.max() and len(sums) == len(people):
        alone = drop_test(people, np.zeros(len(people)), codes, alpha, (lowest, -lowest))
        return alone.p, f"{alone.method} on the labels"
    return NormalDist().cdf(tail_score(-sums, sizes, lowest, 0.0)), "bounds on the labels"


def _bounds_of_few(sums, sizes, share: float, lowest: float, alpha: float) -> tuple[float, float]:
    """The bounds of the mean over all prompts, from those that are labelled and the share that changed: as if as many
    prompts had been drawn as hold this many that changed."""
    weights = np.append(np.ones(len(sums)), len(sums) * (1 - share) / share)
    sums, sizes = np.append(sums, 0.0), np.append(sizes, 1.0)
    return lower_bound(sums, sizes, lowest, alpha, weights), upper_bound(sums, sizes, -lowest, alpha, weights)
