"""Labels from another judge: what `arena-rm score` wrote of the same pairs, joined by id and checked by content.

Knows pairs and score files; no recipe, renderer or model.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness_plugin.errors import DataError, TrainError, UsageError
from harness_plugin.files.checked import excerpt
from harness_plugin.files.opening import display
from harness_plugin.files.rows import whole_rows
from harness_plugin.pairs import Pair, content_id
from harness_plugin.train.split import MixedPair, mixed, tie_of

TOLERANCE = 1e-3  # by which three probabilities may miss a sum of one
_NAMED = 5  # ids in a message
_PROBABILITIES = ("p_a", "p_b", "p_tie")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the teacher says of one pair: probabilities of A, B and tie, which sum to one. `key` is the content id of
    the texts it judged, `judge` the short hash of what decided its scores."""

    key: str
    p_a: float
    p_b: float
    p_tie: float
    judge: str

    @property
    def soft_label(self) -> float:
        """Probability that B is preferred, a tie being one half."""
        return self.p_b + self.p_tie / 2

    @property
    def swapped(self) -> "Verdict":
        """The same with the sides exchanged; `key` remains that of the texts as they were judged."""
        return Verdict(self.key, self.p_b, self.p_a, self.p_tie, self.judge)


def read_teacher(path: str | Path) -> dict[str, Verdict]:
    """Pair id to verdict, from the file that `arena-rm score` wrote; plain, .gz or .zst.

    Raises DataError, with file and row, for a row that is not one of a score file, probabilities that are missing, not
    finite, not in [0, 1] or off a sum of one by more than 1e-3, a second, different row of an id, and scores of more
    than one judge.
    """
    name = display(path)
    verdicts: dict[str, Verdict] = {}
    places: dict[str, str] = {}
    for where, row in whole_rows(path):
        id, verdict = _verdict(row, where)
        one = next(iter(verdicts.values()), verdict)
        if verdict.judge != one.judge:
            raise DataError(
                f"{where}: field judge is {verdict.judge}, in the rows before it {one.judge}",
                "two judges' scores are not one teacher's",
                "give the scores of one judge",
            )
        if verdicts.setdefault(id, verdict) != verdict:
            raise DataError(
                f"{where}: field id is {excerpt(id)}, which {places[id]} has with other scores or texts",
                "which of them counts is unknown",
                "score the pairs again",
            )
        places.setdefault(id, where.removeprefix(f"{name} "))
    if not verdicts:
        raise DataError(f"{name} has no scores", "there is no teacher in it", "check how the file was made")
    return verdicts


def _verdict(row: Mapping[str, Any], where: str) -> tuple[str, Verdict]:
    for name in ("id", "key", "judge"):
        if not isinstance(row.get(name), str) or not row[name]:
            raise _bad(where, row, name, "a text that is not empty")
    for name in _PROBABILITIES:
        p = row.get(name)
        if isinstance(p, bool) or not isinstance(p, (int, float)) or not 0 <= p <= 1:  # NaN fails the comparison
            raise _bad(where, row, name, "a number from 0 to 1")
    total = math.fsum(row[name] for name in _PROBABILITIES)
    if abs(total - 1) > TOLERANCE:
        raise DataError(f"{where}: p_a + p_b + p_tie = {total:.6g}", "they must sum to one", "score the pairs again")
    return row["id"], Verdict(row["key"], *(row[name] / total for name in _PROBABILITIES), row["judge"])


def _bad(where: str, row: Mapping[str, Any], name: str, allowed: str) -> DataError:
    found = f"is {excerpt(row[name])}" if name in row else "is missing"
    return DataError(
        f"{where}: field {name} {found}", f"allowed: {allowed}", "give a file that `arena-rm score` wrote, unchanged"
    )


def apply_teacher(pairs: Sequence[Pair], teacher: Mapping[str, Verdict], share: float) -> list[MixedPair]:
    """The pairs, in their order, with the label share x teacher + (1 - share) x own; without an own label the
    teacher's alone.

    `soft_label` and `target` become the mixture; `winner` stays what the data said. Of an own label as much is a tie as
    its `winner` says and `p_b` leaves room for. A verdict on the same texts with the sides
    exchanged is exchanged back. Raises TrainError for pairs without a verdict and for verdicts on other texts,
    UsageError for a share outside [0, 1].
    """
    if not 0 <= share <= 1:
        raise UsageError(f"teacher_share: {share!r}", "it must be a share between 0 and 1", "correct the recipe")
    missing = [p.id for p in pairs if p.id not in teacher]
    if missing:
        raise TrainError(
            f"{len(missing)} of {len(pairs)} pairs have no row in the teacher's scores ({_some(missing)})",
            "their labels would be made up",
            "score all the training files with the teacher, or leave these pairs out",
        )
    found = [_turned(p, teacher[p.id]) for p in pairs]
    other = [p.id for p, verdict in zip(pairs, found, strict=True) if verdict is None]
    if other:
        raise TrainError(
            f"{len(other)} of {len(pairs)} pairs have other texts than the teacher judged under their ids "
            f"({_some(other)})",
            "the scores belong to other data",
            "score the training files as they are now",
        )
    return [_taught(p, verdict, share) for p, verdict in zip(pairs, found, strict=True)]


def _some(ids: list[str]) -> str:
    first = ", ".join(sorted(ids)[:_NAMED])
    return f"{first} and {len(ids) - _NAMED} more" if ids[_NAMED:] else first


def _turned(pair: Pair, verdict: Verdict) -> Verdict | None:
    """The verdict the way round that the pair has; None where it is one on other texts."""
    if verdict.key == pair.key:
        return verdict
    exchanged = content_id(pair.prompt, pair.response_b, pair.response_a)
    return verdict.swapped if verdict.key == exchanged else None


def _taught(pair: Pair, verdict: Verdict, share: float) -> MixedPair:
    own = pair.soft_label
    if own is None:
        return mixed(pair, verdict.soft_label, verdict.p_tie)
    p_b = share * verdict.soft_label + (1 - share) * own
    return mixed(pair, p_b, share * verdict.p_tie + (1 - share) * tie_of(pair))
