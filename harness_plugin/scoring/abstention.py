"""When a judge does not decide: a confidence, fitted to labelled pairs, below which it abstains, so that its error on
the pairs that it does judge is bounded. An abstention is no tie: it is marked, counted apart, and no verdict."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness_plugin.errors import DataError, UsageError
from harness_plugin.pairs import Pair
from harness_plugin.scoring.judgement import Judgement
from harness_plugin.stats import TIE
from harness_plugin.stats.preference_metrics import sign_credit
from harness_plugin.stats.selective import LEVEL, confidence_of, threshold_for_agreement, threshold_for_error


@dataclass(frozen=True)
class Abstention:
    """A judge decides where its confidence (`Judgement.confidence`, over both orders) is at least `confidence`; None:
    nowhere, since no confidence was enough. Fitted so that with probability `level` its error on the decisive pairs
    that it judges is at most `error`, on `pairs` decisive pairs of `prompts` prompts."""

    confidence: float | None
    error: float
    level: float
    pairs: int
    prompts: int

    def applied(self, judgement: Judgement) -> Judgement:
        """The judgement, marked as abstained where the judge is not sure enough."""
        return replace(judgement, abstained=not is_sure(judgement, self.confidence))


def is_sure(judgement: Judgement, confidence: float | None) -> bool:
    """Whether a judge decides a pair. A judge that prefers neither side never does."""
    return confidence is not None and judgement.preferred is not None and judgement.confidence >= confidence


def fit_abstention(judgements: Sequence[Judgement], error: float, level: float = LEVEL) -> Abstention:
    """The lowest confidence whose error is proved to be at most `error`, from judgements that have winners. Pairs that
    people called a tie have no right side and do not count. Raises UsageError for an error or a level that is no share,
    DataError without a decisive pair."""
    for name, value in (("error", error), ("level", level)):
        if not 0 < value < 1:
            raise UsageError(f"an abstention {name} of {value}", "it is a share", "give a number between 0 and 1")
    decisive = [j for j in judgements if j.winner is not None and j.winner.class_index != TIE]
    if not decisive:
        raise DataError(
            "no decisive pair to fit an abstention on",
            "its error is measured on pairs with a winner",
            "give such pairs",
        )
    wrong = 1 - sign_credit(np.array([j.score for j in decisive]), np.array([_winner(j) for j in decisive]))
    prompts = [j.prompt_key for j in decisive]
    found = threshold_for_error(log_odds(decisive), wrong, prompts, error, level)
    return Abstention(None if found is None else confidence_of(found), error, level, len(decisive), len(set(prompts)))


def fit_handing_on(small: Sequence[Judgement], big: Sequence[Judgement], agreement: float) -> float | None:
    """The lowest confidence from which the small judge may decide so that, with probability LEVEL, a cascade agrees
    with the big judge on at least `agreement` of all pairs; None where these pairs prove it for no confidence, and all
    go to the big judge. n judgements of each, of the same pairs in the same order. Raises UsageError for an agreement
    that is no share."""
    if not 0 < agreement < 1:
        raise UsageError(f"an agreement of {agreement}", "it is a share below 1", "give a number between 0 and 1")
    differs = np.array([float(one.preferred != other.preferred) for one, other in zip(small, big, strict=True)])
    found = threshold_for_agreement(log_odds(small), differs, [j.prompt_key for j in small], agreement)
    return None if found is None else confidence_of(found)


def log_odds(judgements: Sequence[Judgement]) -> np.ndarray:
    """How sure a judge is of the likelier side: |s| / T, shape (n,)."""
    return np.array([abs(j.score) / j.temperature for j in judgements])


def refuse_shared(fitted_on: Sequence[Pair], reported_on: Sequence[Pair], what: str) -> None:
    """Raises DataError where a threshold would be reported on prompts that it was fitted on."""
    shared = {pair.prompt_key for pair in fitted_on} & {pair.prompt_key for pair in reported_on}
    if shared:
        names = [pair.id for pair in reported_on if pair.prompt_key in shared]
        raise DataError(
            f"{len(names)} of {len(reported_on)} pairs have prompts that are in {what} too (such as {names[0]})",
            "a threshold looks better than it is on the pairs that it was fitted on",
            "give other pairs with other prompts",
        )


def _winner(judgement: Judgement) -> int:
    return judgement.winner.class_index if judgement.winner is not None else TIE
