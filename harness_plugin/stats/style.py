"""The features of style that are held equal (length, and counts such as those of headings), and the guard that says
when style and quality cannot be told apart.

A feature is a number for each comparison, from -1 to 1, that changes its sign when the sides are exchanged. It is taken
around zero and never around its mean: with a fixed baseline the mean is the usual difference of style, and taking it
off would compare at that difference. The prior of a slope is far too weak to move it; a stronger one keeps style in the
ratings, most of all where it varies little between the answers of two models.
"""

import numpy as np

STRETCHED, CONFOUNDED = 2.0, 4.0  # how many times as large an error may be as without the style; see `error_ratios`
LEAST_INFORMATION = 1.0  # on a slope beside the models; with less, style and quality look the same
SLOPE_PRECISION = 0.01  # of the normal prior on a slope, which a judge of length alone would drive to infinity
NOTHING = 1e-12  # of an information or a squared slope: rounding


def length_feature(difference) -> np.ndarray:
    """tanh(difference / its root mean square), shape (n,): how much longer one answer of each pair is, from -1 to 1.

    The length term of AlpacaEval 2 (Dubois et al. 2024, arXiv:2404.04475). There each model has its own slope, and its
    differences are divided by their own standard deviation. Here all comparisons share one slope, so they share one
    scale; and it is taken around zero, not around the mean, so that exchanging the sides of a comparison changes the
    sign alone. A slope on this feature is in logits: what a judge adds for the much longer of two answers that are
    otherwise equal, of which a difference of one root mean square gets tanh(1) = 0.76. Zero where no lengths differ.
    """
    difference = np.asarray(difference, dtype=np.float64)
    scale = length_scale(difference)
    return np.tanh(difference / scale) if scale > 0 else np.zeros(len(difference))


def length_scale(difference) -> float:
    """The root mean square of differences of length, in characters: where `length_feature` is 0.76. 0 without any."""
    difference = np.asarray(difference, dtype=np.float64)
    return float(np.sqrt(np.mean(difference**2))) if len(difference) else 0.0


def length_difference(lengths_i, lengths_j, n: int) -> np.ndarray:
    """lengths_j - lengths_i, shape (n,), for characters of the answers of i and j.

    Raises ValueError for other shapes and for lengths that are negative or not finite.
    """
    first, second = (np.asarray(x, dtype=np.float64).reshape(-1) for x in (lengths_i, lengths_j))
    if any(len(x) != n or not np.isfinite(x).all() or (x < 0).any() for x in (first, second)):
        raise ValueError(f"lengths must be {n} finite numbers that are not negative")
    return second - first


def count_feature(counts_i, counts_j) -> np.ndarray:
    """(b - a) / (a + b + 1) for counts a of i's answer and b of j's, shape (n,): from -1 to 1, and 0 where they agree.

    The term of Chatbot Arena's style control (Li et al. 2024, "Does style matter?"), which is scaled there by its
    standard deviation over the battles: here a slope is what a judge adds for an answer with many of them over one
    without any. Raises ValueError for other shapes and for counts that are negative or not finite.
    """
    first, second = (np.asarray(x, dtype=np.float64).reshape(-1) for x in (counts_i, counts_j))
    if len(first) != len(second) or not all(np.isfinite(x).all() and (x >= 0).all() for x in (first, second)):
        raise ValueError("counts must be as many finite numbers that are not negative on both sides")
    return (second - first) / (first + second + 1)


def checked_features(features, n: int) -> np.ndarray:
    """The features of n comparisons, shape (n, k). Raises ValueError for another shape and numbers that are not
    finite."""
    features = np.asarray(features, dtype=np.float64)
    if features.ndim != 2 or len(features) != n or not np.isfinite(features).all():
        raise ValueError(f"features must be {n} rows of finite numbers")
    return features


def error_ratios(information, contrasts) -> tuple[np.ndarray, np.ndarray]:
    """(How many times as large the error of each contrast of models is beside the slopes as without them, (c,), and the
    information on each slope beside all else, (f,).)

    information: (k + f, k + f), of k parameters and f slopes, with the slopes' prior; contrasts: (c, k). A ratio above
    STRETCHED says that the estimate at equal style rests mostly on extrapolation; above CONFOUNDED style and quality
    cannot be told apart. In simulations intervals hold the truth up to there, and with the prior's help beyond, which
    draws the slopes to zero, they do not. What two slopes share, such as two features that always go together, hurts
    their own errors and not those of the models.
    """
    contrasts = np.asarray(contrasts, dtype=np.float64)
    k = contrasts.shape[1]
    slopes = slope_information(information, k)
    solved = np.linalg.solve(information[:k, :k], np.column_stack([information[:k, k:], contrasts.T]))
    moved, variance = contrasts @ solved[:, : len(slopes)], np.einsum("ck,kc->c", contrasts, solved[:, len(slopes) :])
    added = _added(slopes, moved)
    return np.sqrt(1 + np.divide(added, variance, out=np.zeros(len(added)), where=added > 0)), _alone(slopes)


def slope_information(information, k: int) -> np.ndarray:
    """The information on the slopes beside the k other parameters, (f, f), without the slopes' prior."""
    inner, edge = information[:k, :k], information[:k, k:]
    slopes = information[k:, k:] - edge.T @ np.linalg.solve(inner, edge)
    return slopes - SLOPE_PRECISION * np.eye(len(slopes))


def _added(slopes, moved) -> np.ndarray:
    """The variance that unknown slopes add to each contrast: moved' slopes^-1 moved, infinite where it needs a slope
    that nothing is known of, and untouched by one that it does not need."""
    values, directions = np.linalg.eigh(slopes)
    along = (moved @ directions) ** 2
    along[along <= NOTHING * np.maximum((moved**2).sum(axis=1, keepdims=True), NOTHING)] = 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(along > 0, along / np.maximum(values, 0.0), 0.0).sum(axis=1)


def _alone(slopes) -> np.ndarray:
    """The information on each slope when the others are unknown too."""
    found = []
    for f in range(len(slopes)):
        rest = np.delete(np.arange(len(slopes)), f)
        shared = slopes[f, rest] @ np.linalg.pinv(slopes[np.ix_(rest, rest)], hermitian=True) @ slopes[rest, f]
        found.append(slopes[f, f] - shared)
    return np.array(found)
