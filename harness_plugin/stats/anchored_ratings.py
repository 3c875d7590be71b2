"""Ratings of models for people, from a judge's verdicts on all battles and people's labels on some of them.

The score of a Bradley-Terry likelihood is linear in the outcome, so prediction-powered inference corrects it battle by
battle as it corrects a mean (AutoEval: Boyeau et al. 2024, arXiv:2403.07008; here clustered by prompt and with ties).
See `anchored` for what it rests on. Knows arrays only.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from harness_plugin.stats.anchored import FEWEST_LABELS, Labelled, adds_nothing, tuned, weighted_correlation
from harness_plugin.stats.estimates import UPPER, cluster_codes, undefined
from harness_plugin.stats.measures import logistic
from harness_plugin.stats.ratings import (
    FEW_CLUSTERS,
    MEAN,
    POINTS,
    Concern,
    Ratings,
    known_errors,
    log_normaliser,
    moments,
    outcome_graph,
)
from harness_plugin.stats.search import newton, solved_step
from harness_plugin.stats.student import t_quantiles

TOLERANCE = 1e-20
_COLUMNS = ("i", "j", "people", "judge", "inverse", "asked", "known", "codes")


@dataclass(frozen=True, eq=False)
class AnchoredRatings:
    """`ratings`: corrected by the labels; n counts labels and n_clusters prompts that hold one, concerns are about the
    labels. labels_alone: the same without the judge. labels: of the rated models. tuning: the weight of the judge, one
    for all. correlation: of judge and people over the labelled battles, beyond what the ratings say. worth: how many
    labels alone would give the same errors of the differences."""

    ratings: Ratings
    labels_alone: Ratings
    labels: int
    tuning: float
    correlation: float
    worth: float

    @property
    def adds_nothing(self) -> bool:
        """Whether the judge is too weak to help, so that the labels alone were used."""
        return adds_nothing(self.correlation, self.labels)


def anchored_ratings(
    i, j, people, judge, *, ties=None, probability=None, known=None, clusters=None, models=None, anchor=None, mean=MEAN
) -> AnchoredRatings:
    """Bradley-Terry ratings by people's labels and a judge, or Davidson's where `ties` are given.

    i, j: model indices (n,). people: how much of a win j has for people, (n,), a tie 0.5, NaN where there is no label.
    judge: the same for the judge, everywhere. ties: (2, n), of people and of the judge: the share or the probability of
    a tie. probability, known, clusters: as in `anchored_mean`; models, anchor, mean: as in `bradley_terry_ratings`.

    Solves sum of w_i x_i p_i = sum of x_i [w_i Y_i / W + l (1/N - w_i / W) f_i] with the weights (1 - l) w_i / W + l/N
    on the left, for the l that minimises the errors of all differences, found from a fit at l = 0. The errors are those
    of the prompts' influence sums times sqrt(n / (n - M + 1)). Models that are unbeaten, winless, or not connected with
    the others in the labels have NaN. Models with fewer than 10 labels have a rating without an error, and are no part
    of the mean of all ratings: a fit follows few labels, and what is left of them tells nothing of the error. Raises
    ValueError for input that does not fit together.
    """
    rows = _rows(i, j, people, judge, ties, probability, known, clusters, models)
    core, _, concerns = outcome_graph(*rows.tables(), anchor)
    rows = rows.among(core)
    if rows.with_ties and not rows.people[1].any():
        rows, concerns = replace(rows, with_ties=False), [*concerns, Concern("no_ties", ())]
    if rows.with_ties and rows.asked.any() and (rows.people[1][rows.asked] == 1).all():
        rows, concerns = replace(rows, with_ties=False), [*concerns, Concern("all_ties", ())]
    core = core & (rows.labels >= max(FEWEST_LABELS, int(core.sum())))
    sure = core & (rows.counts >= FEWEST_LABELS)
    if core.sum() < 2 or sure.sum() < 2:
        nothing = _nothing(rows, [*concerns, Concern("few_labels", tuple(range(rows.models)))])
        return AnchoredRatings(nothing, nothing, rows.labels, 0.0, math.nan, math.nan)
    if (unsure := core & ~sure).any():
        concerns = [*concerns, Concern("few_own_labels", tuple(np.flatnonzero(unsure).tolist()))]
    alone = _fit(rows, core, 0.0)
    correlation = _correlation(rows, core, alone)
    centre = (np.eye(rows.models) - sure / sure.sum()) * sure[:, None]
    contrasts = [influence[:, : rows.models] @ centre.T for influence in (alone.of_labels, alone.of_judge)]
    useless = adds_nothing(correlation, rows.labels) or not np.isfinite(contrasts[1]).all()
    tuning = 0.0 if useless else tuned(*contrasts)
    best = _fit(rows, core, tuning)
    if not np.isfinite(best.theta).all():
        tuning, best = 0.0, alone
    squares = [float(((f.influence[:, : rows.models] @ centre.T) ** 2).sum()) for f in (alone, best)]
    worth = rows.labels * squares[0] / squares[1] if squares[1] > 0 else math.nan
    found, without = (_ratings(rows, f, core, sure, anchor, mean, concerns) for f in (best, alone))
    return AnchoredRatings(found, without, rows.labels, tuning, correlation, worth)


@dataclass(frozen=True, eq=False)
class _Rows(Labelled):
    i: np.ndarray
    j: np.ndarray
    people: np.ndarray  # (2, n): lean to j, Y - 1/2, and tie; 0 where there is no label
    judge: np.ndarray
    known: np.ndarray
    models: int
    with_ties: bool

    @property
    def counts(self) -> np.ndarray:
        """Labels of each model's battles, (M,)."""
        return np.bincount(np.concatenate([self.i[self.asked], self.j[self.asked]]), minlength=self.models)

    @property
    def scale(self) -> tuple[np.ndarray, np.ndarray]:
        """What each battle counts among the labelled and among all, (n,) each, with the sum 1. The labels stand for all
        battles that are not known without them, whatever the scale of their probabilities."""
        n, asked = len(self.i), np.where(self.asked, self.inverse, 0.0)
        return self.known / n + asked / asked.sum() * (1 - self.known.sum() / n), np.full(n, 1 / n)

    def tables(self) -> tuple[np.ndarray, np.ndarray]:
        """Wins and ties in the labels, as `outcome_graph` reads them."""
        m, w = self.models, self.inverse
        ties = self.people[1] if self.with_ties else np.zeros(len(self.i))
        won = np.clip(self.people[0] + 0.5 - ties / 2, 0.0, 1.0)
        lost = np.clip(0.5 - self.people[0] - ties / 2, 0.0, 1.0)
        at_ij, at_ji = self.i * m + self.j, self.j * m + self.i
        wins = np.bincount(at_ji, w * won, m * m) + np.bincount(at_ij, w * lost, m * m)
        drawn = np.bincount(at_ij, w * ties, m * m).reshape(m, m)
        return wins.reshape(m, m), drawn + drawn.T

    def among(self, core) -> "_Rows":
        """The battles between two of these models."""
        kept = core[self.i] & core[self.j]
        arrays = {name: getattr(self, name)[..., kept] for name in _COLUMNS}
        return replace(self, **arrays)


def _rows(i, j, people, judge, ties, probability, known, clusters, models) -> _Rows:
    i, j = (np.asarray(x).reshape(-1).astype(np.int64) for x in (i, j))
    n, people, judge = len(i), np.asarray(people, dtype=np.float64), np.asarray(judge, dtype=np.float64)
    probability = np.ones(n) if probability is None else np.asarray(probability, dtype=np.float64)
    known = np.zeros(n, dtype=bool) if known is None else np.asarray(known, dtype=bool)
    tied = np.zeros((2, n)) if ties is None else np.asarray(ties, dtype=np.float64)
    if any(x.shape[-1] != n for x in (j, people, judge, probability, known, tied)):
        raise ValueError("every array needs one entry for each battle")
    labelled = np.isfinite(people)
    chance = np.where(labelled & ~known, probability, 1.0)
    if not np.isfinite(judge).all() or (i == j).any() or not ((chance > 0) & (chance <= 1)).all():
        raise ValueError("needs finite values of the judge, two models in each battle, and probabilities in (0, 1]")
    codes, count = cluster_codes(clusters, n)
    size = (int(max(i.max(), j.max())) + 1 if n else 0) if models is None else int(models)
    by_people = np.where(labelled, np.stack([people - 0.5, tied[0]]), 0.0)
    by_judge = np.stack([judge - 0.5, tied[1]])
    inverse = np.where(labelled, 1 / chance, 0.0)
    with_ties, seen = ties is not None, labelled & known
    return _Rows(inverse, labelled & ~known, codes, count, i, j, by_people, by_judge, seen, size, with_ties)


@dataclass(frozen=True, eq=False)
class _Fit:
    theta: np.ndarray
    eta: float
    of_labels: np.ndarray  # (G, parameters): the influence of each prompt
    of_judge: np.ndarray
    tuning: float

    @property
    def influence(self) -> np.ndarray:
        return self.of_labels + self.tuning * self.of_judge


def _fit(rows: _Rows, core, tuning: float) -> _Fit:
    """The maximum of the corrected likelihood, and the influence of each prompt's labels and judgements on it; NaN
    where there is none."""
    m, (w, v) = rows.models, rows.scale
    outcome = w * rows.people + tuning * (v - w) * rows.judge
    weight = (1 - tuning) * w + tuning * v
    theta, eta, information = _maximum(rows, outcome, weight, core)
    lean, tie = moments(theta[rows.j] - theta[rows.i], eta)[:2]
    expected = np.stack([lean, tie])
    bread = np.linalg.inv(information)

    def by_prompt(parts) -> np.ndarray:
        scores = np.zeros((rows.clusters, m + rows.with_ties))
        flat = np.bincount(rows.codes * m + rows.j, parts[0], rows.clusters * m)
        scores[:, :m] = (flat - np.bincount(rows.codes * m + rows.i, parts[0], rows.clusters * m)).reshape(-1, m)
        if rows.with_ties:
            scores[:, m] = np.bincount(rows.codes, parts[1], rows.clusters)
        return scores @ bread

    return _Fit(
        theta,
        eta,
        by_prompt(w * (rows.people - expected)),
        by_prompt((v - w) * (rows.judge - expected)),
        tuning,
    )


def _maximum(rows: _Rows, outcome, weight, core) -> tuple[np.ndarray, float, np.ndarray]:
    """theta (M,), ln nu (-inf without ties) and the information at the maximum; NaN where there is none."""
    m, i, j = rows.models, rows.i, rows.j
    size = m + rows.with_ties
    # The sum of theta and the models that are not rated are held: no score can feel them.
    hold = np.zeros((size, size))
    hold[:m, :m] = np.diag((~core).astype(float)) + 1 / m

    def value(x):
        d, eta = x[j] - x[i], x[m] if rows.with_ties else -math.inf
        tied = eta * outcome[1].sum() if rows.with_ties else 0.0
        return float(outcome[0] @ d - weight @ log_normaliser(d, eta) + tied)

    def derivatives(x):
        d, eta = x[j] - x[i], x[m] if rows.with_ties else -math.inf
        lean, tie, lean_var, tie_var, cov = moments(d, eta)
        residual, edge = outcome[0] - weight * lean, weight * cov
        gradient = np.bincount(j, residual, m) - np.bincount(i, residual, m)
        games = np.bincount(i * m + j, weight * lean_var, m * m).reshape(m, m)
        games = games + games.T
        information = np.diag(games.sum(axis=1)) - games
        if rows.with_ties:
            gradient = np.append(gradient, outcome[1].sum() - weight @ tie)
            side = (np.bincount(j, edge, m) - np.bincount(i, edge, m))[:, None]
            information = np.block([[information, side], [side.T, np.array([[weight @ tie_var]])]])
        return gradient, information + hold

    x = newton(value, solved_step(derivatives), np.zeros(size), TOLERANCE)
    if x is None or not np.isfinite(x).all():
        return np.full(m, np.nan), math.nan if rows.with_ties else -math.inf, np.full((size, size), np.nan)
    return x[:m], float(x[m]) if rows.with_ties else -math.inf, derivatives(x)[1]


def _correlation(rows: _Rows, core, alone: _Fit) -> float:
    """Of what people and the judge say of the labelled battles beyond the ratings that each gives."""
    w, v = rows.scale
    own = _maximum(replace(rows, with_ties=False), v * rows.judge, v, core)[0]
    d, of_judge = (theta[rows.j] - theta[rows.i] for theta in (alone.theta, own))
    if not np.isfinite(of_judge).all():
        of_judge = np.zeros(len(d))
    people, judge = rows.people[0] + 0.5 - logistic(d), rows.judge[0] + 0.5 - logistic(of_judge)
    return weighted_correlation(people, judge, w * rows.asked)


def _ratings(rows: _Rows, fit: _Fit, core, sure, anchor: int | None, mean: float, concerns) -> Ratings:
    m, n, prompts = rows.models, rows.labels, rows.prompts
    reference = np.eye(m)[anchor] if anchor is not None else sure / sure.sum()
    centre = np.eye(m) - reference
    influence = fit.influence[:, :m] @ centre.T * POINTS
    covariance = influence.T @ influence * n / (n - core.sum() + 1)
    covariance[~sure, :], covariance[:, ~sure] = np.nan, np.nan
    rating = np.where(core, mean + POINTS * (centre @ fit.theta), np.nan)
    clusters = np.where(core, prompts, 0)
    stderr = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    if anchor is not None and not sure[anchor]:
        stderr[:] = np.nan
    stderr = known_errors(stderr, anchor)
    half = t_quantiles(UPPER, clusters - 1) * stderr
    few = (Concern("few_clusters", tuple(np.flatnonzero(core).tolist())),) if prompts < FEW_CLUSTERS else ()
    tie = replace(undefined(n, prompts), value=math.exp(fit.eta)) if rows.with_ties else undefined(n, prompts)
    if rows.with_ties:
        error = math.sqrt(float(fit.influence[:, m] @ fit.influence[:, m]) * n / max(n - int(core.sum()), 1))
        half_tie = float(t_quantiles(UPPER, prompts - 1)) * error
        ends = tie.value * math.exp(-half_tie), tie.value * math.exp(half_tie)
        tie = replace(tie, stderr=tie.value * error, low=ends[0], high=ends[1])
    bounds = rating - half, rating + half
    return Ratings(rating, stderr, *bounds, covariance, rows.counts, clusters, tie, (), (*concerns, *few))


def _nothing(rows: _Rows, concerns) -> Ratings:
    m, missing = rows.models, undefined(rows.labels, rows.prompts)
    none, zero = np.full(m, np.nan), np.zeros(m, dtype=int)
    return Ratings(none, none, none, none, np.full((m, m), np.nan), zero, zero, missing, (), tuple(concerns))
