"""Labels from another judge: what `arena-rm score` wrote of the same pairs, joined by id and checked by content.

Knows pairs and score files; no recipe, renderer or model.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from harness_plugin.errors import DataError, TrainError, UsageError
from harness_plugin.files.checked import excerpt
from harness_plugin.files.opening import display
from harness_plugin.files.printable import listed
from harness_plugin.files.rows import whole_rows
from harness_plugin.pairs import Pair, content_id
from harness_plugin.scoring.judgement import Judgement, read_judgements
from harness_plugin.train.split import NAMED, MixedPair, mixed, tie_of


def read_teacher(path: str | Path) -> dict[str, Judgement]:
    """Pair id to judgement, from the file that `arena-rm score` wrote; plain, .gz or .zst.

    Raises DataError, with file and row, for a row that is not one of a score file, numbers that do not follow from the
    row's logits, a second, different row of an id, and scores of more than one judge.
    """
    name = display(path)
    teacher: dict[str, Judgement] = {}
    places: dict[str, str] = {}
    rows = list(whole_rows(path))
    for (where, _), judgement in zip(rows, read_judgements(rows), strict=True):
        one = next(iter(teacher.values()), judgement)
        if judgement.judge != one.judge:
            raise DataError(
                f"{where}: field judge is {judgement.judge}, in the rows before it {one.judge}",
                "two judges' scores are not one teacher's",
                "give the scores of one judge",
            )
        if teacher.setdefault(judgement.id, judgement) != judgement:
            raise DataError(
                f"{where}: field id is {excerpt(judgement.id)}, which {places[judgement.id]} has with other scores "
                "or texts",
                "which of them counts is unknown",
                "score the pairs again",
            )
        places.setdefault(judgement.id, where)
    if not teacher:
        raise DataError(f"{name} has no scores", "there is no teacher in it", "check how the file was made")
    return teacher


def apply_teacher(pairs: Sequence[Pair], teacher: Mapping[str, Judgement], share: float) -> list[MixedPair]:
    """The pairs, in their order, with the label share x teacher + (1 - share) x own; without an own label the
    teacher's alone.

    `soft_label` and `target` become the mixture; `winner` stays what the data said. Of an own label as much is a tie as
    its `winner` says and `p_b` allows. A verdict on the same texts with the sides exchanged is exchanged back. Raises
    TrainError for pairs without a verdict and for verdicts on other texts, UsageError for a share outside [0, 1].
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
    judgements = [_turned(p, teacher[p.id]) for p in pairs]
    other = [p.id for p, judgement in zip(pairs, judgements, strict=True) if judgement is None]
    if other:
        raise TrainError(
            f"{len(other)} of {len(pairs)} pairs have other texts than the teacher judged under their ids "
            f"({_some(other)})",
            "the scores belong to other data",
            "score the training files as they are now",
        )
    return [
        _taught(p, judgement, share) for p, judgement in zip(pairs, judgements, strict=True) if judgement is not None
    ]


def _some(ids: list[str]) -> str:
    return listed(sorted(ids), NAMED)


def _turned(pair: Pair, judgement: Judgement) -> Judgement | None:
    """The judgement the way round that the pair has; None where it is one on other texts."""
    if judgement.key == pair.key:
        return judgement
    exchanged = content_id(pair.prompt, pair.response_b, pair.response_a)
    return judgement.swapped() if judgement.key == exchanged else None


def _taught(pair: Pair, judgement: Judgement, share: float) -> MixedPair:
    own = pair.soft_label
    if own is None:
        return mixed(pair, judgement.win_b, judgement.p_tie)
    p_b = share * judgement.win_b + (1 - share) * own
    return mixed(pair, p_b, share * judgement.p_tie + (1 - share) * tie_of(pair))
