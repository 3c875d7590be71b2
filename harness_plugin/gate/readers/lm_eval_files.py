"""Where lm-eval put a run: the results file, and the samples file of one task. Knows the host's names of files."""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness_plugin.errors import DataError, UsageError
from harness_plugin.files.rows import read_object

# The name is "results", unless --output_path is a file.
RESULTS = re.compile(r"(?P<name>.+)_(?P<stamp>\d{4}-\d\d-\d\dT[^_]+)\.json")


@dataclass(frozen=True)
class Results:
    """A results file, and the samples file of one of its tasks."""

    content: dict[str, Any]
    task: str
    samples: Path

    def of_task(self, name: str) -> Any:
        """The task's entry in a part of the results; None where there is none."""
        part = self.content.get(name)
        return part.get(self.task) if isinstance(part, dict) else None


def find_results(path: Path, task: str | None) -> Results:
    """The results at a path, and the samples of the task, which may be left out where there is one. Raises DataError
    and UsageError as `read_lm_eval`."""
    found = _results_file(path)
    stamp = _stamp(found)
    samples = {
        file.name.removeprefix("samples_").removesuffix(f"_{stamp}.jsonl"): file
        for file in sorted(found.parent.glob(f"samples_*_{stamp}.jsonl"))
    }
    if not samples:
        raise DataError(
            f"there are no samples beside {found}",
            "a comparison needs each item's result",
            "run lm-eval again with --log_samples",
        )
    if path.name.startswith("samples_") and task is None:
        task = next(name for name, file in samples.items() if file.name == path.name)
    if task is None and len(samples) > 1:
        raise UsageError(
            f"{found.parent} has {', '.join(samples)}",
            "the gate compares the samples of one task",
            "name the task with --task NAME",
        )
    if task is not None and task not in samples:
        raise UsageError(
            f"{found.parent} has no samples of {task!r}",
            "the gate compares the logged samples of one task",
            f"it has {', '.join(samples)}",
        )
    name = next(iter(samples)) if task is None else task
    return Results(read_object(found), name, samples[name])


def _stamp(file: Path) -> str:
    """The time in the name of a results file, which its samples have too."""
    match = RESULTS.fullmatch(file.name)
    return match["stamp"] if match else ""


def _results_file(path: Path) -> Path:
    """The results file at the path; of several in a folder the newest."""
    if path.is_file() and RESULTS.fullmatch(path.name):
        return path
    if path.is_file():
        stamp = path.name.removesuffix(".jsonl").rpartition("_")[2]
        here = [file for file in _results_in(path.parent) if _stamp(file) == stamp]
        if not here:
            raise DataError(
                f"the results file of {path} is missing",
                "that file says for each metric whether higher or lower is better",
                "keep lm-eval's files together",
            )
        return here[0]
    here = _results_in(path)
    inside = {folder: files for folder in sorted(path.iterdir()) if folder.is_dir() and (files := _results_in(folder))}
    if not here and len(inside) > 1:
        raise UsageError(
            f"{path} has results of {', '.join(p.name for p in list(inside)[:9])}",
            "the gate compares one run and does not choose between several",
            "name its folder",
        )
    if not here and not inside:
        raise DataError(f"{path} has no results of lm-eval", "there is nothing to compare", "check the path")
    return max(here or next(iter(inside.values())), key=_stamp)


def _results_in(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*.json") if RESULTS.fullmatch(file.name))


def has_results(folder: Path) -> bool:
    """Whether lm-eval wrote results into the folder or one level below."""
    return any(_results_in(place) for place in (folder, *(p for p in folder.iterdir() if p.is_dir())))


def check_count(results: Results, rows: list) -> None:
    """Raises DataError where the samples are not as many, filter by filter, as the results say."""
    counts = results.of_task("n-samples")
    wanted = counts.get("effective") if isinstance(counts, dict) else None
    by_filter = Counter(str(row.get("filter")) for _, row in rows)
    if len(set(by_filter.values())) > 1 or (wanted is not None and max(by_filter.values()) != wanted):
        found = " and ".join(map(str, sorted(set(by_filter.values()))))
        raise DataError(
            f"{results.samples} has {found} documents and the results say {wanted!r}",
            "one of the two files is incomplete or belongs to another run",
            "run lm-eval again",
        )


def task_fingerprints(results: Results) -> dict[str, Any]:
    """What must be the same of a task in two runs, as far as the results file says it."""
    version = results.of_task("versions")
    return {"task": results.task, "task version": None if version is None else str(version)}
