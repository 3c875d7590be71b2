"""lm-eval results with logged samples -> a run. Any task with a number per document will do; documents of arena_pairs,
each a presentation of a labelled pair, become pairs again, comparable with score files.

Knows lm-eval's files and does not import it.
"""

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from harness_plugin.errors import DataError, UsageError
from harness_plugin.gate.runs import (
    LM_EVAL,
    Item,
    Run,
    Texts,
    items_of,
    json_object,
    kept,
    number,
    readable,
    rows_of,
    text,
    wrong,
)
from harness_plugin.gate.scores import pairs_run
from harness_plugin.pairs import Pair, content_id
from harness_plugin.pairs.files import open_binary
from harness_plugin.pairs.tables import parse_json
from harness_plugin.stats import combine_orders, log_probabilities

PAIR_FIELDS = {"pair_id", "swapped", "prompt", "response_a", "response_b", "winner", "prompt_key"}
RESULTS = re.compile(
    r"(?P<name>.+)_(?P<stamp>\d{4}-\d\d-\d\dT[^_]+)\.json"
)  # "results", unless --output_path is a file
PAIR_ROW = ("doc", "filter", "filtered_resps")
NEVER = -1e8  # the log-likelihood that arena_rm gives to a choice it never makes is far below
HASH = 16  # digits of lm-eval's hashes that are kept
JUDGE_SETTINGS = ("base", "base_fingerprint", "adapter", "adapter_sha256", "dtype", "max_length", "truncation",
                  "temperature", "tie_nu")  # fmt: skip


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


def read_lm_eval(path: Path, task: str | None = None) -> Run:
    """The newest results in the folder (or the file) that lm-eval wrote with --log_samples. Raises DataError for
    results that are cut or come without samples, UsageError where `task` is needed or not there."""
    results = _results(path, task)
    rows = rows_of(results.samples)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{results.samples} is empty", "there is nothing to compare", "run lm-eval again")
    doc = first[1].get("doc")
    if isinstance(doc, dict) and doc.keys() >= PAIR_FIELDS:
        # only what is needed stays in memory: a row repeats its record under each metric
        slim = [(where, {name: row.get(name) for name in PAIR_ROW}) for where, row in chain([first], rows)]
        _check_count(results, slim)
        return _pairs(results, slim)
    whole = list(chain([first], rows))
    _check_count(results, whole)
    return _scalars(results, whole)


def _results(path: Path, task: str | None) -> Results:
    found = _results_file(path)
    stamp = RESULTS.fullmatch(found.name)["stamp"]
    samples = {file.name.removeprefix("samples_").removesuffix(f"_{stamp}.jsonl"): file
               for file in sorted(found.parent.glob(f"samples_*_{stamp}.jsonl"))}  # fmt: skip
    if not samples:
        raise DataError(f"there are no samples beside {found}", "a comparison needs each item's result",
                        "run lm-eval again with --log_samples")  # fmt: skip
    if path.name.startswith("samples_") and task is None:
        task = next(name for name, file in samples.items() if file.name == path.name)
    if task is None and len(samples) > 1:
        raise UsageError(f"{found.parent} has {', '.join(samples)}", "a gate decides on one task", "say --task NAME")
    if task is not None and task not in samples:
        raise UsageError(f"{found.parent} has no samples of {task!r}", "", f"it has {', '.join(samples)}")
    with open_binary(found) as stream:
        content = stream.read()
    try:
        parsed = json_object(parse_json(content.decode("utf-8")), str(found))
    except ValueError as e:
        raise DataError(f"{found} is not JSON ({e})", "a broken file proves nothing", "run lm-eval again") from e
    name = next(iter(samples)) if task is None else task
    return Results(parsed, name, samples[name])


def _results_file(path: Path) -> Path:
    """The results file at the path; of several in a folder the newest."""
    if path.is_file() and RESULTS.fullmatch(path.name):
        return path
    if path.is_file():
        stamp = path.name.removesuffix(".jsonl").rpartition("_")[2]
        here = [file for file in _results_in(path.parent) if RESULTS.fullmatch(file.name)["stamp"] == stamp]
        if not here:
            raise DataError(f"the results file of {path} is missing", "it says which way each metric is better",
                            "keep lm-eval's files together")  # fmt: skip
        return here[0]
    here = _results_in(path)
    inside = {folder: files for folder in sorted(path.iterdir()) if folder.is_dir() and (files := _results_in(folder))}
    if not here and len(inside) > 1:
        raise UsageError(f"{path} has results of {', '.join(p.name for p in list(inside)[:9])}", "a run is one of them",
                         "name its folder")  # fmt: skip
    if not here and not inside:
        raise DataError(f"{path} has no results of lm-eval", "there is nothing to compare", "check the path")
    return max(here or next(iter(inside.values())), key=lambda file: RESULTS.fullmatch(file.name)["stamp"])


def _results_in(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*.json") if RESULTS.fullmatch(file.name))


def has_results(folder: Path) -> bool:
    """Whether lm-eval wrote results into the folder or one level below."""
    return any(_results_in(place) for place in (folder, *(p for p in folder.iterdir() if p.is_dir())))


def _check_count(results: Results, rows: list) -> None:
    counts = results.of_task("n-samples")
    wanted = counts.get("effective") if isinstance(counts, dict) else None
    by_filter = Counter(str(row.get("filter")) for _, row in rows)
    if len(set(by_filter.values())) > 1 or (wanted is not None and max(by_filter.values()) != wanted):
        found = " and ".join(map(str, sorted(set(by_filter.values()))))
        raise DataError(
            f"{results.samples} has {found} documents and the results say {wanted!r}", "it is cut or of another run", "run lm-eval again",
        )  # fmt: skip


def _fixed(results: Results) -> dict[str, Any]:
    version = results.of_task("versions")
    return {"task": results.task, "task version": None if version is None else str(version)}


# -- labelled pairs ---------------------------------------------------------------------------------------------------


def _pairs(results: Results, rows: list) -> Run:
    """Both orders of each pair together; a pair with one order (an odd --limit) is left out."""
    orders: dict[str, dict[bool, tuple[str, dict]]] = {}
    for where, row in rows:
        doc = json_object(row.get("doc"), f"{where}: doc")
        if not isinstance(doc.get("swapped"), bool):
            raise wrong(where, "doc.swapped", doc.get("swapped"), "true or false")
        shown = orders.setdefault(text(doc, "pair_id", where), {})
        if doc["swapped"] in shown:
            raise wrong(where, "doc.pair_id", doc["pair_id"], "each order of a pair once")
        shown[doc["swapped"]] = where, row
    whole = [both for both in orders.values() if len(both) == 2]
    if not whole:
        raise DataError(f"{results.samples} has no pair in both orders", "there is nothing to compare",
                        "run lm-eval without --limit")  # fmt: skip
    s, _, tie = combine_orders(*([_log_weights(*both[swapped]) for both in whole] for swapped in (False, True)))
    p = np.exp(log_probabilities(s, np.where(np.isfinite(tie), tie, -np.inf)))
    found = [_pair(*both[False]) | {"s": a, "p": b} for both, a, b in zip(whole, s.tolist(), p, strict=True)]
    found.sort(key=lambda row: (row["key"], row["winner"]))
    judge = results.content.get("config", {}).get("arena_rm")
    judge = judge if isinstance(judge, dict) else {}
    # The template counts where it is known: other lm-eval models read the task's own text.
    fixed = _fixed(results) | {"prompt version": judge.get("prompt_version"), "orders": "both"}
    subject = {"model": results.content.get("model_name")} | {name: judge.get(name) for name in JUDGE_SETTINGS}
    left_out = {"in one order only": len(orders) - len(whole)}
    return pairs_run(results.samples, found, fixed, subject, left_out, partial(_pair_texts, results.samples))


def _log_weights(where: str, row: dict) -> list[float]:
    """ln of the weights of A, B and tie as presented; lm-eval logs (log-likelihood, greedy) as text."""
    choices = row.get("filtered_resps")
    try:
        found = [float(ll) for ll, _ in choices]
    except (TypeError, ValueError) as e:
        raise wrong(where, "filtered_resps", choices, "three log-likelihoods") from e
    if len(found) != 3 or not all(map(math.isfinite, found)):
        raise wrong(where, "filtered_resps", choices, "three finite log-likelihoods")
    return [*found[:2], found[2] if found[2] > NEVER else -math.inf]


def _pair(where: str, row: dict) -> dict:
    doc = row["doc"]
    try:
        pair = Pair(*(doc[name] for name in ("prompt", "response_a", "response_b")), winner=doc["winner"])
    except DataError as e:
        raise DataError(f"{where}: {e.found}", e.why, "run lm-eval again") from e
    if pair.winner is None:
        raise wrong(where, "doc.winner", None, "who won")
    category = text(doc, "category", where, optional=True) or None
    return {"key": pair.key, "cluster": pair.prompt_key, "winner": str(pair.winner), "category": category}


def _pair_texts(samples: Path, ids: Collection[str]) -> Texts:
    wanted, found = set(ids), {}
    for _, row in rows_of(samples):
        doc = row["doc"]
        if doc["swapped"]:
            continue
        texts = [doc[name] for name in ("prompt", "response_a", "response_b")]
        key = Pair(*texts).key
        for id in wanted:
            if id.partition("-")[0] == key:
                found[id] = dict(zip(("prompt", "response A", "response B"), map(readable, texts), strict=True))
    return found


# -- any other task ---------------------------------------------------------------------------------------------------


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
        for name in row.get("metrics") or ():
            if name in better and _is_number(row.get(name)):
                metrics.setdefault(_named(name, filter_name), better[name])
    if not metrics:
        raise DataError(f"{results.samples} has no metric with a number per document and a direction",
                        "there is nothing to compare", "gate another task")  # fmt: skip
    items = (_document(shown, better) for shown in zip(*documents.values(), strict=True))
    found = items_of(items, str(results.samples))
    lacking = {f"without a finite {name}": sum(name not in item.values for item in found.values()) for name in metrics}
    shots = results.of_task("n-shot")
    fixed = _fixed(results) | {"few-shot examples": None if shots is None else str(shots)}
    subject = {"model": results.content.get("model_name")}
    return Run(LM_EVAL, str(results.samples), metrics, fixed, subject, found, {k: n for k, n in lacking.items() if n},
               partial(_document_texts, results.samples))  # fmt: skip


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))  # true and false are what some metrics log


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
            raise wrong(place, "doc_hash", other.get("doc_hash"), f"{row['doc_hash']}, as for the first filter")
        for name in better:
            if _is_number(other.get(name)) and math.isfinite(other[name]):
                values[_named(name, str(other.get("filter")))] = kept(float(other[name]))
    fixed = {"target": text(row, "target_hash", where)[:HASH], "prompt": text(row, "prompt_hash", where)[:HASH]}
    doc = row.get("doc")
    category = doc.get("category") if isinstance(doc, dict) else None
    return Item(id, id, values, fixed, content_id(readable(row.get("resps"))),
                readable(category) if isinstance(category, str) else None)  # fmt: skip


def _document_texts(samples: Path, ids: Collection[str]) -> Texts:
    wanted = {id.partition("-")[0]: id for id in ids}
    found: Texts = {}
    for _, row in rows_of(samples):
        id = wanted.get(str(row.get("doc_hash"))[:HASH])
        if id and id not in found:
            found[id] = {
                "prompt": readable(_first(row.get("arguments"), "gen_args_0", "arg_0")),
                "answer": readable(_answer(row.get("resps"))),
                "target": readable(row.get("target")),
            }
    return found


def _first(value: Any, *names: str) -> Any:
    for name in names:
        value = value.get(name, "") if isinstance(value, dict) else value
    return value


def _answer(resps: Any) -> Any:
    """The first answer of a generation task; of other tasks, the log-likelihoods of the choices."""
    inner = resps
    while isinstance(inner, list) and len(inner) == 1:
        inner = inner[0]
    return inner
