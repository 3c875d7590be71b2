"""SHA-256 of whole files, remembered: weights are read once, and again only after they changed.

What is remembered stands in arena-rm's home folder, one small file for each file that was hashed. It is a cache: an
entry that is missing, damaged or cannot be written costs the time to hash the file again, and nothing else.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from harness_plugin.errors import DataError
from harness_plugin.files import atomic_write
from harness_plugin.files.home import home
from harness_plugin.files.rows import parse_json

FOLDER = "hashes"
# Seconds since the last change of a file from which on its hash is remembered. File systems count time in steps of up
# to two seconds: a second change within one step, of the same length, would leave no trace.
SETTLED = 2.5
BLOCK = 1 << 20


def read_sha256(path: str | os.PathLike[str]) -> str:
    """Hexadecimal SHA-256 of a whole file, which is read now. Raises OSError where it cannot be read."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Hexadecimal SHA-256 of a whole file. The file is not read if its size, its inode and its times of change are
    those of the last time. Raises OSError where it cannot be read."""
    place = os.path.realpath(path)
    state = _state(place)
    entry = home() / FOLDER / (hashlib.sha256(place.encode("utf-8", "surrogateescape")).hexdigest()[:32] + ".json")
    remembered = _recall(entry, state)
    if remembered:
        return remembered
    sha256 = read_sha256(place)
    settled = time.time_ns() - max(state["mtime_ns"], state["ctime_ns"]) > SETTLED * 1e9
    if settled and _state(place) == state:
        _remember(entry, state | {"sha256": sha256})
    return sha256


def files_sha256(paths: Iterable[str | os.PathLike[str]]) -> str:
    """One hash of several files, whatever their names and order; of a single file its own SHA-256."""
    with ThreadPoolExecutor(4) as pool:
        hashes = sorted(pool.map(file_sha256, paths))
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def short_hash(value: object) -> str:
    """16 hexadecimal digits of the SHA-256 of a value that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _state(place: str) -> dict:
    """What changes when a file does. The time of the inode (ctime) is there because no program can set it back."""
    s = os.stat(place)
    return {
        "path": place,
        "size": s.st_size,
        "inode": s.st_ino,
        "mtime_ns": s.st_mtime_ns,
        "ctime_ns": s.st_ctime_ns,
    }


def _recall(entry: Path, state: dict) -> str | None:
    try:
        stored = parse_json(entry.read_text(encoding="utf-8"))
        check = stored.pop("check")
        sha256 = stored.pop("sha256")
        whole = stored == state and check == short_hash(state | {"sha256": sha256})
        return sha256 if whole else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _remember(entry: Path, facts: dict) -> None:
    with suppress(OSError, DataError):
        entry.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(entry) as out:
            out.write(json.dumps(facts | {"check": short_hash(facts)}) + "\n")
