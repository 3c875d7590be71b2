"""Writes pairs as canonical JSON lines: the same pairs give the same bytes, compressed or not.

This file knows nothing of other formats.
"""

import gzip
import json
import os
import sys
from collections.abc import Iterable
from typing import BinaryIO

from harness_plugin.errors import UsageError
from harness_plugin.files.opening import STDIN, optional_module
from harness_plugin.files.writing import atomic_write
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
    with atomic_write(path, binary=True) as file:
        if name.endswith(".gz"):
            # no name and no time in the header, so that the bytes depend on the content only
            with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
                _write_lines(packed, pairs)
        elif name.endswith(".zst"):
            zstandard = optional_module("zstandard", "zstandard", f"{name} is to be compressed with zstd")
            with zstandard.ZstdCompressor().stream_writer(file, closefd=False) as packed:
                _write_lines(packed, pairs)
        else:
            _write_lines(file, pairs)


def _write_lines(file: BinaryIO, pairs: Iterable[Pair]) -> None:
    for pair in pairs:
        line = json.dumps(pair.to_dict(), ensure_ascii=False, allow_nan=False)
        file.write(line.encode("utf-8") + b"\n")
