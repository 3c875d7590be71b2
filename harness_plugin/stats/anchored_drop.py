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
    weight = np.ones(len(people)) if by_items else 1 / np.bincount(codes, minlength=n)[codes]
    if not (changed & np.isfinite(people)).any():
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
    labels = _labels(people, judge, changed, codes, weight, probability)
    share = float(weight[changed].sum() / weight.sum())
    few = labels.are_few or not mean.estimate.stderr > 0
    found = _from_few(labels, mean, share, alpha, lowest) if few else _from_many(mean, alpha, lowest)
    test = DropTest(
        before=math.nan,
        after=math.nan,
        by_clusters=found.difference,
        by_items=found.difference,
        p_mid=math.nan,
        n=n,
        n_items=len(people),
        better=int((labels.sums > 0).sum()),
        worse=int((labels.sums < 0).sum()),
        sums=np.full(n, found.difference) if few else found.difference + n * mean.influence,
        sizes=np.ones(n),
        lowest=lowest,
        **vars(found),
    )
    left = labels.people - (0.0 if few else mean.tuning) * labels.judge
    return AnchoredDrop(test, mean, few, share, float(left.std(ddof=1)) if len(left) > 1 else math.nan)


@dataclass(frozen=True, eq=False)
class _Labels:
    """The m labelled items that changed, of k prompts. people, judge: their differences, (m,); weight: what each stands
    for, (m,); codes: their prompts, (m,). sums, sizes: of the weighted differences and of the weights of each prompt,
    (k,), where the mean size is 1."""

    people: np.ndarray
    judge: np.ndarray
    weight: np.ndarray
    codes: np.ndarray
    sums: np.ndarray
    sizes: np.ndarray

    @property
    def prompts(self) -> int:
        return len(self.sums)

    @property
    def are_few(self) -> bool:
        return self.prompts < FEWEST or int((self.sums != 0).sum()) < FEWEST_MOVED


def _labels(people, judge, changed, codes, weight, probability) -> _Labels:
    """The labelled items that changed, of n items with arguments as in `anchored_drop`."""
    here = changed & np.isfinite(people)
    weight = weight[here] if probability is None else weight[here] / np.asarray(probability, dtype=np.float64)[here]
    prompts, own = np.unique(codes[here], return_inverse=True)
    sums = np.bincount(own, weight * people[here], len(prompts))
    sizes = np.bincount(own, weight, len(prompts))
    return _Labels(people[here], judge[here], weight, codes[here], sums / sizes.mean(), sizes / sizes.mean())


@dataclass(frozen=True)
class _Found:
    """The fields of a `DropTest` that depend on how many labels there are."""

    difference: float
    stderr: float
    low: float
    high: float
    p: float
    method: str


def _from_many(mean: Anchored, alpha: float, lowest: float) -> _Found:
    """By Student's t, from the labels and the judge."""
    value, stderr, degrees = mean.estimate.value, mean.estimate.stderr, mean.degrees
    half = t_quantile(1 - alpha, degrees) * stderr
    low, high = max(value - half, lowest), min(value + half, -lowest)
    method = "t, labels and judge" if mean.tuning else "t, labels alone"
    return _Found(value, stderr, low, high, t_tail(-value / stderr, degrees), method)


def _from_few(labels: _Labels, mean: Anchored, share: float, alpha: float, lowest: float) -> _Found:
    """From the labels alone, with the share that changed. The bounds of the mean over all prompts are those of as many
    prompts as hold so many that changed. Where labels count differently, p is that of these bounds, since the other
    tests count all items or all prompts the same."""
    value, stderr, (sums, sizes) = mean.labels_alone.value, mean.labels_alone.stderr, (labels.sums, labels.sizes)
    weights = np.append(np.ones(len(sums)), len(sums) * (1 - share) / share)
    all_sums, all_sizes = np.append(sums, 0.0), np.append(sizes, 1.0)
    low = lower_bound(all_sums, all_sizes, lowest, alpha, weights)
    high = upper_bound(all_sums, all_sizes, -lowest, alpha, weights)
    alike = np.ptp(labels.weight) <= 1e-9 * labels.weight.max() and labels.prompts == len(labels.people)
    if labels.prompts > 1 and alike:
        alone = drop_test(labels.people, np.zeros(labels.prompts), labels.codes, alpha, (lowest, -lowest))
        return _Found(value, stderr, low, high, alone.p, f"{alone.method} on the labels")
    p = NormalDist().cdf(tail_score(-sums, sizes, lowest, 0.0))
    return _Found(value, stderr, low, high, p, "bounds on the labels")
