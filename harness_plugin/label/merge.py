"""The files that annotators send back -> one file of labels, and how far the annotators agree."""

import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness_plugin.errors import DataError, UsageError
from harness_plugin.files.checked import number, placed, remedy, text, wrong_value
from harness_plugin.files.printable import counted, listed
from harness_plugin.files.rows import whole_rows
from harness_plugin.pairs import Pair, Winner, pair_from_row
from harness_plugin.stats import Estimate, clustered_share
from harness_plugin.stats.agreement import Agreement, agreement_of_votes
from harness_plugin.tournament.lookalikes import names_alike

log = logging.getLogger("lm_eval.arena_rm")
SIDES = ("a", "b")


@dataclass(frozen=True)
class Vote:
    """What one annotator said of one battle. `pair.winner` is None where the annotator skipped it. `first`: the side
    that stood on the left. `row`: the row of the export, which is written again as it is."""

    pair: Pair
    annotator: str
    design: str
    first: str
    row: dict[str, Any]

    @property
    def key(self) -> tuple[str, str]:
        """Whose vote it is, on what."""
        return self.pair.battle_key, self.annotator

    @property
    def said(self) -> tuple:
        """What makes it the same vote as another one of this annotator on this battle, whichever side is called A."""
        pair = self.pair if self.pair.key == self.pair.battle_key else self.pair.swap()
        return pair.winner, self.both_bad, self.design, (self.row | pair.meta)["sampling_probability"]

    @property
    def both_bad(self) -> bool:
        """Whether the tie is of two bad answers."""
        return self.pair.meta.get("both_bad") is True

    @property
    def left(self) -> float | None:
        """1 where the answer on the left was preferred, 0 for the right, None for anything else."""
        if self.pair.winner in (None, Winner.TIE):
            return None
        return float((self.pair.winner is Winner.MODEL_A) == (self.first == "a"))


@remedy("use the file as the labelling page saved it")
def read_votes(path: str) -> list[Vote]:
    """The votes of a file that the labelling page saved, or of files merged before. Raises DataError for a row that is
    not one of them."""
    votes = [_vote(row, where) for where, row in whole_rows(path)]
    if not votes:
        raise DataError(f"{path} has no votes", "there is nothing to merge", "leave it out")
    return votes


def _vote(row: dict[str, Any], where: str) -> Vote:
    try:
        pair = pair_from_row(row, "canonical")
    except DataError as error:
        raise placed(error, where) from error
    assert pair is not None  # a canonical row is a pair
    own = row | pair.meta  # what another tool wrote as pairs stands in `meta`
    if number(own, "sampling_probability", where, 0, 1) == 0:
        raise wrong_value("sampling_probability", 0, "a number above 0, at most 1", where)
    first = text(own, "first", where)
    if first not in SIDES:
        raise wrong_value("first", first, "'a' or 'b'", where)
    for name in ("both_bad", "skipped"):
        if not isinstance(own.get(name), (bool, type(None))):
            raise wrong_value(name, own[name], "true or false", where)
    vote = Vote(pair, text(own, "annotator", where), text(own, "design", where), first, row)
    if vote.both_bad and pair.winner is not Winner.TIE:
        raise wrong_value("winner", pair.winner and str(pair.winner), "'tie', since both_bad is true", where)
    if pair.meta.get("skipped") is True and pair.winner is not None:
        raise wrong_value("winner", str(pair.winner), "null, since skipped is true", where)
    return vote


def merged(files: Sequence[list[Vote]]) -> list[Vote]:
    """The votes of all files, sorted by battle and annotator, each once.

    Raises DataError where one annotator votes differently on the same battle in two files, and for votes of several
    designs, whose probabilities cannot be put together.
    """
    found: dict[tuple[str, str], Vote] = {}
    for vote in (vote for votes in files for vote in votes):
        earlier = found.setdefault(vote.key, vote)
        if earlier.said != vote.said:
            raise DataError(
                f"{vote.annotator!r} has two different votes on the battle {vote.pair.id}",
                "an annotator has one vote on each battle",
                "give only the latest file of each annotator, and give two people two names",
            )
    designs = sorted({vote.design for vote in found.values()})
    if len(designs) > 1:
        raise DataError(
            f"the votes are of {len(designs)} designs ({', '.join(designs[:3])})",
            "each design has its own probabilities, and these hold for its own draw alone",
            "merge the files of one page",
        )
    return [found[key] for key in sorted(found)]


def check_replaced(path: str, votes: Sequence[Vote]) -> None:
    """Raises UsageError where a file is at `path` that these votes would replace and that holds others, or none."""
    if not os.path.exists(path) or not os.path.getsize(path):
        return
    try:
        there = read_votes(path)
    except DataError as error:
        raise UsageError(
            f"{path} holds something else than votes", "it would be replaced", "choose another -o"
        ) from error
    said = {vote.key: vote.said for vote in votes}
    lost = [vote for vote in there if said.get(vote.key) != vote.said]
    if lost:
        raise UsageError(
            f"{path} has {counted(len(lost), 'vote')} that {'is' if len(lost) == 1 else 'are'} in none of the files",
            "it would be replaced, and they would be lost",
            f"name {path} among the files too, or choose another -o",
        )


def say_lookalikes(votes: Iterable[Vote]) -> None:
    """Warns of annotators whose names differ only in case or white space: their agreement may be one person's."""
    for names in names_alike(sorted({vote.annotator for vote in votes})):
        log.warning(
            "%s count as different annotators; if they are one person, give all votes one name",
            listed([repr(name) for name in names]),
        )


def merged_text(votes: Iterable[Vote]) -> str:
    """JSON lines, one for each vote, with the columns that the page wrote."""
    return "".join(json.dumps(vote.row, ensure_ascii=False) + "\n" for vote in votes)


@dataclass(frozen=True)
class Annotator:
    """One annotator's votes, counted. `left`: how often the answer on the left is preferred, of the decided votes; far
    from one half it says that the place was looked at and not the answer."""

    name: str
    decided: int
    ties: int
    both_bad: int
    skipped: int
    left: Estimate


def annotators(votes: Sequence[Vote]) -> list[Annotator]:
    """The counts of each annotator, by name."""
    found = []
    for name in sorted({vote.annotator for vote in votes}):
        own = [vote for vote in votes if vote.annotator == name]
        kinds = Counter(vote.pair.winner for vote in own)
        bad = sum(vote.both_bad for vote in own)
        sides = [(vote.left, vote.pair.prompt_key) for vote in own if vote.left is not None]
        left = clustered_share([side for side, _ in sides], [prompt for _, prompt in sides])
        found.append(Annotator(name, len(sides), kinds[Winner.TIE] - bad, bad, kinds[None], left))
    return found


def agreement(votes: Sequence[Vote]) -> Agreement:
    """How far the annotators agree on A, B or tie ("both bad" is a tie), over the battles that two or more of them
    judged, clustered by prompt."""
    counts: dict[str, np.ndarray] = {}
    first: dict[str, Pair] = {}  # the sides of a battle are those of its first vote
    for vote in votes:
        winner = vote.pair.winner
        if winner is not None:
            sides = first.setdefault(vote.pair.battle_key, vote.pair)
            winner = winner if vote.pair.key == sides.key else winner.swapped
            counts.setdefault(vote.pair.battle_key, np.zeros(len(Winner)))[winner.class_index] += 1
    table = np.array(list(counts.values())).reshape(-1, len(Winner))
    return agreement_of_votes(table, [pair.prompt_key for pair in first.values()])
