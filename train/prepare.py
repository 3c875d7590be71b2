"""From files of pairs to the pairs of a training run: read, checked, labelled by a teacher, split, selected and mixed.

This module knows pairs and the recipe; it knows no model.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness_plugin.errors import DataError, TrainError, UsageError
from harness_plugin.files.printable import counted
from harness_plugin.model.file_hashes import file_sha256, short_hash
from harness_plugin.pairs import Pair, read_pairs
from harness_plugin.train.augment import degrade, mismatch
from harness_plugin.train.config import TrainConfig
from harness_plugin.train.data import mix, select, source_of
from harness_plugin.train.render import AnyRenderer, length_of, uncut, views_of
from harness_plugin.train.split import (
    evaluation_prompts,
    label_of,
    refuse_overlap,
    remove_duplicates,
    split,
    target_of,
)
from harness_plugin.train.teacher import apply_teacher, read_teacher


@dataclass(frozen=True)
class Request:
    """What a user asks for besides the recipe and the output folder."""

    files: list[str]
    keep_out: tuple[str, ...] = ()  # files whose prompts must not be trained on
    teacher: str | None = None  # the output of `arena-rm score` with another judge
    device: str | None = None
    report_to: str = "none"
    terms: str | None = None  # one sentence on the licence of the data, for the model card
    read: Callable[[str], list[Pair]] | None = None  # a function from a file's name to its pairs; None: `read`


def read(file: str) -> list[Pair]:
    """The pairs of a file; the format is recognised by its columns."""
    return read_pairs(file).pairs


@dataclass(frozen=True)
class Data:
    """The pairs of both sides of the split, and the facts about their origin for the manifest and a resumed run."""

    training: list[Pair]
    validation: list[Pair]
    facts: dict

    @property
    def digest(self) -> str:
        """A hash of the pairs and their labels, in their order."""
        sides = (self.training, self.validation)
        return short_hash([[(p.key, source_of(p), label_of(p), target_of(p)) for p in side] for side in sides])


def prepare(config: TrainConfig, request: Request, renderer: AnyRenderer, listing: Path | None = None) -> Data:
    """The pairs to train on and to validate on.

    The steps: read the files, add the teacher's labels, remove duplicates, split by connected components, select
    training pairs by the recipe's rules, add pairs made from others, and mix the files by their weights. Prompts that
    are in `request.keep_out` too are listed in the file `listing`. Raises UsageError, DataError and TrainError.
    """
    named, facts = _read_files(request)
    file_of = {pair.key: name for name, pair in reversed(named)}  # the first file that has the pair
    pairs = [pair for _, pair in named]
    refuse_overlap(pairs, {name: evaluation_prompts(name) for name in request.keep_out}, listing)
    teacher = read_teacher(request.teacher) if request.teacher else None
    if teacher is not None:
        # Here the teacher labels only pairs that have no label, so that validation uses the data's own labels.
        taught = apply_teacher(pairs, teacher, 1.0)
        pairs = [own if own.soft_label is not None else new for own, new in zip(pairs, taught, strict=True)]
    pairs, duplicates = remove_duplicates(pairs)
    training, validation = split(pairs, config.validation_share, config.seed, config.validation_pairs)
    if len(validation) < 2:
        raise TrainError(
            f"the split gives only {counted(len(validation), 'validation pair')}",
            "the calibration is fitted on the validation pairs and needs at least 2",
            "give more data, or a larger validation_share in the recipe",
        )
    if teacher is not None:
        training = [*apply_teacher(training, teacher, config.teacher_share)]
    whole = uncut(renderer)
    training = select(training, config.select, config.seed, lambda pair: length_of(views_of(whole, pair)))
    made = [*mismatch(training, config.mismatched, config.seed), *degrade(training, config.degraded, config.seed)]
    sourced = [(file_of.get(pair.key, ""), pair) for pair in [*training, *made]]
    training = mix(sourced, config.weights, config.seed, {name for name, _ in named})
    facts |= {
        "pairs": len(training),
        "validation_pairs": len(validation),
        "duplicates": duplicates,
        "kept_out": sorted(Path(name).name for name in request.keep_out),
    }
    return Data(training, validation, facts)


def check_request(request: Request, config: TrainConfig) -> None:
    """Raises UsageError for standard input, for a recipe that needs a teacher where none is named, and for one that
    leaves the third logit no ties (a teacher's labels may be ties in part), and DataError for data or a teacher that is
    no file here."""
    if request.teacher is None and config.teacher_share != 1:
        raise UsageError(
            f"teacher_share: {config.teacher_share} without --teacher",
            "the labels would be those of the data alone",
            "name the teacher's scores with --teacher FILE, or use --set teacher_share=1",
        )
    if request.teacher is None and config.num_labels == 3 and config.select.min_margin > 0:
        raise UsageError(
            "num_labels: 3 with select.min_margin and without --teacher",
            "the pairs that are left have no ties, so the third logit would learn nothing",
            "use --set num_labels=1 or --set select.min_margin=0, or name a teacher's scores with --teacher FILE",
        )
    if "-" in request.files:
        raise UsageError(
            "--data - is standard input",
            "the manifest records the hash of every data file, so the pairs must be in a file",
            "save the pairs to a file and give its name",
        )
    for name in [*request.files, *([request.teacher] if request.teacher else [])]:
        if not Path(name).is_file():
            raise DataError(
                f"{name} is no file on this machine",
                "the manifest records the hash of every data file",
                "check the path, or download the file",
            )


def _read_files(request: Request) -> tuple[list[tuple[str, Pair]], dict]:
    """(file name, pair) of all rows, and the names and hashes of the files for the manifest."""
    named, used = [], []
    for name in request.files:
        pairs = (request.read or read)(name)
        used.append({"name": Path(name).name, "sha256": file_sha256(Path(name)), "pairs": len(pairs)})
        named += [(Path(name).name, pair) for pair in pairs]
    facts: dict = {"files": used}
    if request.teacher:
        facts["teacher"] = {"name": Path(request.teacher).name, "sha256": file_sha256(Path(request.teacher))}
    return named, facts
