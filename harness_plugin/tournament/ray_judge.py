"""The same judging as a Ray Data job: one actor per device of a cluster, scores kept block by block.

The driver makes the battles, sends blocks of pairs to the actors and writes each block's scores as it comes back; only
actors load the judge. Ray repeats a block whose worker was lost. Nothing else imports ray.
"""

import json
import logging
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from harness_plugin import errors
from harness_plugin.errors import ArenaError, ModelError, ScoreError, UsageError
from harness_plugin.judges.judge import Done
from harness_plugin.judges.local import LocalJudge
from harness_plugin.model.calibration import Calibration
from harness_plugin.model.several import check_effect, members_of
from harness_plugin.pairs import Pair
from harness_plugin.scoring.identity import identity_hash
from harness_plugin.scoring.judgement import Judgement, read_judgements, total_tokens
from harness_plugin.tournament.blocks import Blocks
from harness_plugin.tournament.cost import cost

log = logging.getLogger("lm_eval.arena_rm")

BLOCK = 512  # pairs at most in a block: what a lost worker costs, and the size of a file of scores
ROUNDS = 4  # blocks per worker at least, so that none waits long for the last one
# How often a worker is made anew, and a block given out again. By itself Ray Data would never give up on a block that
# kills its workers. It takes these in this way up to 2.63 (see setup.cfg).
LIVES = {"max_restarts": 5, "max_task_retries": 5}
MILLION = 1_000_000
FOLDERS = ("judge", "pretrained", "peft")


@dataclass(frozen=True)
class Workers:
    """`count` actors with `cpus` CPU cores or `gpus` GPUs each."""

    count: int
    cpus: int
    gpus: int

    @property
    def needs(self) -> dict:
        return {"num_gpus": self.gpus} if self.gpus else {"num_cpus": self.cpus}


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
        rate = self.tokens / self.seconds
        hours = cost(MILLION, self.tokens / self.pairs / 2, rate).hours
        return (
            f"{self.tokens} tokens at {rate:.0f} a second and worker; a million battles like these: "
            f"{hours:.1f} hours of one worker"
        )


class RayJudge:
    """A cluster of judges as one, in the place of a `LocalJudge`. `identity` comes from a worker: the dtype depends
    on the device, and a driver need not have the weights. Raises UsageError without a device, ModelError where the
    workers cannot load the judge."""

    def __init__(self, ray, spec, batch_size: int | None, output: str):
        self.ray, self.spec, self.batch_size = ray, _everywhere(spec), batch_size
        self.workers = _workers(ray.nodes(), spec.device)
        found = _who(ray, self.spec, self.workers)
        said = {getattr(self.spec, name): getattr(spec, name) for name in FOLDERS}
        self.identity = {name: said.get(value, value) for name, value in found.items()}
        self.calibration = Calibration(found["temperature"], found["tie_nu"], found["length_worth"])
        self.hash = identity_hash(found)
        self.limit = f"{found['max_length']} tokens ({found['truncation']})"
        self.blocks = Blocks(output, self.hash)

    def judge(self, pairs: Sequence[Pair], done: Done | None = None) -> Iterator[Judgement]:
        """As `Judge.judge`: first what the blocks of earlier runs hold, then what the workers judge, each block written
        before it is passed on. Raises ScoreError where a block cannot be scored and ModelError where a worker has
        another judge."""
        done, speed, stored = done or (lambda k: None), Speed(), self.blocks.read()
        again = [stored[p.key].of_pair(p) for p in pairs if p.key in stored]
        if again:
            log.info("%d scores of earlier runs are used again", len(again))
        done(len(again))
        yield from again
        todo = [p for p in pairs if p.key not in stored]
        names = {p.key: p for p in todo}
        for rows, seconds in self._stream(_cut(todo, self.workers.count)):
            judgements = list(read_judgements((f"a worker's row {n}", row) for n, row in enumerate(rows, start=1)))
            self.blocks.write(judgements)
            speed.add(judgements, seconds)
            done(len(judgements))
            yield from (judgement.of_pair(names[judgement.key]) for judgement in judgements)
        if speed.seconds:
            log.info("%s", speed)

    def _stream(self, blocks: list[list[Pair]]) -> Iterator[tuple[list[dict], float]]:
        """(rows, seconds) of each block, as it comes. One row of the dataset is one block, as JSON: then Ray neither
        cuts nor joins blocks, and no text passes through a type of Arrow's."""
        if not blocks:
            return
        data, ray = self.ray.data, self.ray
        items = [{"block": json.dumps([[p.prompt, p.response_a, p.response_b] for p in block])} for block in blocks]
        judged = data.from_items(items, override_num_blocks=len(items)).map_batches(
            Worker,
            fn_constructor_args=(self.spec, self.batch_size, self.blocks.judge),
            batch_size=1,
            compute=data.ActorPoolStrategy(size=min(self.workers.count, len(items))),
            **LIVES,
            **self.workers.needs,
        )
        try:
            for batch in judged.iter_batches(batch_size=None):
                for rows, seconds, error in map(json.loads, batch["judged"]):
                    if error:
                        raise _raised(error)
                    yield rows, seconds
        except ray.exceptions.RayError as e:
            raise ScoreError(
                f"the cluster gave up on a block ({_first_line(e)})",
                "its workers were lost or ran out of memory",
                "repeat the command, which continues, with a smaller --batch-size or more memory",
            ) from e


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
    with _cluster() as ray:
        yield RayJudge(ray, spec, batch_size, output)


def _cut(pairs: list[Pair], workers: int) -> list[list[Pair]]:
    """Blocks that have no more than a certain size. All battles of a prompt are in one of them where they fit: then an
    engine reads the prompt once, and a pointwise judge reads each answer to it once."""
    size = max(1, min(BLOCK, -(-len(pairs) // (ROUNDS * workers))))
    blocks: list[list[Pair]] = []
    for _, battles in groupby(sorted(pairs, key=lambda p: (p.prompt_key, p.key)), key=lambda p: p.prompt_key):
        same = list(battles)
        if blocks and len(blocks[-1]) + len(same) <= size:
            blocks[-1] += same
        else:
            blocks += [same[start : start + size] for start in range(0, len(same), size)]
    return blocks


class Worker:
    """An actor with the judge loaded. Errors meant for the user are handed back as data: Ray would hide them in its
    own errors."""

    def __init__(self, spec, batch_size: int | None, expected: str):
        self.judge, self.error = _safely(lambda: _checked(_loaded(spec, batch_size), expected))

    def __call__(self, batch: dict) -> dict:
        return {"judged": [json.dumps(self._judged(json.loads(block))) for block in batch["block"]]}

    def _judged(self, texts: list[list]) -> tuple[list[dict] | None, float, list[str] | None]:
        start = time.perf_counter()
        rows, error = (None, self.error) if self.error else _safely(lambda: self._rows(texts))
        return rows, time.perf_counter() - start, error

    def _rows(self, texts: list[list]) -> list[dict]:
        return [judgement.to_row() for judgement in self.judge.judge([Pair(*three) for three in texts])]


def _loaded(spec, batch_size: int | None = None) -> LocalJudge:
    from harness_plugin.judges.opening import open_local

    return open_local(spec, batch_size=batch_size)


def _checked(judge: LocalJudge, expected: str) -> LocalJudge:
    if judge.hash == expected:
        return judge
    raise ModelError(
        f"a worker has loaded another judge than the first worker ({judge.identity['dtype']} on {judge.model.device})",
        "scores of two judges cannot be put into one run",
        "give --dtype, and the same weights and versions to all workers",
    )


def _safely(call: Callable) -> tuple:
    """(what the call returns, None), or (None, an error meant for the user as JSON-able data)"""
    try:
        return call(), None
    except ArenaError as e:
        return None, [type(e).__name__, f"worker on {platform.node()}: {e.found}", e.why, e.do]


def _raised(told: list[str]) -> ArenaError:
    kind, *texts = told
    return getattr(errors, kind)(*texts)


def _identity(spec) -> tuple:
    return _safely(lambda: _loaded(spec).identity)


def _who(ray, spec, workers: Workers) -> dict:
    try:
        identity, error = ray.get(ray.remote(**workers.needs)(_identity).remote(spec))
    except ray.exceptions.RayError as e:
        raise ModelError(
            f"a worker of the cluster could not load the judge ({_first_line(e)})",
            "each worker needs arena-rm",
            "install the same version of arena-rm and of its weights on every machine of the cluster",
        ) from e
    if error:
        raise _raised(error)
    return identity


def _workers(nodes: list[dict], device: str | None) -> Workers:
    """One per GPU, or where there are none (or `device` is cpu) one per machine: CPU cores are dealt out in portions of
    the smallest machine's."""
    if device not in (None, "cpu", "cuda"):
        raise UsageError(
            f"--device {device} with --engine ray",
            "Ray decides which worker gets which device",
            "leave it out, or say cpu",
        )
    machines = [n["Resources"] for n in nodes if n["Alive"]]
    gpus = int(sum(m.get("GPU", 0) for m in machines))
    cpus = [int(m["CPU"]) for m in machines if m.get("CPU", 0) >= 1]
    if gpus and device != "cpu":
        return Workers(gpus, 0, 1)
    if device == "cuda" or not cpus:
        raise UsageError(
            f"the Ray cluster has no {'GPU' if device == 'cuda' else 'CPU or GPU'}", "", "add machines that have one"
        )
    return Workers(sum(c // min(cpus) for c in cpus), min(cpus), 0)


def _everywhere(spec):
    """Folders here by their whole paths: a worker starts elsewhere."""
    given = {name: getattr(spec, name) for name in FOLDERS}
    return replace(spec, **{name: str(Path(v).absolute()) for name, v in given.items() if v and Path(v).exists()})


@contextmanager
def _cluster():
    """The module ray, connected and quiet; what was connected before stays so."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else Ray reports its use over the network
    # Ray Data's own way of starting actors is an error to Ray's core, printed with each (ray issue 53727).
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
        import ray.data
    except ImportError as e:
        raise UsageError("--engine ray", "Ray is not installed", "run: pip install 'lm-eval-arena-rm[ray]'") from e

    ours = not ray.is_initialized()
    if ours:
        try:
            ray.init(log_to_driver=False, logging_level=logging.WARNING)
        except (ConnectionError, RuntimeError, ValueError) as e:
            raise UsageError(
                f"no Ray cluster ({_first_line(e)})", "", "check RAY_ADDRESS, or unset it to use this machine"
            ) from e
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        yield ray
    finally:
        if ours:
            with suppress(Exception):
                ray.shutdown()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().split("\n") or [""])[0][:200]
