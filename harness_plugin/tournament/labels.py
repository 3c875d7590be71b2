"""People's judgements of some of the battles -> labels of the verdicts, and how well the judge agrees with them. No
model, no file."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness_plugin.errors import DataError
from harness_plugin.files.checked import is_absent, placed, wrong_value
from harness_plugin.files.printable import counted
from harness_plugin.pairs import Pair, Winner
from harness_plugin.scoring.judge_metrics import judge_metrics
from harness_plugin.scoring.judgement import Judgement
from harness_plugin.scoring.judgement_arrays import judgement_arrays, keys_of
from harness_plugin.stats import TIE, reliability_bins
from harness_plugin.tournament.board_numbers import numbers

METRICS = ("acc", "longer_wins", "acc_length_balanced", "ece")
WIN_B = {Winner.MODEL_A: 0.0, Winner.TIE: 0.5, Winner.MODEL_B: 1.0}

# Columns beside those of a pair.
OF_VOTES = PROBABILITY, ANNOTATOR, BOTH_BAD = "sampling_probability", "annotator", "both_bad"
_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no", "")


@dataclass(frozen=True)
class Votes:
    """What people said of battles, by the content ids of both orders of their sides. shares: the share of the votes for
    B, a tie counting one half; ties: the share of ties; chances: the probability with which the battle was drawn for
    labelling, None where the file does not say, and all were as likely; annotators: how many different ones are
    named; source: the file that they are from; battles: how many have a vote."""

    shares: dict[str, float]
    ties: dict[str, float]
    chances: dict[str, float] | None
    annotators: int
    source: str
    battles: int


@dataclass(frozen=True)
class Labels:
    """The `Votes` on n battles, in the order of the verdicts: None, or a share of ties of 0, where nobody voted."""

    shares: list[float | None]
    ties: list[float]
    probabilities: list[float] | None
    annotators: int


def vote(pair: Pair) -> Winner | None:
    """The winner by this judgement, "both bad" being a tie; None without one. Raises RowError where both answers are
    bad and one of them won."""
    if not _flag(pair.meta.get(BOTH_BAD)):
        return pair.verdict
    if pair.verdict not in (None, Winner.TIE):
        raise wrong_value("winner", str(pair.verdict), "'tie' or null, since both_bad is true")
    return Winner.TIE


def check_labels(pairs: Iterable[Pair], judged: Sequence[Pair], source: str) -> int:
    """How many of people's judgements, in the file `source`, are of these battles. Raises DataError where none is,
    and for columns beside the winner that cannot be used."""
    votes_of(judged, source)
    given = [pair for pair in judged if vote(pair) is not None]
    asked = {key for pair in given for key in (pair.key, pair.swap().key)}
    battles = {pair.key for pair in pairs if pair.key in asked}
    count = sum(pair.key in battles or pair.swap().key in battles for pair in given)
    if not count:
        raise DataError(
            f"{source} has {counted(len(given), 'pair')} with a winner, and none is a battle of these answers",
            "battles and judgements are joined by the exact texts of prompt and responses",
            "check that people judged answers of these files, and, with --prompts, to the prompts that are used",
        )
    return count


def votes_of(judged: Sequence[Pair], source: str) -> Votes:
    """People's judgements, those of one battle averaged; a named annotator's same vote counts once. Raises DataError,
    with the file's name `source`, where none has a winner, and for a probability that is none, that only some
    judgements have, or that differs between judgements of one battle."""
    votes: dict[str, list[Winner]] = {}
    chances: dict[str, float | None] = {}
    named: set[str] = set()
    seen: set[tuple[str, str, Winner]] = set()
    battles: set[str] = set()
    for pair in judged:
        try:
            winner, chance = vote(pair), _probability(pair)
        except DataError as error:
            raise placed(error, f"{source}: battle {pair.id}") from error
        if winner is None:
            continue
        name = "" if is_absent(given := pair.meta.get(ANNOTATOR)) else str(given).strip()
        named |= {name} - {""}
        battles.add(pair.battle_key)
        again = bool(name) and (pair.key, name, winner) in seen
        for key, won in {pair.key: winner, pair.swap().key: winner.swapped}.items():
            seen.add((key, name, won))
            if not again:
                votes.setdefault(key, []).append(won)
            if chances.setdefault(key, chance) != chance:
                raise DataError(
                    f"{source}: the judgements of battle {pair.id} have {PROBABILITY} {chances[key]} and {chance}",
                    "a battle is drawn with one probability",
                    "correct the column, or drop it if all battles were as likely to be labelled",
                )
    if not votes:
        raise DataError(
            f"none of the {len(judged)} pairs of {source} has a winner",
            "there is nothing to compare the judge with",
            "give a file of pairs that people judged",
        )
    known = {key: chance for key, chance in chances.items() if chance is not None}
    if 0 < len(known) < len(chances):
        raise DataError(
            f"{source}: some labelled battles have no {PROBABILITY}, and some have one",
            "with unknown probabilities the labels cannot be weighed",
            "fill the column in, or drop it if all battles were as likely to be labelled",
        )
    shares = {key: math.fsum(WIN_B[w] for w in ws) / len(ws) for key, ws in votes.items()}
    ties = {key: ws.count(Winner.TIE) / len(ws) for key, ws in votes.items()}
    return Votes(shares, ties, known or None, len(named), source, len(battles))


def labels_of(verdicts: Sequence[Judgement], votes: Votes) -> Labels:
    """The votes on the battles of these verdicts, joined by the exact texts of prompt and responses, in either order of
    the sides."""
    chances = votes.chances
    return Labels(
        [votes.shares.get(key) for key in keys_of(verdicts)],
        [votes.ties.get(key, 0.0) for key in keys_of(verdicts)],
        None if chances is None else [chances.get(key, 1.0) for key in keys_of(verdicts)],
        votes.annotators,
    )


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
    labelled = [(verdicts[k], y) for k, y in enumerate(labels) if y is not None]
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
