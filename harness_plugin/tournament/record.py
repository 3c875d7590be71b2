"""Which battles of a run are judged, and where: the judgements stay in the run's files, and their numbers in arrays.

A judgement as an object takes more than two kilobytes, and a tournament has millions of them.
"""

import math
from pathlib import Path
from typing import IO

import numpy as np

from harness_plugin.files.journal import line_of
from harness_plugin.files.rows import parse_json
from harness_plugin.judges.judge import Judge
from harness_plugin.pairs import Pair
from harness_plugin.scoring.judgement import Judgement, judged_identical
from harness_plugin.scoring.judgement_arrays import JudgementArrays, StoredJudgements
from harness_plugin.scoring.probabilities import win_of_b
from harness_plugin.stats import cluster_codes
from harness_plugin.tournament.battles import Battles
from harness_plugin.tournament.meetings import Meetings, ranks

EARLIER, PART = 0, 1  # the files: verdicts of an earlier run, and what this run and a killed one have written
ABSENT = -1
NUMBERS = ("score", "position_bias", "p_a", "p_b", "p_tie")


class Record:
    """The judgements of distinct texts, each as the file and the byte where its line begins, and its numbers.

    `keys`: the content ids of all pairs that may be judged, as numbers; `files`: the paths of EARLIER and PART.
    """

    def __init__(self, keys: np.ndarray, files: tuple[Path, Path]):
        self.keys, self.files = np.unique(keys), files
        n = len(self.keys)
        self.file, self.start = np.full(n, ABSENT, np.int8), np.zeros(n, np.int64)
        self.of_this_run, self.truncated = np.zeros(n, bool), np.zeros(n, bool)
        self.numbers = np.full((n, len(NUMBERS)), np.nan)
        self._open: dict[int, IO[bytes]] = {}

    def close(self) -> None:
        """Closes the files. The record can be used again."""
        while self._open:
            self._open.popitem()[1].close()

    def add(self, judgement: Judgement, file: int, start: int, of_this_run: bool = False) -> None:
        """Notes a judgement; one of other texts than those that may be judged is passed over."""
        slot = slot_of(judgement.key, self.keys)
        if slot is None:
            return
        self.file[slot], self.start[slot], self.of_this_run[slot] = file, start, of_this_run
        self.truncated[slot] = judgement.truncated
        self.numbers[slot] = numbers_of(judgement)

    def count(self, file: int) -> int:
        """How many judgements are in a file."""
        return int((self.file == file).sum())

    def slots(self, keys: np.ndarray) -> np.ndarray:
        """The places of these keys in the arrays of the record."""
        return np.searchsorted(self.keys, keys)

    def missing(self, pairs: Meetings, slots: np.ndarray) -> Meetings:
        """The distinct pairs that are not judged yet, those of one prompt together: an engine reads what neighbours
        share once. `slots`: of the pairs."""
        rows = np.flatnonzero(self.file[slots] == ABSENT)
        last = len(rows) - 1 - np.unique(slots[rows][::-1], return_index=True)[1]
        distinct = pairs[rows[np.sort(last)]]
        return distinct[distinct.by_prompt()]

    def line(self, slot: int, pair: Pair) -> bytes:
        """The line of a judgement under the name of `pair`."""
        file = self._opened(int(self.file[slot]))
        file.seek(int(self.start[slot]))
        line = file.readline()
        if self.of_this_run[slot] and parse_json(line)["id"] == pair.id:
            return line
        return line_of(judgement_of(line).of_pair(pair).to_row())

    def _opened(self, file: int) -> IO[bytes]:
        if file not in self._open:
            self._open[file] = open(self.files[file], "rb")  # noqa: SIM115
        return self._open[file]


class Settled:
    """Battles that are all judged, in the order of the file of verdicts: by the models' names, then by id."""

    def __init__(self, record: Record, battles: Battles, keys: np.ndarray, judge: Judge):
        self.record, self.judge = record, judge
        everything = battles.pairs.joined(battles.identical)
        order = everything.by_names()
        self.meetings, self.judged = everything[order], order < len(battles.pairs)
        self.keys = np.concatenate([keys, battles.identical.keys()])[order]
        self.slots = record.slots(self.keys)

    def __len__(self) -> int:
        return len(self.keys)

    def line(self, k: int) -> bytes:
        """The line of the k-th verdict."""
        if self.judged[k]:
            return self.record.line(int(self.slots[k]), self.meetings[k])
        return line_of(judged_identical(self.meetings[k], self.judge.calibration, self.judge.hash).to_row())

    def verdicts(self) -> StoredJudgements:
        """The verdicts, as long as the run's files are there."""
        return StoredJudgements(self.arrays(), self.keys, lambda k: judgement_of(self.line(k)))

    def arrays(self) -> JudgementArrays:
        a, b, prompt = self.meetings.at.T
        m, n = self.meetings, len(self)
        numbers, truncated = np.empty((n, len(NUMBERS))), np.zeros(n, bool)
        numbers[self.judged] = self.record.numbers[self.slots[self.judged]]
        truncated[self.judged] = self.record.truncated[self.slots[self.judged]]
        if not self.judged.all():  # equal texts are equally long, and have one judgement
            first = int(np.argmin(self.judged))
            numbers[~self.judged] = numbers_of(judged_identical(m[first], self.judge.calibration, self.judge.hash))
        models = sorted({m.names[k] for k in np.unique(m.at[:, :2]).tolist()})
        index = {name: k for k, name in enumerate(models)}
        place = np.array([index.get(name, ABSENT) for name in m.names])
        categories = np.array([m.categories.get(id, "") for id in m.prompt_ids], dtype=object)
        return JudgementArrays(
            models,
            sorted(m.prompt_ids),
            place[a],
            place[b],
            numbers[:, 0],
            numbers[:, 1],
            numbers[:, 2:],
            win_of_b(numbers[:, 2], numbers[:, 3]),
            m.lengths(),
            np.full(n, -1, np.int8),
            cluster_codes(ranks(m.prompt_keys)[prompt], n)[0],
            ranks(m.prompt_ids)[prompt],
            categories[prompt],
            truncated,
            ~self.judged,
            np.full(n, np.nan),
        )


def slot_of(key: str, keys: np.ndarray) -> int | None:
    """The place of a content id among the sorted `keys`, which are numbers; None where it is not one of them."""
    try:
        number = np.uint64(int(key, 16))
    except (ValueError, OverflowError):
        return None
    slot = int(np.searchsorted(keys, number))
    return slot if slot < len(keys) and keys[slot] == number else None


def numbers_of(judgement: Judgement) -> list[float]:
    """The NUMBERS of a judgement, in their order; NaN for one that is not known."""
    return [math.nan if (x := getattr(judgement, name)) is None else x for name in NUMBERS]


def judgement_of(line: bytes) -> Judgement:
    """The judgement in a line of a run's file. Raises as `Judgement.from_row`."""
    return Judgement.from_row(parse_json(line))
