"""What people prefer, from a judge's verdicts on all battles and people's labels on some of them.

Prediction-powered inference with a tuned weight (PPI++: Angelopoulos, Duchi and Zrnic 2023, arXiv:2311.01453): the mean
of the labels, corrected by how much the labelled battles differ for the judge from all battles. The interval is valid
whatever the judge's bias, provided that the labels were drawn at random with known probabilities and the judge was not
fitted to them, and it is as much shorter as the judge is good. Each battle has one influence value; they are summed by
prompt, so that errors are clustered and two estimates of one tournament can be compared. Numbers in, numbers out.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from harness_plugin.stats.estimates import (
    UPPER,
    Estimate,
    cluster_codes,
    kish,
    normal_quantile,
    positive,
    undefined,
    wilson,
)
from harness_plugin.stats.student import t_quantile

FEWEST_LABELS = 10  # with fewer there is no interval
FOLDS = 5
PRIOR = 2.0  # units of information; chosen by simulation: without it, few labels with ties are covered in 0.84 to 0.91


@dataclass(frozen=True, eq=False)
class Anchored:
    """A mean over battles, for people.

    estimate: corrected by the labels (n labels, n_clusters prompts that hold one). labels_alone: the same without the
    judge. bias: the judge's own mean less the estimate. tuning: the weight of the judge, from 0 (the labels alone) to
    1. correlation: of judge and people over the labelled battles. worth: how many labels alone would give the same
    error; NaN without an error. influence: (G,), each prompt's, whose squares sum to the squared error up to
    n_clusters / (n_clusters - 1). degrees: of freedom, of Student's t.
    """

    estimate: Estimate
    labels_alone: Estimate
    bias: Estimate
    tuning: float
    correlation: float
    worth: float
    influence: np.ndarray
    degrees: float

    @property
    def adds_nothing(self) -> bool:
        """Whether the judge's correlation with people is too small to help, so that the labels alone were used."""
        return adds_nothing(self.correlation, self.estimate.n)


def adds_nothing(correlation: float, labels: int) -> bool:
    """Whether a judge is too weak for so many labels: its correlation with people is below 1 / sqrt(n - 2), where
    tuning costs more than the judge gives (Mani et al. 2025, arXiv:2505.20178), or cannot be known."""
    return not (labels > 2 and correlation >= 1 / math.sqrt(labels - 2))


def anchored_mean(
    people, judge, clusters=None, *, weight=None, probability=None, strata=None, known=None, share: bool = True
) -> Anchored:
    """The mean of `people` over all battles, most of which nobody labelled.

    people: (n,), NaN where there is no label. judge: (n,), the judge's value of each battle. clusters: the prompts'
    names (n,). weight: what each battle counts in the mean, (n,), 0 for those that are not part of it (default: all the
    same). probability: with which each labelled battle was chosen, (n,), in (0, 1] (default: all the same). strata:
    names (n,), where a number of labels was drawn within each; they must be labelled. known: (n,) of bool, battles
    whose value needs no label, such as identical answers: they stand in `people` and count as no label. share: values
    lie in [0, 1], and the interval is Wilson's on the effective size; otherwise it is Student's.

    theta(l) = Y_w + l (f - f_w) for the weighted means of labels, of the judge over all battles, and of the judge over
    the labelled ones. The weight l minimises the clustered error. Each fold of prompts uses that of the other folds:
    where labels are few, or few of them name the rarer side, one weight for all makes the error too small. Strata as
    Fisch et al. 2024 (arXiv:2406.04291), with the mix of strata random. Raises ValueError for input that does not fit
    together.
    """
    rows = _checked(people, judge, clusters, weight, probability, strata, known)
    if not rows.labels:
        nothing = undefined(0, 0)
        return Anchored(nothing, nothing, nothing, 0.0, math.nan, math.nan, np.full(rows.clusters, math.nan), 0.0)
    mean, a, b, shift = _influence(rows)
    by_prompt, on_judge, moved = (np.bincount(rows.codes, x, rows.clusters) for x in (a, b, shift))
    correlation = weighted_correlation(rows.people, rows.judge, rows.inverse * rows.asked)
    useless = adds_nothing(correlation, rows.labels)
    tuning = np.zeros(rows.clusters) if useless else _tunings(by_prompt, on_judge, rows)
    alone = _estimate(rows, mean, by_prompt, share)
    influence = by_prompt + tuning * on_judge
    estimate = _estimate(rows, mean + float(tuning @ moved), influence, share)
    of_judge = rows.weight / rows.weight.sum()
    average = float(of_judge @ rows.judge)
    own = np.bincount(rows.codes, of_judge * (rows.judge - average), rows.clusters)
    bias = _estimate(rows, average - estimate.value, own - influence, False)
    if share:  # near 0 and 1 Student's interval is too short, and the judge's mean over all battles has hardly an error
        low, high = min(bias.low, average - estimate.high), max(bias.high, average - estimate.low)
        bias = replace(bias, low=low, high=high)
    ratio = alone.stderr / estimate.stderr
    used = float(tuning[np.unique(rows.codes[rows.asked])].mean())
    return Anchored(estimate, alone, bias, used, correlation, rows.labels * ratio**2, influence, rows.degrees)


def anchored_difference(first: Anchored, second: Anchored) -> Estimate:
    """The share `first` less the share `second`, of the same battles' prompts.

    The interval joins those of the two shares: low = d - sqrt(e1^2 + e2^2 - 2 r e1 e2), where theirs reach e1 below the
    first and e2 above the second, and high alike (Zou and Donner 2008; Newcombe 1998 for two shares). So it holds near
    0 and 1 as theirs do, and there is one where all labels of a model agree. r is the correlation of the prompts'
    influence; above 0 it is drawn to 0 as by PRIOR units of information, since few labels may agree by chance.
    """
    a, b = first.estimate, second.estimate
    labels, prompts, value = min(a.n, b.n), min(a.n_clusters, b.n_clusters), a.value - b.value
    if math.isnan(a.low) or math.isnan(b.low):
        return undefined(labels, prompts, value)
    moved = first.influence - second.influence
    stderr = positive(math.sqrt(prompts / (prompts - 1) * float(moved @ moved)), value)
    lengths = math.sqrt(float(first.influence @ first.influence) * float(second.influence @ second.influence))
    r = float(first.influence @ second.influence) / lengths if lengths > 0 else 0.0
    information = min(x.n * x.value * (1 - x.value) for x in (a, b))
    r *= information / (information + PRIOR) if r > 0 else 1.0

    def joined(one: float, other: float) -> float:
        return math.sqrt(max(one**2 + other**2 - 2 * r * one * other, 0.0))

    low, high = value - joined(a.value - a.low, b.high - b.value), value + joined(a.high - a.value, b.value - b.low)
    return Estimate(value, stderr, labels, prompts, max(low, -1.0), min(high, 1.0))


def weighted_correlation(x, y, weight) -> float:
    """Pearson's correlation of x and y, (n,) each, with weights; NaN where one of them does not vary."""
    chosen = weight > 0
    x, y, weight = x[chosen], y[chosen], weight[chosen] / weight[chosen].sum()
    x, y = x - weight @ x, y - weight @ y
    scale = math.sqrt(float(weight @ x**2) * float(weight @ y**2))
    return float(weight @ (x * y)) / scale if scale > 1e-12 else math.nan


def tuned(of_labels, of_judge) -> float:
    """The weight of the judge, from 0 to 1, that minimises the sum of squares of of_labels + weight * of_judge."""
    scale = float((of_judge * of_judge).sum())
    return float(np.clip(-(of_labels * of_judge).sum() / scale, 0.0, 1.0)) if scale > 0 else 0.0


@dataclass(frozen=True, eq=False)
class Labelled:
    """n battles, some of which are labelled. inverse: what each labelled one stands for, weight / probability, else 0;
    asked: labelled by people, not known without them; codes: their prompts, below `clusters`. Shape (n,) each."""

    inverse: np.ndarray
    asked: np.ndarray
    codes: np.ndarray
    clusters: int

    @property
    def labels(self) -> int:
        return int(self.asked.sum())

    @property
    def prompts(self) -> int:
        """How many hold a label."""
        return len(np.unique(self.codes[self.asked]))

    @property
    def degrees(self) -> float:
        """One less than as many prompts as those of the labels are worth by what their labels stand for (`kish`)."""
        held = np.bincount(self.codes[self.asked], self.inverse[self.asked])
        return max(kish(held) - 1, 1.0) if self.prompts > 1 else 0.0


@dataclass(frozen=True, eq=False)
class _Rows(Labelled):
    people: np.ndarray  # 0 where there is no label
    judge: np.ndarray
    weight: np.ndarray
    strata: np.ndarray


def _checked(people, judge, clusters, weight, probability, strata, known) -> _Rows:
    people, judge = (np.asarray(x, dtype=np.float64).reshape(-1) for x in (people, judge))
    n = len(people)
    weight = np.ones(n) if weight is None else np.asarray(weight, dtype=np.float64)
    probability = np.ones(n) if probability is None else np.asarray(probability, dtype=np.float64)
    known = np.zeros(n, dtype=bool) if known is None else np.asarray(known, dtype=bool)
    if not n == len(judge) == len(weight) == len(probability) == len(known):
        raise ValueError("people, judge, weight, probability and known need one entry for each battle")
    if not np.isfinite(judge).all() or not np.isfinite(weight).all() or (weight < 0).any():
        raise ValueError("the judge's values and the weights must be finite, weights at least 0")
    labelled = np.isfinite(people) & (weight > 0)
    chances = probability[labelled & ~known]
    if not ((chances > 0) & (chances <= 1)).all():
        raise ValueError("labelled battles need a probability above 0 and at most 1")
    inverse = np.where(labelled, weight / np.where(labelled & ~known, probability, 1.0), 0.0)
    # What needs no label is a stratum of its own, of which everything is labelled.
    names, _ = cluster_codes(strata if strata is not None else np.zeros(n, dtype=int), n)
    strata = np.where(known, -1, names)
    codes, count = cluster_codes(clusters, n)
    return _Rows(inverse, labelled & ~known, codes, count, np.where(labelled, people, 0.0), judge, weight, strata)


def _influence(rows: _Rows) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """The mean of the labels; each battle's influence on it and on the judge's correction, (n,) each; and what each
    contributes to the correction itself."""
    total = rows.weight.sum()
    a, b, shift = (np.zeros(len(rows.people)) for _ in range(3))
    value, means = 0.0, np.zeros(len(rows.people))
    names = [name for name in np.unique(rows.strata) if rows.weight[rows.strata == name].any()]
    for name in names:
        here = rows.strata == name
        y, f, v, w = rows.people[here], rows.judge[here], rows.weight[here], rows.inverse[here]
        count, part = int((w > 0).sum()), v.sum() / total
        if not count:
            raise ValueError(f"no battle of stratum {name} is labelled")
        v, w = v / v.sum(), w / w.sum()
        mean, over_all, over_labelled = float(w @ y), float(v @ f), float(w @ f)
        # A mean that each stratum estimates takes one degree of freedom there.
        scale = part * (math.sqrt(count / (count - 1)) if len(names) > 1 and count > 1 else 1.0)
        a[here] = scale * w * (y - mean)
        b[here] = part * v * (f - over_all) - scale * w * (f - over_labelled)
        shift[here] = part * (f - over_all) * (v - w)
        means[here] = mean
        value += part * mean
    return value, a + rows.weight / total * (means - value) * (len(names) > 1), b, shift


def _tunings(by_prompt, on_judge, rows: _Rows) -> np.ndarray:
    """The weight of the judge for each prompt, (G,): that of the other folds' prompts."""
    labelled = np.zeros(rows.clusters, dtype=bool)
    labelled[rows.codes[rows.asked]] = True
    rng, fold = np.random.default_rng(0), np.zeros(rows.clusters, dtype=int)
    for group in (labelled, ~labelled):  # so that every fold has labels
        fold[group] = rng.permutation(int(group.sum())) % FOLDS
    others = [tuned(by_prompt[fold != k], on_judge[fold != k]) for k in range(FOLDS)]
    return np.array(others)[fold]


def _estimate(rows: _Rows, value: float, influence, share: bool) -> Estimate:
    found = _student(rows, value, influence)
    if not share:
        return found
    value, low, high = _share(rows, value, found.stderr)
    if rows.labels < FEWEST_LABELS or rows.prompts < 2:
        return replace(found, value=value)
    return replace(found, value=value, low=low, high=high)


def _share(rows: _Rows, value: float, stderr: float) -> tuple[float, float, float]:
    """A share with Wilson's interval: of the battles that are not known without a label, on the size that gives them
    their error, joined to the error of how many are known (Zou and Donner 2008).

    The error is first drawn towards the one of as many labels alone, each on a prompt of its own, as by PRIOR more
    units of information: where few labels are nearly all the same, their error is too small, and 0 where all agree.
    """
    total, w, open_ = rows.weight.sum(), rows.inverse[rows.asked], rows.strata >= 0
    part, known = float(rows.weight[open_].sum() / total), float((rows.weight * rows.people)[~open_].sum() / total)
    among = min(max((value - known) / part, 0.0), 1.0)
    value = known + part * among
    if rows.prompts < 2:
        return value, math.nan, math.nan
    mix = np.bincount(rows.codes, rows.weight / total * (np.where(open_, among, rows.people) - value), rows.clusters)
    mixed, t = float(mix @ mix), t_quantile(UPPER, rows.degrees)
    # At 0 and 1 the variance would be 0: nearer than half a label the labels cannot tell.
    p = min(max(among, 0.5 / rows.labels), 1 - 0.5 / rows.labels)
    alone = min(rows.prompts, float(w.sum() ** 2 / (w @ w)))
    ratio = 1.0 if math.isnan(stderr) else max(stderr**2 - mixed, 0.0) / part**2 / (p * (1 - p)) * alone
    information = rows.labels * p * (1 - p)
    size = alone / max(ratio, (information * ratio + PRIOR) / (information + PRIOR))
    size = min(size, int((rows.weight[open_] > 0).sum())) * (normal_quantile() / t) ** 2
    low, high = (part * (end - among) for end in wilson(among * size, size))
    low, high = (math.copysign(math.hypot(end, t * math.sqrt(mixed)), sign) for end, sign in ((low, -1), (high, 1)))
    return value, max(value + low, 0.0), min(value + high, 1.0)


def _student(rows: _Rows, value: float, influence) -> Estimate:
    """The value with the clustered error of its influence values and Student's interval."""
    labels, prompts = rows.labels, rows.prompts
    if labels < FEWEST_LABELS or prompts < 2:
        return undefined(labels, prompts, value)
    stderr = positive(math.sqrt(prompts / (prompts - 1) * float(influence @ influence)), value)
    half = t_quantile(UPPER, rows.degrees) * stderr
    return Estimate(value, stderr, labels, prompts, value - half, value + half)
