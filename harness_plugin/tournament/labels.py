"""People's judgements of some of the battles -> labels of the verdicts, and how well the judge agrees with them. No
model, no file."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness_plugin.errors import DataError
from harness_plugin.files.checked import is_absent, placed, wrong_value
from harness_plugin.pairs import Pair, Winner
from harness_plugin.scoring.judge_metrics import judge_metrics
from harness_plugin.scoring.judgement import Judgement
from harness_plugin.scoring.judgement_arrays import judgement_arrays
from harness_plugin.stats import TIE, reliability_bins
from harness_plugin.tournament.leaderboard import numbers

METRICS = ("acc", "longer_wins", "acc_length_balanced", "ece")
WIN_B = {Winner.MODEL_A: 0.0, Winner.TIE: 0.5, Winner.MODEL_B: 1.0}


PROBABILITY, ANNOTATOR, BOTH_BAD = "sampling_probability", "annotator", "both_bad"  # columns beside those of a pair
_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no", "")


@dataclass(frozen=True)
class Labels:
    """What people said of n battles, in the order of the verdicts. shares: the share of the votes for B, a tie counting
    one half; None where nobody voted. ties: the share of ties. probabilities: with which each labelled battle was drawn
    for labelling; None where the file does not say, and all were as likely. annotators: how many different ones are
    named."""

    shares: list[float | None]
    ties: list[float]
    probabilities: list[float] | None
    annotators: int


def vote(pair: Pair) -> Winner | None:
    """The winner by this judgement, "both bad" being a tie; None without one."""
    return Winner.TIE if _flag(pair.meta.get(BOTH_BAD)) else pair.verdict


def check_labels(pairs: Iterable[Pair], judged: Sequence[Pair], source: str) -> int:
    """How many of people's judgements, in the file `source`, are of these battles. Raises DataError where none is,
    and for columns beside the winner that cannot be used."""
    _by_battle(judged, source)
    given = [pair for pair in judged if vote(pair) is not None]
    if not given:
        raise DataError(
            f"none of the {len(judged)} pairs of {source} has a winner",
            "there is nothing to compare the judge with",
            "give a file of pairs that people judged",
        )
    battles = {pair.key for pair in pairs}
    count = sum(pair.key in battles or pair.swap().key in battles for pair in given)
    if not count:
        raise DataError(
            f"none of the {len(given)} pairs with a winner in {source} is a battle of these answers",
            "battles and judgements are joined by the exact texts of prompt and responses",
            "check that people judged answers of these files, and, with --prompts, to the prompts that are used",
        )
    return count


def labels_of(verdicts: Sequence[Judgement], judged: Sequence[Pair], source: str = "labels") -> Labels:
    """People's judgements of these battles; several of one battle are averaged.

    Battles and judgements are joined by the exact texts of prompt and responses, in either order of the sides. Raises
    DataError, with the file's name `source`, for a probability that is none, that only some judgements have, or that
    differs between judgements of one battle.
    """
    votes, chances = _by_battle(judged, source)
    of_verdicts = [votes.get(v.key, []) for v in verdicts]
    named = {str(name) for pair in judged if vote(pair) and not is_absent(name := pair.meta.get(ANNOTATOR))}
    return Labels(
        [math.fsum(WIN_B[w] for w in ws) / len(ws) if ws else None for ws in of_verdicts],
        [ws.count(Winner.TIE) / len(ws) if ws else 0.0 for ws in of_verdicts],
        None if None in chances.values() else [chances.get(v.key) or 1.0 for v in verdicts],
        len(named),
    )


def _by_battle(judged: Sequence[Pair], source: str) -> tuple[dict[str, list[Winner]], dict[str, float | None]]:
    """The votes on each battle and the probability with which it was drawn, by the content ids of both its orders."""
    votes: dict[str, list[Winner]] = {}
    chances: dict[str, float | None] = {}
    for pair in judged:
        try:
            winner, chance = vote(pair), _probability(pair)
        except DataError as error:
            raise placed(error, f"{source}: battle {pair.id}") from error
        if winner is None:
            continue
        for key, won in {pair.key: winner, pair.swap().key: winner.swapped}.items():
            votes.setdefault(key, []).append(won)
            if chances.setdefault(key, chance) != chance:
                raise DataError(
                    f"{source}: the judgements of battle {pair.id} have {PROBABILITY} {chances[key]} and {chance}",
                    "a battle is drawn with one probability",
                    "correct the column, or drop it if all battles were as likely to be labelled",
                )
    if 0 < list(chances.values()).count(None) < len(chances):
        raise DataError(
            f"{source}: some labelled battles have no {PROBABILITY}, and some have one",
            "with unknown probabilities the labels cannot be weighed",
            "fill the column in, or drop it if all battles were as likely to be labelled",
        )
    return votes, chances


def _flag(value: Any) -> bool:
    """A column of true and false; in CSV files it holds text."""
    if isinstance(value, str) and value.lower() in (*_TRUE, *_FALSE):
        return value.lower() in _TRUE
    if is_absent(value) or isinstance(value, (bool, int)):
        return bool(value)
    raise wrong_value(BOTH_BAD, value, "true or false")


def _probability(pair: Pair) -> float | None:
    """With which the battle was drawn; None where the file does not say."""
    value = pair.meta.get(PROBABILITY)
    if is_absent(value) or value == "":
        return None
    try:
        number = float(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else math.nan
    except ValueError:
        number = math.nan
    if not 0 < number <= 1:
        raise wrong_value(PROBABILITY, value, "the probability with which the battle was drawn, above 0 and at most 1")
    return number


def agreement(verdicts: Sequence[Judgement], labels: Sequence[float | None]) -> dict:
    """How the judge's verdicts agree with the labels of `labels_of`: the metrics of `METRICS` with intervals clustered
    by prompt, and `reliability`: bins of P(B preferred) with the share for B that people gave. Without any label only
    the count `battles`, 0."""
    labelled = [(v, y) for v, y in zip(verdicts, labels, strict=True) if y is not None]
    if not labelled:
        return {"battles": 0}
    c, observed = judgement_arrays([v for v, _ in labelled]), np.array([y for _, y in labelled])
    metrics = judge_metrics(c, np.where(observed == 0.5, TIE, observed > 0.5))
    bins = [
        {"predicted": round(predicted, 4), **numbers("observed", share), "n": share.n}
        for predicted, share in reliability_bins(c.win_b, observed, c.clusters)
    ]
    rows = (numbers(name, metrics[name]) | {f"{name}_n": metrics[name].n} for name in METRICS)
    return {"battles": len(labelled), **{k: v for row in rows for k, v in row.items()}, "reliability": bins}
