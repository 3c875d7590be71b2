"""The same judging on a Ray cluster: the driver sends blocks of pairs to workers and keeps the scores block by block.

The driver makes a block when a worker can take it and writes its scores as they come back, so that it holds the texts
of a few blocks, however many there are. Only workers load the judge.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from harness_plugin.errors import UsageError
from harness_plugin.files.printable import counted
from harness_plugin.judges.judge import Done
from harness_plugin.model.calibration import Calibration
from harness_plugin.model.several import check_effect, members_of
from harness_plugin.pairs import Pair
from harness_plugin.scoring.identity import identity_hash
from harness_plugin.scoring.judgement import Judgement, read_judgements, total_tokens
from harness_plugin.tournament.blocks import Blocks
from harness_plugin.tournament.cost import PRESENTATIONS, cost
from harness_plugin.tournament.ray_workers import Workers, connected, devices_of, identity_of
from harness_plugin.tournament.record import slot_of

log = logging.getLogger("lm_eval.arena_rm")

BLOCK = 512  # pairs at most in a block: what a lost worker costs, and the size of a file of scores
ROUNDS = 4  # blocks per worker at least, so that none waits long for the last one
MILLION = 1_000_000
FOLDERS = ("judge", "pretrained", "peft")


@dataclass
class Speed:
    """What the workers did: pairs, tokens of their presentations and seconds of scoring, all workers together."""

    pairs: int = 0
    tokens: int = 0
    seconds: float = 0.0

    def add(self, judgements: list[Judgement], seconds: float) -> None:
        self.pairs += len(judgements)
        self.tokens += total_tokens(judgements) or 0
        self.seconds += seconds

    def __str__(self) -> str:
        if not self.tokens or not self.seconds:
            return f"{counted(self.pairs, 'pair')}, of which the judge does not say how many tokens it read"
        rate = self.tokens / self.seconds
        hours = cost(MILLION, self.tokens / self.pairs / PRESENTATIONS, rate).hours
        return (
            f"{self.tokens} tokens at {rate:.0f} a second and worker; a million battles like these: "
            f"{hours:.1f} hours of one worker"
        )


class RayJudge:
    """A cluster of judges as one, in the place of a `LocalJudge`. `identity` comes from a worker: the dtype depends
    on the device, and a driver need not have the weights. It is made by `on_ray`, and `close` ends its workers. Raises
    UsageError without a device, ModelError where the workers cannot load the judge."""

    def __init__(self, ray, spec, batch_size: int | None, output: str):
        everywhere, devices = _everywhere(spec), devices_of(ray.nodes(), spec.device)
        found = identity_of(ray, everywhere, devices)
        said = {getattr(everywhere, name): getattr(spec, name) for name in FOLDERS}
        self.identity = {name: said.get(value, value) for name, value in found.items()}
        numbers = ("temperature", "tie_nu", "length_worth", "surface_worth")
        self.calibration = Calibration(*(found.get(name, 0.0) for name in numbers))
        self.hash = identity_hash(found)
        self.limit = f"{found['max_length']} tokens ({found['truncation']})"
        self.blocks = Blocks(output, self.hash)
        self.workers = Workers(ray, devices, everywhere, batch_size, self.hash)

    def close(self) -> None:
        """Ends the workers."""
        self.workers.close()

    def judge(self, pairs: Sequence[Pair], done: Done | None = None) -> Iterator[Judgement]:
        """As `Judge.judge`, of distinct pairs: first what the blocks of earlier runs hold, then what the workers judge,
        each block written before it is passed on. Of each pair some numbers are held, and its texts only while its
        block is being judged: for many pairs, `pairs` makes them when asked (`Meetings`). Raises ScoreError where a
        block cannot be scored and ModelError where a worker has another judge."""
        done = done or (lambda k: None)
        keys, rows, prompts = _numbers(pairs)
        waiting = np.ones(len(keys), bool)
        for judgement in self.blocks.read():
            slot = slot_of(judgement.key, keys)
            if slot is not None and waiting[slot]:
                waiting[slot] = False
                done(1)
                yield judgement.of_pair(pairs[int(rows[slot])])
        if not waiting.all():
            log.info("%d scores of earlier runs are used again", np.count_nonzero(~waiting))
        by_prompt = np.argsort(prompts[waiting], kind="stable")
        yield from self._judged(
            pairs, rows[waiting][by_prompt], _cut(prompts[waiting][by_prompt], self.workers.count), done
        )

    def _judged(self, pairs: Sequence[Pair], rows: np.ndarray, parts: list[slice], done: Done) -> Iterator[Judgement]:
        """The judgements of the pairs in these rows, of which each part is a block."""
        speed = Speed()
        blocks = ([pairs[row] for row in rows[part].tolist()] for part in parts)
        for block, told, seconds in self.workers.judged(blocks, len(parts)):
            names = {p.key: p for p in block}
            judgements = list(read_judgements((f"a worker's row {n}", row) for n, row in enumerate(told, start=1)))
            self.blocks.write(judgements)
            speed.add(judgements, seconds)
            done(len(judgements))
            yield from (judgement.of_pair(names[judgement.key]) for judgement in judgements)
        if speed.seconds:
            log.info("%s", speed)


@contextmanager
def on_ray(spec, batch_size: int | None, output: str) -> Iterator[RayJudge]:
    """The judge `spec` on the Ray cluster that RAY_ADDRESS or this machine's files name, else on a new one here.

    `spec`: to be found by every worker under the same names. `output`: the run's folder, here or as a URI, where scores
    are kept. Raises as `RayJudge`, and UsageError without Ray."""
    if spec.served:
        raise UsageError(
            f"judge={spec.judge} with --engine ray",
            "workers of a cluster would only wait for the one server",
            "use --engine local, with --concurrency for more questions at once",
        )
    check_effect(spec, members_of(spec), batch_size)
    with connected() as ray, closing(RayJudge(ray, spec, batch_size, output)) as judge:
        yield judge


def _numbers(pairs: Sequence[Pair]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of n distinct pairs, sorted by their content ids: the content ids as numbers, the pairs' places in `pairs`, and
    the content ids of their prompts, (n,) each."""
    made = ((int(p.key, 16), int(p.prompt_key, 16)) for p in pairs)
    numbers = np.fromiter(made, np.dtype((np.uint64, 2)), len(pairs))
    keys, rows = np.unique(numbers[:, 0], return_index=True)
    return keys, rows, numbers[rows, 1]


def _cut(prompts: np.ndarray, workers: int) -> list[slice]:
    """Blocks of n pairs that have no more than a certain size. `prompts`, (n,): the prompt of each pair, sorted. All
    battles of a prompt are in one block where they fit: then an engine reads the prompt once, and a pointwise judge
    reads each answer to it once."""
    n = len(prompts)
    size, starts = max(1, min(BLOCK, -(-n // (ROUNDS * workers)))), list[int]()
    changes = (np.flatnonzero(prompts[1:] != prompts[:-1]) + 1).tolist()
    for start, end in pairwise([0, *changes, n]):
        if not starts or end - starts[-1] > size:
            starts += range(start, end, size)
    return [slice(*ends) for ends in pairwise([*starts, n])]


def _everywhere(spec):
    """Folders here by their whole paths: a worker starts elsewhere."""
    given = {name: getattr(spec, name) for name in FOLDERS}
    return replace(spec, **{name: str(Path(v).absolute()) for name, v in given.items() if v and Path(v).exists()})
