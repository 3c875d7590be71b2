"""Workers of a Ray cluster: one actor for each device, with the judge loaded, and blocks of pairs for them.

A worker that was lost is made anew, and its blocks go to whoever can take them: its machine may not come back, and then
Ray would keep them waiting for it. Only this file imports ray.
"""

import logging
import os
import platform
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from harness_plugin import errors
from harness_plugin.errors import ArenaError, ModelError, ScoreError, UsageError
from harness_plugin.judges.local import LocalJudge
from harness_plugin.pairs import Pair

AHEAD = 2  # blocks that a worker has at most: the one it judges, and the next, so that it need not wait for that
TRIES = 6  # how often a block is given out at most, and a worker made that is lost before it is ready

log = logging.getLogger("lm_eval.arena_rm")


@dataclass(frozen=True)
class Devices:
    """Places for `count` workers with `cpus` CPU cores or `gpus` GPUs each."""

    count: int
    cpus: int
    gpus: int

    @property
    def needs(self) -> dict:
        return {"num_gpus": self.gpus} if self.gpus else {"num_cpus": self.cpus}


class Worker:
    """An actor with the judge loaded. Errors meant for the user are handed back as data: Ray would hide them in its
    own errors."""

    def __init__(self, spec, batch_size: int | None, expected: str):
        self._judge, self._error = _safely(lambda: _checked(_loaded(spec, batch_size), expected))

    def ready(self) -> tuple[list[dict], float, list[str] | None]:
        """What `judge` says of no pairs, once the judge is loaded."""
        return [], 0.0, self._error

    def judge(self, texts: list[tuple]) -> tuple[list[dict] | None, float, list[str] | None]:
        """(rows of judgements, seconds, None) of pairs as (prompt, response A, response B), or with an error in the
        place of the rows."""
        start = time.perf_counter()
        rows, error = (None, self._error) if self._error else _safely(lambda: self._rows(texts))
        return rows, time.perf_counter() - start, error

    def _rows(self, texts: list[tuple]) -> list[dict]:
        return [judgement.to_row() for judgement in self._judge.judge([Pair(*three) for three in texts])]


@dataclass(frozen=True)
class Task:
    """What a worker was asked for: to judge a block, or with an empty one, to say when it is ready. `tries`: how often
    it was asked for, this time included."""

    actor: Any
    block: list[Pair]
    tries: int = 1


class Workers:
    """The workers of one judge. They are made when there is work for them, and live until `close`."""

    def __init__(self, ray, devices: Devices, spec, batch_size: int | None, expected: str):
        self.count, self._ray, self._actors = devices.count, ray, list[Any]()
        self._running = dict[Any, Task]()
        actor = ray.remote(**devices.needs)(Worker)
        self._make = lambda: actor.remote(spec, batch_size, expected)

    def close(self) -> None:
        """Ends the workers, with whatever they are judging."""
        while self._actors:
            self._ray.kill(self._actors.pop())

    def judged(self, blocks: Iterator[list[Pair]], count: int) -> Iterator[tuple[list[Pair], list[dict], float]]:
        """(pairs, rows of judgements, seconds) of each of `count` blocks, as it comes. A block is taken from `blocks`
        when a worker that is ready has fewer than AHEAD of them: others may wait for a device for hours. Raises
        ScoreError where a block cannot be judged and ModelError where a worker has another judge than expected."""
        self._actors += [self._make() for _ in range(len(self._actors), min(self.count, count))]
        self._running = {}
        for actor in self._actors:
            self._ask(Task(actor, []))
        free, again = deque[Any](), deque[Task]()
        while count:
            while free and (block := again[0].block if again else next(blocks, None)):
                self._ask(Task(free.popleft(), block, again.popleft().tries + 1 if again else 1))
            (ready,), _ = self._ray.wait([*self._running], num_returns=1)
            task = self._running.pop(ready)
            try:
                rows, seconds, error = self._ray.get(ready)
            except self._ray.exceptions.RayError as e:
                self._replace(task, e)
                free = deque(actor for actor in free if actor is not task.actor)
                again += [task] * bool(task.block)
                continue
            if error:
                raise _raised(error)
            free += [task.actor] * (1 if task.block else AHEAD)
            if task.block:
                count -= 1
                yield task.block, rows, seconds

    def _ask(self, task: Task) -> None:
        texts = [(p.prompt, p.response_a, p.response_b) for p in task.block]
        self._running[task.actor.judge.remote(texts) if texts else task.actor.ready.remote()] = task

    def _replace(self, task: Task, error: Any) -> None:
        """Makes a lost worker anew, once however many blocks it had. Raises ScoreError where this was tried often
        enough, and for an error of the worker's code, which would come again."""
        of_code = isinstance(error, self._ray.exceptions.RayTaskError)
        said = f"{type(error.cause).__name__}: {_first_line(error.cause)}" if of_code else _first_line(error)
        if of_code or task.tries == TRIES:
            raise ScoreError(
                f"the cluster gave up on a block ({said})",
                "its workers were lost or ran out of memory",
                "repeat the command, which continues, with a smaller --batch-size or more memory",
            ) from error
        if task.actor in self._actors:
            log.warning("a worker was lost (%s); its blocks are given out again", said)
            self._ray.kill(task.actor)
            self._actors.remove(task.actor)
            self._actors.append(self._make())
            self._ask(Task(self._actors[-1], [], 1 if task.block else task.tries + 1))


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


def identity_of(ray, spec, devices: Devices) -> dict:
    """The identity of the judge as a worker loads it. Raises ModelError, or what loading it raises."""
    try:
        identity, error = ray.get(ray.remote(**devices.needs)(_identity).remote(spec))
    except ray.exceptions.RayError as e:
        raise ModelError(
            f"a worker of the cluster could not load the judge ({_first_line(e)})",
            "each worker needs arena-rm",
            "install the same version of arena-rm and of its weights on every machine of the cluster",
        ) from e
    if error:
        raise _raised(error)
    return identity


def devices_of(nodes: list[dict], device: str | None) -> Devices:
    """A worker per GPU, or where there are none (or `device` is cpu) one per machine: CPU cores are dealt out in
    portions of the smallest machine's. Raises UsageError where there is no device, or not the one asked for."""
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
        return Devices(gpus, 0, 1)
    if device == "cuda" or not cpus:
        raise UsageError(
            f"the Ray cluster has no {'GPU' if device == 'cuda' else 'CPU or GPU'}", "", "add machines that have one"
        )
    return Devices(sum(c // min(cpus) for c in cpus), min(cpus), 0)


@contextmanager
def connected() -> Iterator[Any]:
    """The module ray, connected and quiet; what was connected before stays so. Raises UsageError without Ray or a
    cluster."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else Ray reports its use over the network
    try:
        import ray
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
    try:
        yield ray
    finally:
        if ours:
            with suppress(Exception):
                ray.shutdown()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().split("\n") or [""])[0][:200]
