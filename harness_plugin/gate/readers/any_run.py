"""A path as a user gives it -> the run that lies there, whatever kind it is."""

from pathlib import Path

from harness_plugin.errors import DataError
from harness_plugin.files.checked import remedy
from harness_plugin.files.rows import whole_rows
from harness_plugin.gate import baseline
from harness_plugin.gate.readers import lm_eval_files, lm_eval_results, score_files, tournament
from harness_plugin.gate.stored_run import Run
from harness_plugin.tournament.folder import PART, VERDICTS_FILE

KNOWN = "a folder of `arena-rm judge`, lm-eval results with --log_samples, a file of `arena-rm score`, or a baseline"


def read_run(place: str, task: str | None = None, model: str | None = None, pairs: str | None = None) -> Run:
    """The run at a path: one of KNOWN. `task`: which of lm-eval's tasks; `model`: which of the judged chatbots;
    `pairs`: the file that was scored, for texts. Raises DataError for a path that does not exist, a run that is
    incomplete, and a file of another kind,
    UsageError where task or model must be said or are not there."""
    path = Path(place)
    if not path.exists():
        raise DataError(f"{place} is not there", "there is nothing to compare", f"name {KNOWN}")
    try:
        with remedy("make the file again"):
            return _in_folder(path, task, model) if path.is_dir() else _in_file(path, place, task, model, pairs)
    except OSError as e:
        raise DataError(f"{place} cannot be read ({e.strerror or e})", "there is nothing to compare", "check it") from e


def _in_folder(path: Path, task: str | None, model: str | None) -> Run:
    if (path / VERDICTS_FILE).exists() or (path / (VERDICTS_FILE + PART)).exists():
        return tournament.read_judge_run(path, model)
    if lm_eval_files.has_results(path):
        return lm_eval_results.read_lm_eval(path, task)
    raise DataError(f"{path} holds no run", "there is nothing to compare", f"name {KNOWN}")


def _in_file(path: Path, place: str, task: str | None, model: str | None, pairs: str | None) -> Run:
    if path.name in (VERDICTS_FILE, tournament.BOARD_FILE):
        return tournament.read_judge_run(path.parent, model)
    if path.name.startswith("samples_") or lm_eval_files.RESULTS.fullmatch(path.name):
        return lm_eval_results.read_lm_eval(path, task)
    where, first = next(whole_rows(place), ("", {}))
    if baseline.MARK in first:
        return baseline.read_baseline(place)
    if "z_ab" in first and "p_a" in first:
        return score_files.read_scores(place, pairs)
    raise DataError(
        f"{where or place} is not a row that arena-rm or lm-eval writes", "the gate cannot read it", f"name {KNOWN}"
    )
