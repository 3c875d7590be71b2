"""A blessed baseline: one run's items in a file small enough for git, with the fingerprints of how they were made.

The same run gives the same bytes, so that git shows what changed between two of them. Only `arena-rm gate
bless` writes one.
"""

import hashlib
import json
from collections.abc import Collection, Iterator
from pathlib import Path

from harness_plugin.errors import DataError
from harness_plugin.files.checked import json_object, number, optional_text, remedy, text, wrong_value
from harness_plugin.files.opening import open_binary, text_lines
from harness_plugin.files.rows import parse_json
from harness_plugin.gate.stored_run import JUDGE, KINDS, LM_EVAL, Item, Run, Texts, items_of
from harness_plugin.pairs.pair import plain

MARK, SCHEMA = "arena_rm_baseline", 2
BEGINNING = 100  # bytes of the header in which its mark stands
ANSWER = 1000  # characters of an answer that a baseline keeps, to be read beside a later one


def baseline_text(run: Run, texts: bool = True) -> str:
    """The content of a baseline. `texts`: with the starts of the answers, where these are what is under test."""
    answers = run.texts(list(run.items)) if texts and run.kind in (JUDGE, LM_EVAL) else {}
    lines = [_line(item, answers.get(item.id, {}).get("answer", item.answer)) for item in run.items.values()]
    header = {
        MARK: SCHEMA,
        "kind": run.kind,
        "items": len(lines),
        "metrics": run.metrics,
        "fixed": run.fixed,
        "subject": run.subject,
        "left_out": run.left_out,
    }
    header["sha256"] = _digest(header, lines)
    return "\n".join([json.dumps(header, ensure_ascii=False), *lines, ""])


def _line(item: Item, answer: str | None) -> str:
    row = {
        "id": item.id,
        "cluster": item.cluster if item.cluster != item.id else None,
        "category": item.category,
        "fixed": item.fixed,
        "made": item.made,
        "values": item.values,
        "answer": answer if answer is None else answer[:ANSWER],
    }
    return json.dumps({name: value for name, value in row.items() if value not in (None, "", {})}, ensure_ascii=False)


def _digest(header: dict, lines: list[str]) -> str:
    """sha256 of the header, its own "sha256" aside, and of the lines of the items."""
    content = {name: value for name, value in header.items() if name != "sha256"}
    return hashlib.sha256("\n".join([json.dumps(content, sort_keys=True), *lines]).encode("utf-8")).hexdigest()


def is_baseline(path: str | Path) -> bool:
    """Whether the file begins as a baseline does, of any version, whole or damaged."""
    with open(path, "rb") as stream:
        return f'"{MARK}"'.encode() in stream.read(BEGINNING)


@remedy("restore it, or bless it again")
def read_baseline(path: str) -> Run:
    """The run that was blessed. Raises DataError for a file that is not as it was written (line ends aside)."""
    lines = list(_lines(path))
    header = lines[0][1]
    if header.get(MARK) != SCHEMA:
        raise DataError(
            f"{path} is a baseline of schema {header.get(MARK)!r}",
            f"this version reads {SCHEMA}",
            "bless it again, or use the version that wrote it",
        )
    if header.get("items") != len(lines) - 1 or header.get("sha256") != _digest(header, [raw for raw, _ in lines[1:]]):
        raise DataError(
            f"{path} is cut or was changed by hand ({len(lines) - 1} items, {header.get('items')!r} blessed)",
            "a baseline is what a run gave",
            "restore it, or bless it again",
        )
    kind, metrics, fixed, subject, left_out = _checked_header(header, path)
    items = items_of((_item(row, metrics, f"{path} line {k}") for k, (_, row) in enumerate(lines[1:], 2)), path)
    return Run(kind, path, metrics, fixed, subject, items, left_out, lambda ids: _answers(items, ids))


def _lines(path: str) -> Iterator[tuple[str, dict]]:
    with open_binary(path) as stream:
        for at, line in text_lines(stream, path):
            if isinstance(line, DataError):
                raise line
            raw = line.rstrip("\r\n")
            try:
                yield raw, json_object(parse_json(raw), f"{path} line {at}")
            except ValueError as e:
                raise DataError(
                    f"{path} line {at} is not JSON ({e})",
                    "a comparison needs the whole baseline",
                    "restore it, or bless it again",
                ) from e


def _checked_header(header: dict, path: str) -> tuple:
    kind = text(header, "kind", path)
    metrics, fixed, subject, left_out = (
        json_object(plain(header.get(name)), f"{path}: {name}") for name in ("metrics", "fixed", "subject", "left_out")
    )
    if kind not in KINDS or not metrics or not all(isinstance(up, bool) for up in metrics.values()):
        raise wrong_value(
            "kind and metrics", (kind, metrics), f"one of {', '.join(KINDS)}, and name -> true or false", path
        )
    if not all(isinstance(n, int) for n in left_out.values()):
        raise wrong_value("left_out", left_out, "reason -> number", path)
    return kind, metrics, fixed, subject, left_out


def _item(row: dict, metrics: dict, where: str) -> Item:
    values = json_object(row.get("values"), f"{where}: values")
    if not values.keys() <= metrics.keys():
        raise wrong_value("values", sorted(values), f"metrics of the header ({', '.join(metrics)})", where)
    id = text(row, "id", where)
    fixed = json_object(row.get("fixed", {}), f"{where}: fixed")
    return Item(
        id,
        optional_text(row, "cluster", where) or id,
        {name: number(values, name, where) for name in values},
        {name: text(fixed, name, where) for name in fixed},
        optional_text(row, "made", where) or "",
        optional_text(row, "category", where) or None,
        optional_text(row, "answer", where) or None,
    )


def _answers(items: dict[str, Item], ids: Collection[str]) -> Texts:
    return {id: {"answer": answer} for id in ids if (answer := items[id].answer) is not None}
