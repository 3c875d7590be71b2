"""Samples of arena_pairs -> a run of labelled pairs, comparable with score files.

Each document is a presentation of a pair; both orders together are the pair again. Knows the fields of such documents.
"""

import math
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

from harness_plugin.errors import DataError
from harness_plugin.files.checked import json_object, optional_text, required, text, wrong_value
from harness_plugin.files.printable import readable
from harness_plugin.files.rows import whole_rows
from harness_plugin.gate.readers.judge_fingerprints import judge_fingerprints
from harness_plugin.gate.readers.lm_eval_files import Results, task_fingerprints
from harness_plugin.gate.readers.score_files import pairs_run
from harness_plugin.gate.stored_run import Run, Texts
from harness_plugin.pairs import Pair
from harness_plugin.scoring.judgement import Judgement, judged
from harness_plugin.scoring.probabilities import NEUTRAL, is_impossible

DOC_FIELDS = {"pair_id", "swapped", "prompt", "response_a", "response_b", "winner", "prompt_key"}
ROW_FIELDS = ("doc", "filter", "filtered_resps")
IN_FIXED = ("prompt_version", "template", "order")  # these parts of the judge may not differ between two runs


def labelled_pairs(results: Results, rows: list) -> Run:
    """The run of rows that have ROW_FIELDS (`sample_judgements`)."""
    judgements, alone = sample_judgements(results, rows)
    config = results.content.get("config")
    judge = config.get("arena_rm") if isinstance(config, dict) else None
    judge = judge if isinstance(judge, dict) else {}
    # The template counts where it is known: other lm-eval models read the task's own text.
    fixed = task_fingerprints(results) | {"prompt version": judge.get("prompt_version"), "orders": "both"}
    fixed |= {"template": judge.get("template")}
    subject = {"model": results.content.get("model_name")} | {name: judge.get(name) for name in ("base", "adapter")}
    subject |= {name: value for name, value in judge_fingerprints(judge).items() if name not in IN_FIXED}
    left_out = {"in one order only": alone}
    return pairs_run(results.samples, judgements, fixed, subject, left_out, partial(_pair_texts, results.samples))


def sample_judgements(results: Results, rows: list) -> tuple[list[Judgement], int]:
    """(the judgements of the pairs in rows that have ROW_FIELDS, both orders of each pair together; how many pairs were
    left out because they are in one order only, as with an odd --limit). Raises DataError for rows that are no such
    presentations."""
    orders: dict[str, dict[bool, tuple[str, dict]]] = {}
    for where, row in rows:
        doc = json_object(row.get("doc"), f"{where}: doc")
        if not isinstance(doc.get("swapped"), bool):
            raise wrong_value("doc.swapped", doc.get("swapped"), "true or false", where)
        shown = orders.setdefault(text(doc, "pair_id", where), {})
        if doc["swapped"] in shown:
            raise wrong_value("doc.pair_id", doc["pair_id"], "each order of a pair once", where)
        shown[doc["swapped"]] = where, row
    whole = [both for both in orders.values() if len(both) == 2]
    if not whole:
        raise DataError(
            f"{results.samples} has no pair in both orders",
            "there is nothing to compare",
            "run lm-eval without --limit",
        )
    pairs = [_pair(*both[False]) for both in whole]
    for pair, both in zip(pairs, whole, strict=True):
        other = _pair(*both[True]).swap()
        if (other.key, other.winner) != (pair.key, pair.winner):
            where, row = both[True]
            raise wrong_value("doc", row["doc"], "the pair of the other order with its sides exchanged", where)
    judgements = judged(
        pairs,
        [_log_likelihoods(*both[False]) for both in whole],
        [_log_likelihoods(*both[True]) for both in whole],
        NEUTRAL,
        judge="",
    )
    return judgements, len(orders) - len(whole)


def _log_likelihoods(where: str, row: dict) -> tuple[float, float, float]:
    """Those of A, B and tie as presented, which serve as three logits; -inf for a tie that the judge never says.
    lm-eval logs (log-likelihood, greedy) as text."""
    choices: Any = row.get("filtered_resps")
    try:
        found = [float(ll) for ll, _ in choices]
    except (TypeError, ValueError, OverflowError) as e:
        raise wrong_value("filtered_resps", choices, "three log-likelihoods", where) from e
    if len(found) != 3 or not all(map(math.isfinite, found)):
        raise wrong_value("filtered_resps", choices, "three finite log-likelihoods", where)
    return found[0], found[1], -math.inf if is_impossible(found[2]) else found[2]


def _pair(where: str, row: dict) -> Pair:
    doc = row["doc"]
    category = optional_text(doc, "category", where) or None
    prompt, response_a, response_b, winner = required(
        doc, "prompt", "response_a", "response_b", "winner", where=f"{where}: doc"
    )
    try:
        pair = Pair(prompt, response_a, response_b, winner=winner, category=category)
    except DataError as e:
        raise DataError(f"{where}: {e.found}", e.why, "run lm-eval again") from e
    if pair.winner is None:
        raise wrong_value("doc.winner", None, "who won", where)
    return pair


def _pair_texts(samples: Path, keys: Collection[str]) -> Texts:
    texts_by_pair: Texts = {}
    for _, row in whole_rows(samples):
        doc = row["doc"]
        if doc["swapped"]:
            continue
        texts = [doc[name] for name in ("prompt", "response_a", "response_b")]
        key = Pair(*texts).key
        if key in keys:
            titles = ("prompt", "response A", "response B")
            texts_by_pair[key] = dict(zip(titles, map(readable, texts), strict=True))
    return texts_by_pair
