"""lm-eval results with logged samples -> a run. Any task with a number per document will do; documents of arena_pairs
become pairs again (`lm_eval_pairs`).

Knows lm-eval's files and does not import it.
"""

from collections.abc import Collection, Iterable
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from harness_plugin.errors import DataError
from harness_plugin.files.checked import number, remedy, text, wrong_value
from harness_plugin.files.printable import readable
from harness_plugin.files.rows import whole_rows
from harness_plugin.gate.readers import lm_eval_pairs
from harness_plugin.gate.readers.lm_eval_files import Results, check_count, find_results, task_fingerprints
from harness_plugin.gate.stored_run import LM_EVAL, Item, Run, Texts, as_stored, is_value, items_of
from harness_plugin.pairs import content_id
from harness_plugin.scoring.judgement import Judgement

HASH = 16  # digits of lm-eval's hashes that are kept


@remedy("run lm-eval again")
def read_lm_eval(path: Path, task: str | None = None) -> Run:
    """The newest results in the folder (or the file) that lm-eval wrote with --log_samples. Raises DataError for
    results that are cut or come without samples, UsageError where `task` is needed or not there."""
    results, rows, of_pairs = _logged_rows(path, task)
    return lm_eval_pairs.labelled_pairs(results, rows) if of_pairs else _scalars(results, rows)


@remedy("run lm-eval again")
def read_pair_judgements(path: Path, task: str | None = None) -> tuple[Results, list[Judgement], int]:
    """(the results, the judgements of the pairs in both orders, how many pairs are in one order only) of samples of
    arena_pairs. Raises as `read_lm_eval`, and DataError for samples of another task."""
    results, rows, of_pairs = _logged_rows(path, task)
    if not of_pairs:
        raise DataError(
            f"{results.samples} has samples of {results.task}, whose documents are no pairs",
            "a judge of pairs is read from arena_pairs or another task of pairs",
            "name the task with task=NAME, or run lm-eval with --tasks arena_pairs --log_samples",
        )
    judgements, alone = lm_eval_pairs.sample_judgements(results, rows)
    return results, judgements, alone


def _logged_rows(path: Path, task: str | None) -> tuple[Results, list, bool]:
    """(the results, the logged rows with their places, whether their documents are pairs). Of pairs only the fields
    that are needed stay in memory: a row repeats its record under each metric."""
    results = find_results(path, task)
    rows = whole_rows(results.samples)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{results.samples} is empty", "there is nothing to compare", "run lm-eval again")
    doc = first[1].get("doc")
    of_pairs = isinstance(doc, dict) and doc.keys() >= lm_eval_pairs.DOC_FIELDS
    names = lm_eval_pairs.ROW_FIELDS
    whole = [
        (where, {name: row.get(name) for name in names} if of_pairs else row) for where, row in chain([first], rows)
    ]
    check_count(results, whole)
    return results, whole, of_pairs


def _scalars(results: Results, rows: list) -> Run:
    """Every metric with a number per document and a direction; with several filters, as "metric,filter"."""
    better = results.of_task("higher_is_better")
    better = {name: up for name, up in better.items() if isinstance(up, bool)} if isinstance(better, dict) else {}
    rows.sort(key=lambda r: number(r[1], "doc_id", r[0]))
    metrics: dict[str, bool] = {}
    documents: dict[str, list] = {}
    for where, row in rows:
        filter_name = str(row.get("filter"))
        documents.setdefault(filter_name, []).append((where, row))
        for name in _logged(row, where):
            if name in better and isinstance(row.get(name), (int, float)):
                metrics.setdefault(_named(name, filter_name), better[name])
    if not metrics:
        raise DataError(
            f"{results.samples} has no metric with a number per document and a direction",
            "there is nothing to compare",
            "gate another task",
        )
    items = (_document(shown, better) for shown in zip(*documents.values(), strict=True))
    found = items_of(items, str(results.samples))
    lacking = {f"without a finite {name}": sum(name not in item.values for item in found.values()) for name in metrics}
    shots = results.of_task("n-shot")
    fixed = task_fingerprints(results) | {"few-shot examples": None if shots is None else str(shots)}
    subject = {"model": results.content.get("model_name")}
    return Run(
        LM_EVAL,
        str(results.samples),
        metrics,
        fixed,
        subject,
        found,
        {k: n for k, n in lacking.items() if n},
        partial(_document_texts, results.samples),
    )


def _logged(row: dict, where: str) -> list[str]:
    """The names of the metrics that a row has."""
    names = row.get("metrics") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise wrong_value("metrics", names, "a list of names", where)
    return names


def _named(metric: str, filter_name: str) -> str:
    return metric if filter_name == "none" else f"{metric},{filter_name}"


def _document(shown: Iterable[tuple[str, dict]], better: dict[str, bool]) -> Item:
    """One document, from its rows, one for each filter."""
    shown = list(shown)
    where, row = shown[0]
    id = text(row, "doc_hash", where)[:HASH]
    values = {}
    for place, other in shown:
        if other.get("doc_hash") != row["doc_hash"]:
            raise wrong_value("doc_hash", other.get("doc_hash"), f"{row['doc_hash']}, as for the first filter", place)
        for name in better:
            if is_value(other.get(name)):
                values[_named(name, str(other.get("filter")))] = as_stored(float(other[name]))
    fixed = {"target": text(row, "target_hash", where)[:HASH], "prompt": text(row, "prompt_hash", where)[:HASH]}
    doc = row.get("doc")
    category = doc.get("category") if isinstance(doc, dict) else None
    return Item(
        id,
        id,
        values,
        fixed,
        content_id(readable(row.get("resps"))),
        readable(category) if isinstance(category, str) else None,
    )


def _document_texts(samples: Path, ids: Collection[str]) -> Texts:
    wanted = {id.partition("-")[0]: id for id in ids}
    found: Texts = {}
    for _, row in whole_rows(samples):
        id = wanted.get(str(row.get("doc_hash"))[:HASH])
        if id and id not in found:
            found[id] = {
                "prompt": readable(_nested(row.get("arguments"), "gen_args_0", "arg_0")),
                "answer": readable(_answer(row.get("resps"))),
                "target": readable(row.get("target")),
            }
    return found


def _nested(value: Any, *names: str) -> Any:
    """What stands under these names, one within the other, as far as there are objects."""
    for name in names:
        value = value.get(name, "") if isinstance(value, dict) else value
    return value


def _answer(resps: Any) -> Any:
    """The first answer of a generation task; of other tasks, the log-likelihoods of the choices."""
    inner = resps
    while isinstance(inner, list) and len(inner) == 1:
        inner = inner[0]
    return inner
