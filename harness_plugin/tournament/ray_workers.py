"""Workers of a Ray cluster: one actor for each device, with the judge loaded, and blocks of pairs for them.

Ray makes a worker that was lost anew and repeats its blocks. Only this file imports ray.
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
# How often a worker is made anew, and a block given out again.
LIVES = {"max_restarts": 5, "max_task_retries": 5}


@dataclass(frozen=True)
class Devices:
    """Room for `count` workers with `cpus` CPU cores or `gpus` GPUs each."""

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

    def judge(self, texts: list[tuple]) -> tuple[list[dict] | None, float, list[str] | None]:
        """(rows of judgements, seconds, None) of pairs as (prompt, response A, response B), or with an error in the
        place of the rows."""
        start = time.perf_counter()
        rows, error = (None, self._error) if self._error else _safely(lambda: self._rows(texts))
        return rows, time.perf_counter() - start, error

    def _rows(self, texts: list[tuple]) -> list[dict]:
        return [judgement.to_row() for judgement in self._judge.judge([Pair(*three) for three in texts])]


class Workers:
    """The workers of one judge. They are made when there is work for them, and live until `close`."""

    def __init__(self, ray, devices: Devices, spec, batch_size: int | None, expected: str):
        self.count, self._ray, self._actors = devices.count, ray, list[Any]()
        actor = ray.remote(**devices.needs, **LIVES)(Worker)
        self._make = lambda: actor.remote(spec, batch_size, expected)

    def close(self) -> None:
        """Ends the workers, with whatever they are judging."""
        while self._actors:
            self._ray.kill(self._actors.pop())

    def judged(self, blocks: Iterator[list[Pair]], count: int) -> Iterator[tuple[list[Pair], list[dict], float]]:
        """(pairs, rows of judgements, seconds) of each of `count` blocks, as it comes. A block is taken from `blocks`
        when a worker has fewer than AHEAD of them. Raises ScoreError where a block cannot be judged and ModelError
        where a worker has another judge than expected."""
        self._actors += [self._make() for _ in range(len(self._actors), min(self.count, count))]
        free, running = deque(self._actors * AHEAD), dict[Any, tuple[Any, list[Pair]]]()
        try:
            for _ in range(count):
                while free and (block := next(blocks, None)):
                    actor = free.popleft()
                    running[actor.judge.remote([(p.prompt, p.response_a, p.response_b) for p in block])] = actor, block
                (ready,), _ = self._ray.wait(list(running), num_returns=1)
                actor, block = running.pop(ready)
                rows, seconds, error = self._ray.get(ready)
                if error:
                    raise _raised(error)
                free.append(actor)
                yield block, rows, seconds
        except self._ray.exceptions.RayError as e:
            raise ScoreError(
                f"the cluster gave up on a block ({_first_line(e)})",
                "its workers were lost or ran out of memory",
                "repeat the command, which continues, with a smaller --batch-size or more memory",
            ) from e


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
