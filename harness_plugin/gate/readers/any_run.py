"""A path as a user gives it -> the run that lies there, whatever kind it is."""

from pathlib import Path

from harness_plugin.errors import DataError, UsageError
from harness_plugin.files.checked import remedy
from harness_plugin.files.rows import whole_rows
from harness_plugin.gate import baseline
from harness_plugin.gate.readers import lm_eval_files, lm_eval_results, score_files, tournament
from harness_plugin.gate.rules import Reading
from harness_plugin.gate.stored_run import JUDGE, Run
from harness_plugin.tournament.folder import PART, VERDICTS_FILE

KNOWN = "a folder of `arena-rm judge`, lm-eval results with --log_samples, a file of `arena-rm score`, or a baseline"

SCORES, JUDGED, RESULTS, BASELINE = "scores", "judged", "results", "baseline"
# Name of an option: the kind of runs on which it has an effect, and what it does there.
OPTIONS = {
    "task": (RESULTS, "it chooses a task in results of lm-eval"),
    "model": (JUDGED, "it chooses a chatbot in a folder of `arena-rm judge`"),
    "pairs": (SCORES, "it gives the texts of a file of `arena-rm score`"),
}


def read_run(place: str, task: str | None = None, model: str | None = None) -> Run:
    """The run at a path: one of KNOWN. `task`: which of lm-eval's tasks; `model`: which of the judged chatbots. Raises
    DataError for a path that does not exist, a run that is incomplete, and a file of another kind, UsageError where
    task or model must be said, are not there, or have no effect."""
    kind = _kind_at(place)
    _check_effect({place: kind}, task=task, model=model)
    return _read(place, kind, task, model)


def read_two(baseline: str, current: str, reading: Reading) -> tuple[Run, Run]:
    """(the run at `baseline`, the run at `current`). Raises as `read_run`; an option must have an effect on one of
    them. The name of the baseline's chatbot must be the one that was blessed."""
    kinds = {place: _kind_at(place) for place in (baseline, current)}
    _check_effect(kinds, task=reading.task, model=reading.model, pairs=reading.pairs)
    name = reading.baseline_model
    before = _read(baseline, kinds[baseline], reading.task, name or reading.model, reading.pairs)
    after = _read(current, kinds[current], reading.task, reading.model, reading.pairs)
    if name is not None and (before.kind != JUDGE or before.subject.get("model") != name):
        raise UsageError(
            f"--baseline-model {name} with {baseline}",
            f"its chatbot is {before.subject.get('model')!r}" if before.kind == JUDGE else OPTIONS["model"][1],
            "correct the name, or leave it out",
        )
    return before, after


def _read(place: str, kind: str, task: str | None, model: str | None, pairs: str | None = None) -> Run:
    """`pairs`: the file that was scored, for texts."""
    path = Path(place)
    try:
        with remedy("make the file again"):
            if kind == JUDGED:
                return tournament.read_judge_run(path if path.is_dir() else path.parent, model)
            if kind == RESULTS:
                return lm_eval_results.read_lm_eval(path, task)
            return baseline.read_baseline(place) if kind == BASELINE else score_files.read_scores(place, pairs)
    except OSError as e:
        raise _unreadable(place, e) from e


def _check_effect(kinds: dict[str, str], **options: str | None) -> None:
    """Raises UsageError for one of `OPTIONS` that is given and has no effect on any of the places."""
    for name, value in options.items():
        kind, use = OPTIONS[name]
        if value is not None and kind not in kinds.values():
            raise UsageError(f"--{name} {value} has no effect on {' and '.join(kinds)}", use, "leave it out")


def _kind_at(place: str) -> str:
    path = Path(place)
    if not path.exists():
        raise DataError(f"{place} is not there", "there is nothing to compare", f"name {KNOWN}")
    try:
        with remedy("make the file again"):
            return _of_folder(path) if path.is_dir() else _of_file(path, place)
    except OSError as e:
        raise _unreadable(place, e) from e


def _unreadable(place: str, error: OSError) -> DataError:
    return DataError(
        f"{place} cannot be read ({error.strerror or error})",
        "there is nothing to compare",
        "check the path and its permissions",
    )


def _of_folder(path: Path) -> str:
    if (path / VERDICTS_FILE).exists() or (path / (VERDICTS_FILE + PART)).exists():
        return JUDGED
    if lm_eval_files.has_results(path):
        return RESULTS
    raise DataError(f"{path} holds no run", "there is nothing to compare", f"name {KNOWN}")


def _of_file(path: Path, place: str) -> str:
    if path.name in (VERDICTS_FILE, tournament.BOARD_FILE):
        return JUDGED
    if path.name.startswith("samples_") or lm_eval_files.RESULTS.fullmatch(path.name):
        return RESULTS
    where, first = next(whole_rows(place), ("", {}))
    if baseline.MARK in first:
        return BASELINE
    if "z_ab" in first and "p_a" in first:
        return SCORES
    raise DataError(
        f"{where or place} is not a row that arena-rm or lm-eval writes", "the gate cannot read it", f"name {KNOWN}"
    )
