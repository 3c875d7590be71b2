"""Bradley-Terry ratings at equal style: what the ratings would be had all answers been equally long, or written in the
same style, and what each feature of style is worth to the judge.

Style is a mediator that is held fixed: the result is no truer quality, since a judge may like lists for good reasons.
Knows arrays only.
"""

import math
from dataclasses import replace

import numpy as np

from harness_plugin.stats.estimates import UPPER, Estimate, positive, undefined
from harness_plugin.stats.measures import logistic
from harness_plugin.stats.multiple import MIN_CLUSTERS
from harness_plugin.stats.ratings import (
    MEAN,
    TOLERANCE,
    Concern,
    Ratings,
    Rows,
    checked_anchor,
    comparison_rows,
    outcome_graph,
    points_of,
    sandwich,
)
from harness_plugin.stats.search import newton, solved_step
from harness_plugin.stats.student import t_quantiles
from harness_plugin.stats.style import (
    CONFOUNDED,
    LEAST_INFORMATION,
    SLOPE_PRECISION,
    STRETCHED,
    checked_features,
    error_ratios,
    length_difference,
    length_feature,
    slope_information,
)


def length_controlled_ratings(
    i, j, p, lengths_i, lengths_j, *, clusters=None, models=None, anchor=None, mean=MEAN
) -> Ratings:
    """`style_controlled_ratings` with the one feature `length_feature`, of j's length less i's (Dubois et al. 2024,
    arXiv:2404.04475, where all meet one baseline). lengths_i, lengths_j: characters (n,).

    Raises ValueError as it does, and for lengths that are negative or not finite.
    """
    feature = length_feature(length_difference(lengths_i, lengths_j, len(np.asarray(p).reshape(-1))))
    options = {"clusters": clusters, "models": models, "anchor": anchor, "mean": mean, "name": "length"}
    return style_controlled_ratings(i, j, p, feature[:, None], **options)


def style_controlled_ratings(
    i, j, p, features, *, clusters=None, models=None, anchor=None, mean=MEAN, name="style"
) -> Ratings:
    """Bradley-Terry ratings had all answers been of one style, and in `slopes` what each feature is worth.

    logit P(j beats i) = theta_j - theta_i + beta'f with features f, (n, k), and beta ~ N(0, 100). Exchanging the sides
    of a comparison, and the signs of its features, changes nothing. A positive beta means that answers with more of it
    are preferred. Where a model always differs from the others by about the same style, style and quality cannot be
    told apart and its rating is NaN (`error_ratios`); where nothing is known of any slope, everything is. A feature in
    which no two answers differ has no slope, and one of which next to nothing is known has NaN. Otherwise as
    `bradley_terry_ratings`, ValueErrors too; models without a finite rating there have NaN. `name`: of the concerns.
    """
    rows = comparison_rows(i, j, p, None, None, clusters, models)
    features = checked_features(features, len(rows.p))
    wins, ties = rows.tables()
    core, _, concerns = outcome_graph(wins, ties, checked_anchor(anchor, rows))
    weight = rows.weight * (core[:, None] & core[None, :])[rows.i, rows.j]
    theta, beta, information, undecided = _maximum(rows, weight, features, core)
    with np.errstate(invalid="ignore"):  # all NaN where there is no maximum
        residual = weight * (rows.p - logistic(theta[rows.j] - theta[rows.i] + features @ beta))
    covariance, n_clusters = sandwich(rows, residual, residual[:, None] * features, information)
    known, more, informed = _told_apart(undecided, core, anchor, name)
    found = points_of(rows, theta, covariance, n_clusters, core & known, core & known, anchor, mean, concerns + more)
    if np.isnan(found.rating).all():  # nothing is extrapolated
        found = replace(found, concerns=tuple(c for c in found.concerns if c.kind != f"{name}_stretched"))
    nothing, slopes = undefined(len(rows.p), rows.n_clusters), []
    for f, variance in enumerate(np.diag(covariance)[rows.models :].tolist()):
        slopes.append(_slope(nothing, float(beta[f]), variance) if informed[f] and features[:, f].any() else nothing)
    return replace(found, slopes=tuple(slopes))


def _told_apart(information, core, anchor: int | None, name: str) -> tuple[np.ndarray, list[Concern], np.ndarray]:
    """Which models' ratings at equal style are known, (M,), what to say of the others, and of which slopes something is
    known, (k,), from the information that comparisons by an undecided judge would have."""
    m, k = len(core), len(information) - len(core)
    if not core.any():
        return np.ones(m, dtype=bool), [], np.zeros(k, dtype=bool)
    reference = np.eye(m)[anchor] if anchor is not None else core / core.sum()
    ratios, on_slopes = error_ratios(information, np.eye(m) - reference)
    confounded = core & (ratios > CONFOUNDED)
    named = {f"{name}_stretched": core & (ratios > STRETCHED) & ~confounded, f"{name}_confounded": confounded}
    said = [Concern(kind, tuple(np.flatnonzero(mask).tolist())) for kind, mask in named.items() if mask.any()]
    return ~confounded, said, on_slopes >= LEAST_INFORMATION


def _slope(empty: Estimate, beta: float, variance: float) -> Estimate:
    stderr = positive(math.sqrt(max(float(variance), 0.0)), beta)
    if not math.isfinite(beta) or empty.n_clusters < MIN_CLUSTERS or math.isnan(stderr):
        return replace(empty, value=beta)
    half = float(t_quantiles(UPPER, empty.n_clusters - 1)) * stderr
    return replace(empty, value=beta, stderr=stderr, low=beta - half, high=beta + half)


def _maximum(rows: Rows, weight, features, core) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """theta (M,), beta (k,) and the information at the maximum of the penalised likelihood, NaN without one; and the
    information where all is undecided."""
    m, k, i, j, total = rows.models, features.shape[1], rows.i, rows.j, float(weight.sum())
    hold = np.diag(np.append(~core, np.full(k, SLOPE_PRECISION)).astype(float))
    hold[:m, :m] += max(total, 1.0) / max(m, 1)
    prior = np.append(np.zeros(m), np.full(k, SLOPE_PRECISION))

    def value(x):
        z = x[j] - x[i] + features @ x[m:]
        return float((weight * (rows.p * z - np.logaddexp(0, z))).sum() - prior @ x**2 / 2)

    def derivatives(x):
        p = logistic(x[j] - x[i] + features @ x[m:])
        residual, v = weight * (rows.p - p), weight * p * (1 - p)
        gradient = np.append(_signed(rows, residual), residual @ features) - prior * x
        games = np.bincount(i * m + j, v, m * m).reshape(m, m)
        games = games + games.T
        edge = np.stack([_signed(rows, v * column) for column in features.T], axis=1)
        corner = features.T @ (v[:, None] * features)
        return gradient, np.block([[np.diag(games.sum(axis=1)) - games, edge], [edge.T, corner]]) + hold

    x, start = None, np.zeros(m + k)
    undecided = derivatives(start)[1]
    if core.sum() >= 2 and _enough(undecided, m, features):
        x = newton(value, solved_step(derivatives), start, TOLERANCE * total)
    if x is None:
        return np.full(m, np.nan), np.full(k, np.nan), np.full((m + k, m + k), np.nan), undecided
    return x[:m], x[m:], derivatives(x)[1], undecided


def _enough(undecided, m: int, features) -> bool:
    """Whether something is known of a slope or of a mean of some; without any difference of style nothing needs to
    be."""
    return not features.any() or bool(np.linalg.eigvalsh(slope_information(undecided, m))[-1] >= LEAST_INFORMATION)


def _signed(rows: Rows, x) -> np.ndarray:
    """Each model's sum of x where it is j, less that where it is i."""
    return np.bincount(rows.j, x, rows.models) - np.bincount(rows.i, x, rows.models)
