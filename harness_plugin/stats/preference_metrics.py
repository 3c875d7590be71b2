"""The summary of a judge of pairs: every metric at once, each with an error clustered by prompt.

The one implementation behind lm-eval's table and the command line. It takes arrays, one entry per pair, and knows
neither `Pair` nor lm-eval. Conventions of the project: positive `s` means that B is preferred; classes are A, B, TIE.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from harness_plugin.stats import measures
from harness_plugin.stats.estimates import (
    Estimate,
    cluster_codes,
    clustered_mean,
    clustered_share,
    jackknife,
    stratified_share,
    undefined,
)

A, B, TIE = 0, 1, 2
THREE_WAY = ("acc_3way", "log_loss", "brier")  # the metrics that need a probability of a tie
SUM_ROUNDING = 1e-4  # of probabilities that were stored with few digits


def preference_metrics(
    s,
    winners,
    *,
    bias=None,
    probabilities=None,
    lengths_a=None,
    lengths_b=None,
    clusters=None,
    baseline=None,
) -> dict[str, Estimate]:
    """All metrics of n judged pairs, by name; each has its own n, and is NaN where there is too little data.

    s: debiased logits (n,), of which most metrics use the order alone. winners: A, B or TIE (n,). bias: position bias
    (n,), in the units of s; None or NaN throughout with one order. The metric `position_bias` is its mean, so callers
    give both as the judge's logits are, not divided by a temperature. probabilities: of A, B, tie (n, 3); None or a
    P(tie) of zero leaves the three-way metrics NaN, and with None `ece` takes s for a log odds. lengths_a,
    lengths_b: characters (n,). clusters: the prompts' names (n,). baseline: of A, B, tie as another judge gives them
    (n, 3), whose accuracy and log loss are `surface_acc` and `surface_log_loss`. Raises ValueError for numbers that are
    not finite or lengths that do not match. Accuracies by category: `category_accuracies`.
    """
    s, winners = np.asarray(s, dtype=np.float64).reshape(-1), np.asarray(winners, dtype=int).reshape(-1)
    n = len(s)
    bias = None if bias is None or (n and np.isnan(np.asarray(bias, dtype=np.float64)).all()) else bias
    _check(n, s=s, winners=winners, bias=bias, lengths_a=lengths_a, lengths_b=lengths_b)
    codes, _ = cluster_codes(clusters, n)
    decisive = winners != TIE
    credit = sign_credit(s, winners)
    p = _probabilities(n, probabilities)
    found = {"acc": clustered_share(credit[decisive], codes[decisive])}
    found |= _three_way(p, winners, codes)
    found |= _decisive_scores(s, winners, credit, decisive, probabilities, codes)
    found |= _order(s, bias, codes)
    found["acc_sure_half"] = _sure_half(s, credit, decisive, codes)
    found |= _length(s, winners, credit, decisive, lengths_a, lengths_b, codes)
    found |= _baseline(n, baseline, winners, decisive, codes)
    found["prior_log_loss"] = _prior_log_loss(winners, codes)
    found["n_pairs"] = _count(np.ones(n, dtype=bool), codes)
    found["n_decisive"] = _count(decisive, codes)
    return found


def category_accuracies(s, winners, categories, clusters=None) -> dict[str, Estimate]:
    """`acc` of each category, by name; `n` of each is its decisive pairs. Rows without a category do not count."""
    credit, labels, codes = _decisive_credit(s, winners, categories, clusters)
    names = sorted({name for name in categories if name})
    return {name: clustered_share(credit[labels == name], codes[labels == name]) for name in names}


def section_accuracy(s, winners, categories, weights: Mapping[str, float], clusters=None) -> Estimate:
    """The mean of the categories' accuracies with the given weights; NaN where one of them has no decisive pair."""
    credit, labels, codes = _decisive_credit(s, winners, categories, clusters)
    return stratified_share(credit, labels, codes, weights)


def _decisive_credit(s, winners, categories, clusters) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    s, winners = np.asarray(s, dtype=np.float64).reshape(-1), np.asarray(winners, dtype=int).reshape(-1)
    _check(len(s), s=s, winners=winners, categories=categories)
    codes, _ = cluster_codes(clusters, len(s))
    decisive = winners != TIE
    labels = np.array([name or "" for name in categories], dtype=object)
    return sign_credit(s, winners)[decisive], labels[decisive], codes[decisive]


def _check(n: int, **columns) -> None:
    for name, values in columns.items():
        if values is None:
            continue
        if len(values) != n:
            raise ValueError(f"{name} has {len(values)} entries for {n} pairs")
        if name != "categories" and not np.isfinite(np.asarray(values, dtype=np.float64)).all():
            raise ValueError(f"{name} has numbers that are not finite")
    if n and not np.isin(columns["winners"], (A, B, TIE)).all():
        raise ValueError("winners must be 0 (A), 1 (B) or 2 (tie)")


def sign_credit(s: np.ndarray, winners: np.ndarray) -> np.ndarray:
    """1 where the sign of s names the winner, 0 where it names the loser, 0.5 where it names nobody."""
    return (1 + np.sign(s) * np.where(winners == B, 1, -1)) / 2


def _probabilities(n: int, probabilities) -> np.ndarray | None:
    """P of A, B, tie in shape (n, 3), or None where nothing is known about ties."""
    if probabilities is None:
        return None
    p = np.asarray(probabilities, dtype=np.float64).reshape(-1, 3)
    if len(p) != n or not np.isfinite(p).all():
        raise ValueError(f"probabilities must be {n} rows of 3 finite numbers")
    if (p < 0).any() or (np.abs(p.sum(axis=1) - 1) > SUM_ROUNDING).any():
        raise ValueError("probabilities of A, B and tie must be at least 0 and add up to 1")
    return p if knows_ties(p) else None


def knows_ties(p: np.ndarray) -> bool:
    """Whether every pair has a probability of a tie, p being of A, B, tie, (n, 3). A judge that has none of some pairs,
    such as a cascade with one that knows no ties, would pay for their ties as if it had been certain of a winner."""
    return bool((p[:, TIE] > 0).all())


def _three_way(p, winners, codes) -> dict[str, Estimate]:
    if p is None:
        missing = undefined(len(winners))
        return dict.fromkeys(THREE_WAY, missing)
    return {
        "acc_3way": clustered_share(shared_credit(p, winners), codes),
        "log_loss": clustered_mean(measures.log_loss(p, winners), codes, bounds=(0.0, math.inf)),
        "brier": clustered_mean(measures.brier(p, winners), codes, bounds=(0.0, 2.0)),
    }


def shared_credit(p: np.ndarray, winners: np.ndarray) -> np.ndarray:
    """The credit of probabilities (n, 3): classes that share the highest share the point, so that nobody gains from
    being listed first."""
    best = p == p.max(axis=1, keepdims=True) if len(p) else p
    return best[np.arange(len(p)), winners] / np.maximum(best.sum(axis=1), 1)


def _decisive_scores(s, winners, credit, decisive, probabilities, codes) -> dict[str, Estimate]:
    """ECE of the more likely side's probability given that there is no tie, and AUC of s for wins of B."""
    if probabilities is None:
        confidence = 1 / (1 + np.exp(-np.abs(s)))
    else:
        sides = np.asarray(probabilities, dtype=np.float64).reshape(-1, 3)[:, :TIE]
        confidence = sides.max(axis=1) / np.maximum(sides.sum(axis=1), measures.SMALLEST_P)
    confidence, right, groups = confidence[decisive], credit[decisive], codes[decisive]
    return {
        "ece": measures.ece_estimate(confidence, right, groups),
        "auc": measures.auc_estimate(s[decisive], winners[decisive] == B, groups),
    }


def _order(s, bias, codes) -> dict[str, Estimate]:
    """How often both orders prefer the same side, the mean position bias, how often the first response is preferred.

    The position bias is in the units of s and bias: the logits of the judge as they are. lm-eval gives tasks
    log-likelihoods alone, so there it is the difference of calibrated log odds: the logits divided by the temperature.
    """
    names = ("order_agreement", "position_bias", "first_position_rate")
    if bias is None:
        return dict.fromkeys(names, undefined(len(s)))
    b = np.asarray(bias, dtype=np.float64)
    # z_ab = s + b and z_ba = b - s name the same side where |s| > |b|, and one of them is zero where |s| = |b|.
    agree = (1 + np.sign(np.abs(s) - np.abs(b))) / 2
    first = (2 - np.sign(s + b) - np.sign(b - s)) / 4
    found = clustered_share(agree, codes), clustered_mean(b, codes), clustered_share(first, codes)
    return dict(zip(names, found, strict=True))


def _length(s, winners, credit, decisive, lengths_a, lengths_b, codes) -> dict[str, Estimate]:
    if lengths_a is None or lengths_b is None:
        return dict.fromkeys(("length_corr", "acc_length_balanced", "longer_wins"), undefined(len(s)))
    longer_b = np.asarray(lengths_b, dtype=np.int64) - np.asarray(lengths_a, dtype=np.int64)
    by_s, by_length = measures.rank_codes(s), measures.rank_codes(longer_b)
    right_longer = np.where(winners == B, longer_b, -longer_b)[decisive]
    return {
        "length_corr": jackknife(
            lambda keep: measures.spearman(by_s[keep], by_length[keep]), len(s), codes, bounds=(-1.0, 1.0)
        ),
        "acc_length_balanced": measures.acc_length_balanced(credit[decisive], right_longer, codes[decisive]),
        "longer_wins": clustered_share((1 + np.sign(right_longer)) / 2, codes[decisive]),
    }


def _sure_half(s, credit, decisive, codes) -> Estimate:
    """`acc` of the half of the decisive pairs of which the judge is surest; pairs as sure as the last of them count."""
    sure = np.abs(s[decisive])
    chosen = sure >= np.median(sure) if len(sure) else np.zeros(0, dtype=bool)
    return clustered_share(credit[decisive][chosen], codes[decisive][chosen])


def _baseline(n: int, baseline, winners, decisive, codes) -> dict[str, Estimate]:
    p = _probabilities(n, baseline)
    if p is None:
        return dict.fromkeys(("surface_acc", "surface_log_loss"), undefined(n))
    credit = sign_credit(p[:, B] - p[:, A], winners)
    return {
        "surface_acc": clustered_share(credit[decisive], codes[decisive]),
        "surface_log_loss": clustered_mean(measures.log_loss(p, winners), codes, bounds=(0.0, math.inf)),
    }


def _prior_log_loss(winners, codes) -> Estimate:
    """Log loss of always predicting this set's own class shares: their entropy, whose linearisation is the loss."""
    if not len(winners):
        return undefined()
    shares = np.bincount(winners, minlength=3) / len(winners)
    found = clustered_mean(0.0 - np.log(shares[winners]), codes, bounds=(0.0, math.inf))
    return replace(found, high=min(found.high, math.log(3))) if math.isfinite(found.high) else found


def _count(mask, codes) -> Estimate:
    return undefined(int(mask.sum()), len(np.unique(codes[mask])), float(mask.sum()))
