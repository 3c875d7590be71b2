"""Ratings of models on the Arena scale from their comparisons: Bradley-Terry, and Davidson's model where ties matter.
`style_ratings` has them at equal style.

Outcomes may be soft. All errors are clustered by prompt, because every model answers the same prompts: taken as
independent, comparisons give 95 % intervals that hold the truth about 60 % of the time. Knows arrays only.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from harness_plugin.stats.estimates import ROUNDING, UPPER, Estimate, cluster_codes, positive, undefined
from harness_plugin.stats.multiple import MIN_CLUSTERS, Pairwise, pairwise
from harness_plugin.stats.search import newton, solved_step
from harness_plugin.stats.student import t_quantiles

POINTS = 400 / math.log(10)  # of a rating, for one natural logit
MEAN = 1000.0
FEW_CLUSTERS = 30
# A model that only wins or only loses has no finite rating. It gets a normal prior around the mean of the others, with
# a deviation of 1 / sqrt(0.1) logits or 550 points; the others are fitted without it.
PRIOR = 0.1
NEVER = 1e-9  # a smaller share of wins counts as none: doubles cannot hold the rating that belongs to it
LARGEST_TIE = 25.0  # |ln nu| beyond this is the search running away, not a maximum
TOLERANCE = 1e-20  # of Newton's search, for each comparison
EXACT = 1e-2  # points of rating: a smaller error is rounding, or would take a thousand million battles


@dataclass(frozen=True)
class Concern:
    """What a reader of the ratings must know, and the models concerned (their indices, sorted).

    few_clusters: fewer than 30 prompts, intervals are rough. uncompared: no comparison. disconnected: no chain of
    comparisons leads to the rated models; rating NaN. unbeaten, winless, separated (a group that only wins or only
    loses against the rest): the rating rests on a prior, the interval is NaN. no_ties: nu is zero and the fit is
    Bradley-Terry's. unbounded: the likelihood has no maximum; everything is NaN. length_stretched, style_stretched: the
    rating at equal length or style rests mostly on extrapolation. length_confounded, style_confounded: there it is NaN,
    because length or style and quality cannot be told apart.
    """

    kind: str
    models: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Ratings:
    """Ratings in Arena points (400 per factor 10 in the odds), arrays of shape (M,), NaN for what cannot be known.

    stderr, low, high: of the rating relative to the mean of the rated models, or to the anchor (whose own error is 0).
    covariance: (M, M), points squared. n, n_clusters: comparisons and prompts of each model. tie: Davidson's nu.
    slopes: logits for each feature of style that is held equal (`style_ratings`), the first of them `slope`.
    """

    rating: np.ndarray
    stderr: np.ndarray
    low: np.ndarray
    high: np.ndarray
    covariance: np.ndarray
    n: np.ndarray
    n_clusters: np.ndarray
    tie: Estimate
    slopes: tuple[Estimate, ...]
    concerns: tuple[Concern, ...]

    @property
    def slope(self) -> Estimate:
        return self.slopes[0]

    def estimate(self, model: int) -> Estimate:
        """One model's rating."""
        values = (float(column[model]) for column in (self.rating, self.stderr, self.low, self.high))
        value, stderr, low, high = values
        return Estimate(value, stderr, int(self.n[model]), int(self.n_clusters[model]), low, high)

    def tests(self) -> Pairwise:
        """Differences between all pairs with their own errors: never the overlap of two intervals."""
        variance = np.diag(self.covariance)
        both = variance[:, None] + variance[None, :]
        squared = both - 2 * self.covariance
        squared[squared <= ROUNDING * both] = 0.0  # two models whose results are the same everywhere
        clusters = np.minimum(self.n_clusters[:, None], self.n_clusters[None, :])
        difference = self.rating[:, None] - self.rating[None, :]
        return pairwise(difference, np.sqrt(squared), clusters)


def bradley_terry_ratings(i, j, p, *, weight=None, clusters=None, models=None, anchor=None, mean=MEAN) -> Ratings:
    """Bradley-Terry ratings by maximum likelihood (Bradley and Terry 1952), for soft outcomes too.

    i, j: model indices (n,). p: P(j beats i), or a soft outcome in [0, 1], a tie 0.5 (n,). weight: comparisons that a
    row stands for (default 1). clusters: the prompts' names (n,). models: M (default: as many as are named). The
    rated models have the mean `mean`, or the model `anchor` has that rating. Intervals are t, with the model's
    clusters - 1 degrees of freedom. Raises ValueError for input that is no comparison.
    """
    return _fit(comparison_rows(i, j, p, None, weight, clusters, models), anchor, mean)


def davidson_ratings(i, j, p, tie, *, weight=None, clusters=None, models=None, anchor=None, mean=MEAN) -> Ratings:
    """Ratings with ties (Davidson 1970): P(j beats i), P(i beats j), P(tie) are as e^(d/2), e^(-d/2), nu.

    As `bradley_terry_ratings`, with p: P(j beats i) and tie: P(tie), both (n,), p + tie at most 1. `tie` of the result
    is nu, its interval that of ln nu. Differences of ratings are log odds of the decisive comparisons.
    """
    return _fit(comparison_rows(i, j, p, tie, weight, clusters, models), anchor, mean, with_ties=True)


@dataclass(frozen=True, eq=False)
class Rows:
    """n comparisons, shape (n,) each: of the models `i` and `j`, with the outcomes `p` and `tie`, a `weight`, and the
    number of the cluster in `codes`; `n_clusters` and `models` say how many of them there are."""

    i: np.ndarray
    j: np.ndarray
    p: np.ndarray  # of j
    tie: np.ndarray
    weight: np.ndarray
    codes: np.ndarray
    n_clusters: int
    models: int

    def tables(self) -> tuple[np.ndarray, np.ndarray]:
        """Wins of the row's model over the column's, and ties (symmetric): both (M, M)."""
        m, wins_i = self.models, np.maximum(1 - self.p - self.tie, 0.0)
        at_ij, at_ji = self.i * m + self.j, self.j * m + self.i
        wins = np.bincount(at_ji, self.weight * self.p, m * m) + np.bincount(at_ij, self.weight * wins_i, m * m)
        ties = np.bincount(at_ij, self.weight * self.tie, m * m).reshape(m, m)
        return wins.reshape(m, m), ties + ties.T


def comparison_rows(i, j, p, tie, weight, clusters, models) -> Rows:
    """The comparisons as arrays of one type, checked. None for p is one half of a win, for tie no tie, for weight 1.
    Raises ValueError for arrays of different lengths, numbers that cannot be, and a model that meets itself."""
    i, j = (np.asarray(x).reshape(-1) for x in (i, j))
    n = len(i)
    p, tie, weight = (
        np.full(n, default) if x is None else np.asarray(x, dtype=np.float64).reshape(-1)
        for x, default in ((p, 0.5), (tie, 0.0), (weight, 1.0))
    )
    for name, x in (("j", j), ("p", p), ("tie", tie), ("weight", weight)):
        if len(x) != n:
            raise ValueError(f"{name} has {len(x)} entries for {n} comparisons")
        if not np.isfinite(x).all():
            raise ValueError(f"{name} has numbers that are not finite")
    if n and (i.dtype.kind not in "iu" or j.dtype.kind not in "iu" or min(i.min(), j.min()) < 0):
        raise ValueError("models must be whole numbers from 0")
    i, j = i.astype(np.int64), j.astype(np.int64)
    models = (int(max(i.max(), j.max())) + 1 if n else 0) if models is None else int(models)
    if n and max(i.max(), j.max()) >= models:
        raise ValueError(f"a model is {max(i.max(), j.max())}, and there are {models}")
    if (i == j).any():
        raise ValueError(f"comparison {int(np.argmax(i == j))} is of a model with itself")
    if ((p < 0) | (tie < 0) | (p + tie > 1 + 1e-9)).any() or (weight < 0).any():
        raise ValueError("p and tie must be probabilities that add up to at most 1, weights at least 0")
    codes, _ = cluster_codes(clusters, n)
    used = weight > 0
    codes, n_clusters = cluster_codes(codes[used], int(used.sum()))
    return Rows(i[used], j[used], p[used], tie[used], weight[used], codes, n_clusters, models)


def checked_anchor(anchor: int | None, rows: Rows) -> int | None:
    """The anchor, if it is None or one of the models. Raises ValueError."""
    if anchor is not None and not 0 <= anchor < rows.models:
        raise ValueError(f"the anchor is model {anchor}, and there are {rows.models}")
    return anchor


def _fit(rows: Rows, anchor: int | None, mean: float, with_ties: bool = False) -> Ratings:
    wins, ties = rows.tables()
    core, linked, concerns = outcome_graph(wins, ties, checked_anchor(anchor, rows))
    among = core[:, None] & core[None, :]
    theta, eta, information = _maximum(wins * among, ties * among, core)
    if np.isnan(eta):
        concerns.append(Concern("unbounded", tuple(range(rows.models))))
    elif with_ties and (wins * among).any() and not (ties * among).any():
        concerns.append(Concern("no_ties", ()))
    weight = rows.weight * among[rows.i, rows.j]
    with np.errstate(invalid="ignore"):  # all NaN where the search found nothing
        lean, tie = moments(theta[rows.j] - theta[rows.i], eta)[:2]
    residual = weight * (rows.p + rows.tie / 2 - 0.5 - lean)
    of_tie = (weight * (rows.tie - tie))[:, None] if len(information) > rows.models else None
    covariance, n_clusters = sandwich(rows, residual, of_tie, information)
    if (apart := linked & ~core).any():
        everyone = _maximum(wins, ties, core)[0]
        theta[apart] = (everyone - everyone[core].mean() + theta[core].mean())[apart]
    found = points_of(rows, theta, covariance, n_clusters, core, linked, anchor, mean, concerns)
    if with_ties and core.sum() > 1:
        found = replace(found, tie=_tie(found.tie, eta, covariance[-1, -1]))
    return found


def points_of(rows: Rows, theta, covariance, n_clusters, core, linked, anchor, mean: float, concerns) -> Ratings:
    """theta (M,) in logits to ratings in points relative to the anchor or to the mean of the core."""
    few = np.flatnonzero((n_clusters > 0) & (n_clusters < FEW_CLUSTERS))
    concerns += [Concern("few_clusters", tuple(few.tolist()))] if len(few) else []
    reference = np.eye(rows.models)[anchor] if anchor is not None else core / max(core.sum(), 1)
    centre = np.eye(rows.models) - reference
    rating = np.where(linked, mean + POINTS * (centre @ theta), np.nan)
    points = POINTS**2 * centre @ covariance[: rows.models, : rows.models] @ centre.T
    # The mean of one model is that model: it has no error to speak of, unless it is the anchor by choice.
    known = core & (n_clusters >= MIN_CLUSTERS) & (core.sum() > 1 or anchor is not None)
    points[~known, :], points[:, ~known] = np.nan, np.nan
    stderr = known_errors(np.sqrt(np.maximum(np.diag(points), 0.0)), anchor)
    half = t_quantiles(UPPER, n_clusters - 1) * stderr
    counts = np.bincount(np.concatenate([rows.i, rows.j]), minlength=rows.models)
    nothing = undefined(len(rows.p), rows.n_clusters)
    bounds = rating - half, rating + half
    return Ratings(rating, stderr, *bounds, points, counts, n_clusters, nothing, (), tuple(concerns))


def known_errors(stderr: np.ndarray, anchor: int | None) -> np.ndarray:
    """The errors (M,) of ratings, NaN where they are 0: outcomes that the ratings fit exactly, such as ties alone, do
    not say how far from the truth the ratings are. That of the anchor is 0 by choice."""
    exact = (stderr < EXACT) & (np.arange(len(stderr)) != (-1 if anchor is None else anchor))
    return np.where(exact, np.nan, stderr)


def _tie(empty: Estimate, eta: float, variance: float) -> Estimate:
    """nu with the interval of ln nu, whose variance is given."""
    nu = math.exp(eta)
    stderr = positive(math.sqrt(max(float(variance), 0.0)), 1.0)
    if not math.isfinite(eta) or empty.n_clusters < MIN_CLUSTERS or math.isnan(stderr):
        return replace(empty, value=nu)
    half = float(t_quantiles(UPPER, empty.n_clusters - 1)) * stderr
    return replace(empty, value=nu, stderr=nu * stderr, low=nu * math.exp(-half), high=nu * math.exp(half))


def outcome_graph(wins, ties, anchor) -> tuple[np.ndarray, np.ndarray, list[Concern]]:
    """Which models have finite ratings relative to each other, which are linked to those at all, and what to say.

    Ratings are finite within a group where each model reaches each other through wins (Ford 1957). Of several such
    groups the anchor's counts, else the largest, of equal ones that of the first model.
    """
    games = wins + wins.T + ties
    score = wins + ties / 2
    reach = _closure(score > NEVER * np.maximum(games, 1e-300))
    strong = reach & reach.T
    first = anchor if anchor is not None else int(np.argmax(strong.sum(axis=1))) if len(wins) else 0
    core = strong[first] if len(wins) else np.zeros(0, dtype=bool)
    linked = _closure(games > 0)[first] if len(wins) else core
    compared = games.sum(axis=1) > 0
    apart = linked & ~core
    unbeaten = apart & (score <= NEVER * games).all(axis=0)
    winless = apart & (score <= NEVER * games).all(axis=1)
    named = {
        "uncompared": ~compared,
        "disconnected": compared & ~linked,
        "unbeaten": unbeaten,
        "winless": winless,
        "separated": apart & ~unbeaten & ~winless,
    }
    found = [Concern(kind, tuple(np.flatnonzero(mask).tolist())) for kind, mask in named.items() if mask.any()]
    return core & compared, linked & compared, found


def _closure(edges: np.ndarray) -> np.ndarray:
    """Which model reaches which along the edges, itself included; (M, M) of bool."""
    reach = edges | np.eye(len(edges), dtype=bool)
    for _ in range(max(len(edges) - 1, 1).bit_length()):
        reach = (reach.astype(np.float32) @ reach.astype(np.float32)) > 0
    return reach


def log_normaliser(d, eta: float) -> np.ndarray:
    """ln(e^(d/2) + e^(-d/2) + e^eta) at log odds d."""
    return np.logaddexp(np.logaddexp(d / 2, -d / 2), eta)


def moments(d, eta: float) -> tuple[np.ndarray, ...]:
    """At log odds d: the mean of (win - loss) / 2, P(tie), their variances, and their covariance."""
    log_z = log_normaliser(d, eta)
    win, loss, tie = np.exp(d / 2 - log_z), np.exp(-d / 2 - log_z), np.exp(eta - log_z)
    lean = (win - loss) / 2
    return lean, tie, win * loss + tie * (win + loss) / 4, tie * (win + loss), -lean * tie


def _log_likelihood(x, wins, ties) -> float:
    """At x = (theta, and eta if there are ties). Each comparison stands in the symmetric tables twice, hence the
    halves, here and in the derivatives."""
    m, games = len(wins), wins + wins.T + ties
    d, eta = x[:m, None] - x[None, :m], float(x[m]) if len(x) > m else -math.inf
    value = float((wins * d).sum() - (games * log_normaliser(d, eta)).sum()) / 2
    return value + eta * float(ties.sum()) / 2 if len(x) > m else value


def _derivatives(x, wins, ties) -> tuple[np.ndarray, np.ndarray]:
    """The gradient of the log-likelihood at x, and its negative Hessian."""
    m, games = len(wins), wins + wins.T + ties
    with_ties = len(x) > m
    d, eta = x[:m, None] - x[None, :m], float(x[m]) if with_ties else -math.inf
    lean, tie, lean_var, tie_var, cov = moments(d, eta)
    gradient = ((wins - wins.T) / 2 - games * lean).sum(axis=1)
    information = np.diag((games * lean_var).sum(axis=1)) - games * lean_var
    if not with_ties:
        return gradient, information
    gradient = np.append(gradient, (ties - games * tie).sum() / 2)
    edge = (games * cov).sum(axis=1)
    corner = np.array([[(games * tie_var).sum() / 2]])
    return gradient, np.block([[information, edge[:, None]], [edge[None, :], corner]])


def _maximum(wins, ties, core) -> tuple[np.ndarray, float, np.ndarray]:
    """theta (M,), ln nu and the information at the maximum of the likelihood; NaN without one.

    The information is regular: a prior holds the models outside the core, and a constant that no score can feel
    holds the sum of theta at zero.
    """
    m, with_ties, total = len(wins), bool(ties.any()), float(wins.sum() + ties.sum() / 2)
    size = m + with_ties
    nothing = np.full(m, np.nan), math.nan, np.full((size, size), np.nan)
    if with_ties and not wins.any():
        return nothing
    outside = np.eye(m)[~core] - core / max(core.sum(), 1)
    hold, pin = np.zeros((size, size)), np.zeros((size, size))
    hold[:m, :m], pin[:m, :m] = PRIOR * outside.T @ outside, max(total, 1.0) / max(m, 1)

    def derivatives(x):
        gradient, information = _derivatives(x, wins, ties)
        return gradient - hold @ x, information + hold + pin

    start = np.append(np.zeros(m), [math.log(ties.sum() / wins.sum())] if with_ties else [])
    x = newton(
        lambda x: _log_likelihood(x, wins, ties) - x @ hold @ x / 2, solved_step(derivatives), start, TOLERANCE * total
    )
    if x is None or not np.isfinite(x).all() or (with_ties and abs(x[m]) > LARGEST_TIE):
        return nothing
    return x[:m], float(x[m]) if with_ties else -math.inf, derivatives(x)[1]


def sandwich(rows: Rows, residual, extra, information) -> tuple[np.ndarray, np.ndarray]:
    """The covariance of theta and of the parameters beside it, clustered by prompt, and each model's clusters.

    residual: each row's derivative by theta_j, minus that by theta_i; extra: by the others, (n, f), None without any.
    H^-1 B H^-1 with B = G / (G - 1) * the sum over G clusters of s s' for each one's score s (Liang and Zeger 1986).
    A bootstrap over prompts gives the same errors, and its percentiles cover less where prompts are few.
    """
    from scipy.sparse import coo_array  # here, so that `arena-rm --help` does not pay for scipy

    m = rows.models
    at = np.concatenate([rows.codes, rows.codes]), np.concatenate([rows.j, rows.i])
    scores = coo_array((np.concatenate([residual, -residual]), at), shape=(rows.n_clusters, m)).tocsr()
    clusters_of = np.bincount(scores.indices, minlength=m)  # zeros are stored, so every cluster of a model counts
    if rows.n_clusters < MIN_CLUSTERS or not np.isfinite(information).all():
        return np.full(information.shape, np.nan), clusters_of
    meat = (scores.T @ scores).toarray()
    if extra is not None:
        beside = np.stack([np.bincount(rows.codes, column, rows.n_clusters) for column in extra.T], axis=1)
        edge = scores.T @ beside
        meat = np.block([[meat, edge], [edge.T, beside.T @ beside]])
    bread = np.linalg.inv(information)
    return rows.n_clusters / (rows.n_clusters - 1) * bread @ meat @ bread, clusters_of
