"""Writes pairs as canonical JSON lines: the same pairs give the same bytes, compressed or not.

This file knows nothing of other formats.
"""

import json
import os
import sys
from collections.abc import Iterable
from typing import IO

from harness_plugin.errors import UsageError
from harness_plugin.files.opening import STDIN
from harness_plugin.files.writing import compressed_write
from harness_plugin.pairs.pair import Pair

_OTHER_FORMATS = (".csv", ".parquet")


def write_pairs(path: str | os.PathLike[str], pairs: Iterable[Pair]) -> None:
    """Writes one JSON object a line, compressed where the name ends in .gz or .zst; "-" is standard output.

    The file appears when it is whole. Raises UsageError for a name that promises CSV or parquet, DataError where the
    file cannot be written.
    """
    name = os.fspath(path)
    stem = name.lower().removesuffix(".gz").removesuffix(".zst")
    if stem.endswith(_OTHER_FORMATS):
        raise UsageError(f"pairs cannot be written as {name}", "they are written as JSON lines", "name it .jsonl")
    if name == STDIN:
        _write_lines(sys.stdout.buffer, pairs)
        sys.stdout.buffer.flush()
        return
    with compressed_write(path) as file:
        _write_lines(file, pairs)


def _write_lines(file: IO[bytes], pairs: Iterable[Pair]) -> None:
    for pair in pairs:
        line = json.dumps(pair.to_dict(), ensure_ascii=False, allow_nan=False)
        file.write(line.encode("utf-8") + b"\n")
