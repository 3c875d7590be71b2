"""The battles that could be labelled, and how sure the judge is of each: of a judged folder, or of pairs and scores."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness_plugin.errors import DataError
from harness_plugin.files.rows import whole_rows
from harness_plugin.pairs import Pair
from harness_plugin.scoring.judgement import Judgement, read_judgements
from harness_plugin.tournament.kept_answers import read_verdicts


@dataclass(frozen=True)
class Candidate:
    """A battle that a person could label. `win_b`: how much of a win the judge gives to B, from 0 to 1, a tie counting
    one half; None where no judge has seen it. `judge`: the judge's hash."""

    pair: Pair
    win_b: float | None = None
    judge: str | None = None

    @property
    def key(self) -> str:
        """Content id of the battle, whichever side is called A."""
        return self.pair.battle_key


def candidates_of_folder(folder: Path) -> list[Candidate]:
    """The battles of a folder of `arena-rm judge`, without those of identical answers, whose outcome needs no vote.
    Raises DataError as `read_verdicts` does, and where no battle is left."""
    read = read_verdicts(folder)
    found = _each_once(Candidate(pair, v.win_b, v.judge) for pair, v in read if not v.identical)
    if not found:
        raise DataError(
            f"{folder} has no battle of two different answers",
            "identical answers need no vote",
            "name the folder of another run",
        )
    return found


def candidates_of_pairs(pairs: Sequence[Pair], scores: str | None = None) -> list[Candidate]:
    """The pairs of a file, without those of identical responses. `scores`: a file of `arena-rm score`, joined by the
    exact texts, in which every pair must be. Raises DataError where one is not, and where no pair is left."""
    judged: dict[str, Judgement] = {}
    if scores is not None:
        judged = {v.key: v for v in read_judgements(whole_rows(scores))}
    different = [pair for pair in pairs if pair.response_a != pair.response_b]
    if not different:
        raise DataError(
            f"none of the {len(pairs)} pairs has two different responses",
            "identical responses need no vote",
            "name another file of pairs",
        )
    missing = [pair.id for pair in different if scores is not None and not _verdict(pair, judged)]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(different)} pairs are not in {scores}, first: {missing[0]}",
            "pairs and scores are joined by the exact texts, and the draw needs the judge's confidence in every pair",
            "score the same file of pairs",
        )
    verdicts = ((pair, _verdict(pair, judged)) for pair in different)
    return _each_once(Candidate(pair, v.win_b, v.judge) if v else Candidate(pair) for pair, v in verdicts)


def _verdict(pair: Pair, judged: dict[str, Judgement]) -> Judgement | None:
    if pair.key in judged:
        return judged[pair.key]
    other = judged.get(pair.swap().key)
    return other and other.swapped()


def _each_once(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Battles with the same texts are one: a label of one is a label of all. Sorted, so that the order of a file does
    not matter."""
    found: dict[str, Candidate] = {}
    for candidate in sorted(candidates, key=lambda c: (c.key, c.pair.id)):
        found.setdefault(candidate.key, candidate)
    return list(found.values())
