"""Verdicts -> who is better, by how much, and how sure that is. Numbers come from `stats`; no model, no file.

A verdict is a `Judgement` whose models are named.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness_plugin.errors import DataError
from harness_plugin.files.rounding import rounded_or_none
from harness_plugin.scoring.judgement import Judgement
from harness_plugin.scoring.judgement_arrays import JudgementArrays, judgement_arrays
from harness_plugin.stats import (
    TIE,
    B,
    Concern,
    ControlledWinRates,
    Pairwise,
    Ratings,
    WinRate,
    bradley_terry_ratings,
    clustered_mean,
    clustered_share,
    column_tests,
    davidson_ratings,
    jackknife,
    length_controlled_ratings,
    length_controlled_win_rates,
    length_scale,
    round_robin_win_rates,
    signed_codes,
    spearman,
    spearman_of_sides,
    style_controlled_ratings,
    style_controlled_win_rates,
    win_rates,
    win_table,
)
from harness_plugin.tournament.battles import Battles
from harness_plugin.tournament.board_numbers import POINTS, SHARE, numbers, tests_of
from harness_plugin.tournament.families import own_family
from harness_plugin.tournament.style import FEATURES, Styles, mean_counts, own_answers, side_counts, style_features

Controlled = ControlledWinRates | Ratings
"""Win rates against a baseline, or ratings without one, at equal length or style."""

SCHEMA = 1
# What each concern of `stats.ratings` means to a reader; the models follow.
CONCERNS = {
    "few_clusters": "fewer than 30 prompts, so intervals are rough",
    "uncompared": "no battle",
    "disconnected": "no chain of battles connects it with the other models, so it has no rating",
    "unbeaten": "won every battle, so the rating has no upper end",
    "winless": "lost every battle, so the rating has no lower end",
    "separated": "in a group that only wins or only loses against the rest",
    "no_ties": "the judge gives ties the probability 0",
    "unbounded": "the likelihood has no maximum, so there are no ratings",
    "length_stretched": "much longer or shorter than the others, so what it has at equal length is mostly extrapolated",
    "style_stretched": "of another style than the others, so what it has at equal style is mostly extrapolated",
    "style_confounded": "always of another style in about the same way, so style and quality cannot be told apart and "
    "it has no number at equal style",
    "length_confounded": "always about as much longer or shorter than the others, so length and quality cannot be told "
    "apart and it has no number at equal length",
}


def leaderboard(
    verdicts: Sequence[Judgement],
    baseline: str | None = None,
    models: Iterable[str] = (),
    counts: Mapping | None = None,
    style: Styles | None = None,
) -> dict:
    """The content of leaderboard.json. `models`: all that took part; `counts`: more columns, name -> model -> number;
    `style`: the `styles` of the answers, for the numbers at equal style, which are there if any answer has headings,
    lists or bold type.

    Models stand best first: by win rate against the baseline, or by rating without one. All intervals are 95% and
    clustered by prompt. What cannot be known is None. Raises DataError without a verdict.
    """
    if not verdicts:
        raise DataError("there are no verdicts", "without them nobody can be ranked", "judge some battles first")
    c = judgement_arrays(verdicts, models)
    base = None if baseline is None else c.models.index(baseline)
    marks = None if style is None else side_counts(c, style)
    if marks is not None and not marks.any():  # without a mark in any answer, style is length
        marks = None
    fits = _fits(c, base, marks)
    order = _order(fits, base)
    lengths = [_mean_length(c, m) for m in range(len(c.models))]
    columns = ({} if marks is None else mean_counts(c, marks)) | dict(counts or {})
    digits = POINTS if base is None else SHARE
    return {
        "schema": SCHEMA,
        "baseline": baseline,
        "models": [
            row | {k: of.get(row["model"], 0) for k, of in columns.items()} for row in _rows(c, order, fits, lengths)
        ],
        "battles": len(verdicts),
        "prompts": len(set(c.clusters.tolist())),
        "truncated": int(c.truncated.sum()),
        "tests": tests_of(c.models, order, fits.tests, digits),
        "smallest_difference": rounded_or_none(fits.tests.smallest_difference(), digits),
        "stopping": None,
        "differences_of": "rating" if base is None else "win_rate",
        "length_slope": numbers("value", fits.controlled["length"].slope),
        "style_slopes": _style_slopes(fits.controlled.get("style")),
        "length_scale": rounded_or_none(length_scale(_length_differences(c, base)), 1),
        **_length(c),
        "length_rating_correlation": _along_length(lengths, fits.ratings.rating),
        "head_to_head": _head_to_head(c, order),
        "position": _position(c),
        "categories": _by_category(c, base),
        "people": None,
        "concerns": [
            {"kind": k.kind, "models": [c.models[m] for m in k.models], "meaning": CONCERNS[k.kind]}
            for k in (*fits.ratings.concerns, *_of_style(fits.controlled))
        ],
    }


def summary(
    board: dict, battles: Battles, judge: dict, red_team: dict | None = None, agreement: dict | None = None
) -> dict:
    """The `leaderboard` of these battles, and what else leaderboard.json says. `judge`: the judge's identity and its
    `hash`; `red_team` and `agreement`: what `red_team_report` and `agreement` gave."""
    return board | {
        "judge": judge,
        "own_family": own_family(judge, [row["model"] for row in board["models"]]),
        "identical": len(battles.identical),
        "missing_prompts": battles.missing,
        "red_team": red_team,
        "agreement": agreement,
    }


@dataclass(frozen=True)
class _Fits:
    """What is estimated of the models, in the order of their names. `tests`: of what ranks them; `controlled`: "length"
    and, if answers have marks, "style" -> what ranks them at equal length or style; `with_ties`: Davidson's ratings,
    None for a judge without ties."""

    rates: list[WinRate]
    ratings: Ratings
    tests: Pairwise
    controlled: dict[str, Controlled]
    with_ties: Ratings | None


def _fits(c: JudgementArrays, base: int | None, marks: np.ndarray | None) -> _Fits:
    """`base`: the number of the baseline, None without one; `marks`: as `side_counts` gives them."""
    ratings = bradley_terry_ratings(c.i, c.j, c.win_b, clusters=c.clusters, models=len(c.models), anchor=base)
    tests = ratings.tests() if base is None else _rate_tests(c, base)
    controlled = {"length": _at_equal_length(c, base)}
    if marks is not None:
        controlled["style"] = _at_equal_style(c, marks, base)
    return _Fits(_rates(c, base), ratings, tests, controlled, _with_ties(c, base))


def _rates(c: JudgementArrays, base: int | None) -> list[WinRate]:
    if base is None:
        return round_robin_win_rates(c.i, c.j, c.win_b, c.clusters, len(c.models))
    return win_rates(c.i, c.j, c.win_b, base, c.clusters, len(c.models))


def _rate_tests(c: JudgementArrays, base: int) -> Pairwise:
    """Between all models, of their win rates against the baseline."""
    return column_tests(win_table(c.i, c.j, c.win_b, c.clusters, base, len(c.models)), shares=True)


def _with_ties(c: JudgementArrays, base: int | None) -> Ratings | None:
    if not c.p[:, TIE].any():
        return None
    return davidson_ratings(c.i, c.j, c.p[:, B], c.p[:, TIE], clusters=c.clusters, models=len(c.models), anchor=base)


def _at_equal_length(c: JudgementArrays, base: int | None) -> Controlled:
    """Win rates against the baseline, or ratings without one, had all answers been equally long."""
    first, second = c.lengths.T
    if base is None:
        return length_controlled_ratings(c.i, c.j, c.win_b, first, second, clusters=c.clusters, models=len(c.models))
    return length_controlled_win_rates(c.i, c.j, c.win_b, first, second, base, c.clusters, len(c.models))


def _length_differences(c: JudgementArrays, base: int | None) -> np.ndarray:
    """In characters, of the battles that the numbers at equal length rest on."""
    met = np.ones(len(c.i), dtype=bool) if base is None else (c.i == base) | (c.j == base)
    return (c.lengths[:, 1] - c.lengths[:, 0])[met]


def _at_equal_style(c: JudgementArrays, marks: np.ndarray, base: int | None) -> Controlled:
    """As `_at_equal_length`, had they been of one style too."""
    features = style_features(c.lengths, marks)
    if base is None:
        return style_controlled_ratings(c.i, c.j, c.win_b, features, clusters=c.clusters, models=len(c.models))
    return style_controlled_win_rates(c.i, c.j, c.win_b, features, base, c.clusters, len(c.models))


def _style_slopes(controlled: Controlled | None) -> list[dict]:
    """What each feature is worth to the judge, the others being equal."""
    if controlled is None:
        return []
    return [{"feature": f} | numbers("value", e) for f, e in zip(FEATURES, controlled.slopes, strict=True)]


def _of_style(controlled: Mapping[str, Controlled]) -> list[Concern]:
    """What a reader must know of the numbers at equal length and at equal style."""
    found = []
    for name, numbers_at in controlled.items():
        if isinstance(numbers_at, Ratings):
            found += [concern for concern in numbers_at.concerns if concern.kind.startswith(f"{name}_")]
        else:
            named = {f"{name}_stretched": numbers_at.stretched, f"{name}_confounded": numbers_at.confounded}
            found += [Concern(kind, models) for kind, models in named.items() if models]
    return found


def _order(fits: _Fits, base: int | None) -> list[int]:
    """The numbers of the models, best first; those that cannot be ranked come last."""
    values = fits.ratings.rating if base is None else np.array([r.soft.value for r in fits.rates])
    return sorted(range(len(values)), key=lambda m: (-values[m] if math.isfinite(values[m]) else math.inf, m))


def _rows(c: JudgementArrays, order: list[int], fits: _Fits, lengths: list[float | None]) -> list[dict]:
    """One row per model, all with the same keys."""
    ranges = fits.tests.rank_ranges()
    rows = []
    for rank, m in enumerate(order, start=1):
        row = {"model": c.models[m], "rank": rank, "rank_low": int(ranges[m, 0]), "rank_high": int(ranges[m, 1])}
        rate, ratings = fits.rates[m], fits.ratings
        row |= numbers("win_rate", rate.soft) | numbers("win_rate_hard", rate.hard)
        row |= {"wins": rate.wins, "ties": rate.ties, "losses": rate.losses}
        for name, at in fits.controlled.items():
            if isinstance(at, ControlledWinRates):
                row |= numbers(f"win_rate_{name}_controlled", at.win_rates[m])
        row |= numbers("rating", ratings.estimate(m), POINTS)
        for name, at in fits.controlled.items():
            if isinstance(at, Ratings):
                row |= numbers(f"rating_{name}_controlled", at.estimate(m), POINTS)
        if fits.with_ties is not None:
            row |= numbers("rating_davidson", fits.with_ties.estimate(m), POINTS)
        row |= {"battles": int(ratings.n[m]), "prompts": int(ratings.n_clusters[m]), "mean_length": lengths[m]}
        rows.append(row)
    return rows


def _along_length(lengths: list[float | None], ratings: np.ndarray) -> float | None:
    """Spearman of the models' ratings with their mean lengths, over the models that have both."""
    known = [(n, r) for n, r in zip(lengths, ratings.tolist(), strict=True) if n is not None and math.isfinite(r)]
    return rounded_or_none(spearman(*(np.array(known).reshape(-1, 2).T)), SHARE)


def _head_to_head(c: JudgementArrays, order: list[int]) -> list[dict]:
    """Each pair of models that met, the better ranked first: its win rate against the other."""
    place = np.empty(len(order), dtype=int)
    place[order] = np.arange(len(order))
    first = np.minimum(place[c.i], place[c.j])
    of = first * len(order) + np.maximum(place[c.i], place[c.j])
    won = np.where(place[c.j] == first, c.win_b, 1 - c.win_b)
    sorted_rows = np.argsort(of, kind="stable")
    found = []
    for rows in np.split(sorted_rows, np.flatnonzero(np.diff(of[sorted_rows])) + 1):
        rate = clustered_mean(won[rows], c.clusters[rows], bounds=(0.0, 1.0))
        a, b = (c.models[order[k]] for k in divmod(int(of[rows[0]]), len(order)))
        found.append({"model": a, "other": b, **numbers("win_rate", rate), "n": rate.n})
    return found


def _mean_length(c: JudgementArrays, m: int) -> float | None:
    """Characters of the model's answers, each prompt once."""
    own = own_answers(c, m, c.lengths)
    return rounded_or_none(np.mean(own), 1) if len(own) else None


def _position(c: JudgementArrays) -> dict:
    """How much the order of showing mattered: mean bias in logits, and the share of battles where both orders name the
    same side."""
    known = np.isfinite(c.bias)
    bias, prompts = c.bias[known], c.clusters[known]
    agree = (1 + np.sign(np.abs(c.score[known]) - np.abs(bias))) / 2
    found = numbers("bias", clustered_mean(bias, prompts))
    return found | numbers("order_agreement", clustered_share(agree, prompts)) | {"n": len(bias)}


def _length(c: JudgementArrays) -> dict:
    """How the judge's score goes with the difference in length: the rank correlation, and how often the longer answer
    is the preferred one (of those that differ in length)."""
    longer = c.lengths[:, 1] - c.lengths[:, 0]
    by_score, by_length, differ = signed_codes(c.score), signed_codes(longer), longer != 0
    correlation = jackknife(
        lambda keep: spearman_of_sides(by_score[keep], by_length[keep]), len(longer), c.clusters, bounds=(-1.0, 1.0)
    )
    preferred = (1 + np.sign(c.score * longer)) / 2
    return numbers("length_correlation", correlation) | numbers(
        "longer_preferred", clustered_share(preferred[differ], c.clusters[differ])
    )


def _by_category(c: JudgementArrays, base: int | None) -> dict[str, dict]:
    """Win rates within each category that has two or more prompts."""
    found = {}
    for name in sorted(set(c.categories.tolist()) - {""}):
        part = c[c.categories == name]
        if len(set(part.clusters.tolist())) < 2:
            continue
        rates = _rates(part, base)
        found[name] = {
            model: {**numbers("win_rate", r.soft), "n": r.soft.n}
            for model, r in zip(c.models, rates, strict=True)
            if r.soft.n
        }
    return found
