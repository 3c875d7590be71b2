"""A panel: several judges that vote on each pair, and whose verdict is the mean of their probabilities."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack

import numpy as np

from harness_plugin.judges.judge import Done, Judge, judged_where_possible, unjudged
from harness_plugin.model.calibration import Calibration
from harness_plugin.pairs import Pair
from harness_plugin.scoring.identity import identity_hash, parts
from harness_plugin.scoring.judgement import Judgement, judged, total_tokens
from harness_plugin.scoring.judgement_rows import added_logit, outcomes_of
from harness_plugin.scoring.probabilities import IMPOSSIBLE, NEUTRAL

KIND = "panel"
CHUNK = 512  # pairs that every member judges before the next ones: what a killed run can lose


class PanelJudge:
    """A judge made of others. Made by `open_judge`; it is a context manager, which closes its members.

    `members`: name -> judge. All judge every pair; a member that cannot judge a pair casts no vote on it.
    """

    def __init__(self, members: Mapping[str, Judge], opened: ExitStack | None = None):
        self.members, self._open = dict(members), opened or ExitStack()
        self.identity = panel_identity({name: judge.identity for name, judge in self.members.items()})
        self.hash = identity_hash(self.identity)

    def __enter__(self) -> "PanelJudge":
        return self

    def __exit__(self, *exc) -> None:
        self._open.close()

    @property
    def calibration(self) -> Calibration:
        """What applies to the panel's own logits, which are those of calibrated probabilities."""
        return NEUTRAL

    @property
    def limit(self) -> str:
        return ", ".join(f"{judge.limit} by {name}" for name, judge in self.members.items())

    def judge(self, pairs: Sequence[Pair], done: Done | None = None) -> Iterator[Judgement]:
        """As `Judge.judge`, in the order of the pairs. Pairs that no member can judge are left out; after the others
        the ScoreError names them. Raises a member's own where its fault is not in some of the pairs."""
        lost: list[Pair] = []
        for start in range(0, len(pairs), CHUNK):
            part = list(pairs[start : start + CHUNK])
            votes = {
                name: {judgement.key: judgement for judgement in judged_where_possible(name, member, part)}
                for name, member in self.members.items()
            }
            for pair in part:
                cast = {name: votes[name].get(pair.key) for name in votes}
                if any(cast.values()):
                    yield panel_judgement(pair, cast, self.hash)
                else:
                    lost.append(pair)
            if done:
                done(len(part))
        if lost:
            raise unjudged(lost, "no member of the panel could judge them")


def panel_identity(members: Mapping[str, Mapping]) -> dict:
    """The identity of a panel of judges with these identities. Their names do not count, and neither does their
    order."""
    known = sorted((parts(identity) for identity in members.values()), key=repr)
    return {"kind": KIND, "members": known}


def panel_judgement(pair: Pair, votes: Mapping[str, Judgement | None], judge: str) -> Judgement:
    """The panel's judgement of a pair from those of its members, None for one that could not judge it, and at least one
    that could.

    In each order the probabilities of A, B and tie are the mean over the members that voted; their logarithms are the
    panel's logits. With members that were shown one order only, it is a panel of one order.
    """
    cast = [judgement for judgement in votes.values() if judgement is not None]
    first, second = (_mean([_of_one_order(judgement, order) for judgement in cast]) for order in ("ab", "ba"))
    reading = {
        "tokens": total_tokens(cast),
        "truncated": any(judgement.truncated for judgement in cast),
        "kept": {},
        "votes": {name: None if judgement is None else judgement.p for name, judgement in votes.items()},
    }
    z_ab = None if first is None else [_log(first)]
    z_ba = None if second is None else [_log(second[[1, 0, 2]])]  # as shown: B stands first
    return judged([pair], z_ab, z_ba, NEUTRAL, judge, [reading])[0]


def _of_one_order(judgement: Judgement, order: str) -> np.ndarray | None:
    """The calibrated P of A, B, tie that the judge gives in one order, (3,); None where it was not shown in it."""
    z = judgement.z_ab if order == "ab" else judgement.z_ba
    if z is None:
        return None
    numbers = [
        np.array([x])
        for x in (
            judgement.temperature,
            judgement.tie_nu,
            added_logit(judgement, judgement.length_a, judgement.length_b, judgement.surface),
        )
    ]
    return outcomes_of([z] if order == "ab" else None, [z] if order == "ba" else None, *numbers).p[0]


def _mean(probabilities: list[np.ndarray | None]) -> np.ndarray | None:
    """The mean over the members, shape (3,); None where not all of them were shown in this order."""
    known = [p for p in probabilities if p is not None]
    return np.mean(known, axis=0) if len(known) == len(probabilities) else None


def _log(p: np.ndarray) -> tuple[float, float, float]:
    """ln P of three classes, finite."""
    with np.errstate(divide="ignore"):
        a, b, tie = np.maximum(np.log(p), IMPOSSIBLE).tolist()
    return a, b, tie
