"""Scores kept by content in one SQLite file, so that judging the same texts again costs seconds.

Knows no model and no text: a judge is a dict of whatever decides its logits, a presentation the SHA-256 of its ids.
Several processes may use one file at once and be killed at any moment. Trouble with the disk costs the cache, never the
run; a damaged row counts as missing; a file that is not ours is refused and left alone.
"""

import hashlib
import json
import logging
import math
import os
import re
import sqlite3
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from harness_plugin.errors import DataError
from harness_plugin.files.home import home

log = logging.getLogger("lm_eval.arena_rm")

FILE_NAME = "scores.sqlite"
MAGIC, APPLICATION_ID, VERSION = b"SQLite format 3\0", 0x61726D63, 1  # at bytes 0, 68 and 60 of the file
SCHEMA = "CREATE TABLE IF NOT EXISTS scores (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"
KEYS = 900  # in one query; SQLite before 3.32 takes 999
WAIT = 30.0  # seconds for another process's transaction, which takes milliseconds
CHECK = 8  # bytes of checksum at the end of a value
# What SQLite raises. Where its message quotes a damaged file, the message may not be UTF-8, and Python says only that.
TROUBLE = (sqlite3.Error, UnicodeDecodeError)
# File systems that only one machine's processes can reach: elsewhere a write-ahead log corrupts the file, since its
# index is shared memory.
LOCAL = {"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "overlay", "tmpfs", "xfs", "zfs"}


class ScoreCache:
    """An open file. `bind` names the judge; then `get` and `put`.

    `hits`, `misses`: presentations that were found here and that were not; `damaged`: rows among the missing whose
    checksum did not hold. Raises DataError for a file that is no cache, of another version or damaged. Where the file
    cannot be read or written the reason is logged once and `get` finds nothing or `put` does nothing.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self.hits = self.misses = self.damaged = 0
        self._judge: bytes | None = None
        self._numbers: struct.Struct | None = None
        self._bad: set[bytes] = set()
        self._stores = True
        self._db = self._open()

    def __enter__(self) -> "ScoreCache":
        return self

    def __exit__(self, *exc) -> None:
        self.close()

    def close(self) -> None:
        if self._db is not None:
            with suppress(*TROUBLE):
                self._db.close()
            self._db = None

    @property
    def is_bound(self) -> bool:
        """Whether a judge has this store. Another one opens the file for itself: the last `bind` counts, so that two
        judges with one store would be given each other's scores."""
        return self._judge is not None

    def bind(self, identity: dict, numbers: int) -> "ScoreCache":
        """From here on, the scores of the judge that `identity` describes: JSON-able, everything that decides a logit
        of given ids, and nothing else. `numbers`: how many a presentation has, such as its logits. Returns itself."""
        self._judge = hashlib.sha256(json.dumps([identity, numbers], sort_keys=True).encode()).digest()
        self._numbers = struct.Struct(f"<{numbers}d")
        return self

    def get(self, digests: Sequence[bytes]) -> dict[bytes, tuple[float, ...]]:
        """Digest -> the numbers of its presentation, for those that are here and whole."""
        wanted = {self._key(digest): digest for digest in digests}
        found = {}
        for key, value in self._rows(list(wanted)):
            numbers = self._checked(key, value)
            if numbers is None:
                self._bad.add(key)
                self.damaged += 1
            else:
                found[wanted[key]] = numbers
        self.hits += len(found)
        self.misses += len(wanted) - len(found)
        return found

    def put(self, scores: Mapping[bytes, Sequence[float]]) -> None:
        """Stores numbers by digest in one transaction. A row that is here already stays, unless it is damaged;
        those that are not finite are left out."""
        rows = []
        for digest, numbers in scores.items():
            if all(map(math.isfinite, numbers)):
                key, body = self._key(digest), self._format().pack(*numbers)
                rows.append((key, body + _check(key, body)))
        if not rows or not self._stores or self._db is None:
            return
        bad = [(key,) for key, _ in rows if key in self._bad]
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("DELETE FROM scores WHERE key = ?", bad)
            self._db.executemany("INSERT OR IGNORE INTO scores VALUES (?, ?)", rows)
            self._db.execute("COMMIT")
        except TROUBLE as e:
            with suppress(*TROUBLE):
                self._db.rollback()
            self._stores = False
            self._say(e, "no more scores are stored in this run")
        self._bad.difference_update(key for (key,) in bad)

    def summary(self) -> str:
        """One line for people: how much came from the file."""
        damaged = f"; {self.damaged} stored scores were damaged and computed anew" if self.damaged else ""
        return f"{self.hits} of {self.hits + self.misses} presentations came from the cache {self.path}{damaged}"

    def _key(self, digest: bytes) -> bytes:
        if self._judge is None:
            raise RuntimeError("the cache was not bound to a judge")
        return hashlib.sha256(self._judge + digest).digest()

    def _format(self) -> struct.Struct:
        if self._numbers is None:
            raise RuntimeError("the cache was not bound to a judge")
        return self._numbers

    def _rows(self, keys: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
        db = self._db
        if db is None:
            return
        try:
            for start in range(0, len(keys), KEYS):
                part = keys[start : start + KEYS]
                marks = ",".join("?" * len(part))
                yield from db.execute(f"SELECT key, value FROM scores WHERE key IN ({marks})", part).fetchall()
        except TROUBLE as e:
            self._stores = False
            self._say(e, "scoring goes on without it")
            self.close()

    def _checked(self, key: bytes, value: bytes) -> tuple[float, ...] | None:
        """The numbers in a row; None for a row that `put` did not write."""
        if not isinstance(value, bytes) or len(value) != self._format().size + CHECK:
            return None
        body = value[:-CHECK]
        return self._format().unpack(body) if value[-CHECK:] == _check(key, body) else None

    def _say(self, error: Exception, effect: str) -> None:
        if _is_damage(error):
            effect += "; delete the file when no run is using it"
        log.warning("arena_rm: the score cache %s cannot be used fully (%s); %s", self.path, error, effect)

    # -- opening ------------------------------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection | None:
        try:
            is_new = _is_new(self.path)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return self._connected("mode=rwc", lambda db: _prepare(db, self.path, is_new))
        except (OSError, sqlite3.OperationalError) as e:
            self._stores = False
            db = self._read_only()
            self._say(e, "scoring goes on without it" if db is None else "it is read, and nothing is stored")
            return db

    def _read_only(self) -> sqlite3.Connection | None:
        """In a folder where SQLite can make no files beside it, the file is read as one that never changes; what
        changes all the same ends in a checksum that does not hold."""
        beside = [Path(f"{self.path}-{kind}") for kind in ("wal", "journal")]  # with them the file alone is not whole
        for how in ("mode=ro", "immutable=1"):
            with suppress(OSError, sqlite3.OperationalError):
                if how == "mode=ro" or not any(file.exists() and file.stat().st_size for file in beside):
                    return self._connected(how, lambda db: None)
        return None

    def _connected(self, how: str, prepare) -> sqlite3.Connection:
        uri = f"{self.path.absolute().as_uri()}?{how}"
        db = sqlite3.connect(uri, timeout=WAIT, isolation_level=None, uri=True)
        try:
            db.text_factory = bytes  # a damaged row may claim to be text, and need not be UTF-8
            db.execute("PRAGMA cell_size_check = ON")
            prepare(db)
            db.execute("SELECT key, value FROM scores LIMIT 1").fetchone()
            return db
        except TROUBLE as e:
            db.close()
            if _is_damage(e):
                raise DataError(
                    f"the score cache {self.path} is damaged ({e})",
                    "its scores cannot be read",
                    "delete it when no run is using it, or name another file with --cache-file",
                ) from e
            raise


def default_file() -> Path:
    """The file of the store where nobody names one."""
    return home() / FILE_NAME


def describe(path: Path) -> str:
    """Where the cache is and how large, for people."""
    files = [file for file in (path, Path(f"{path}-wal")) if file.is_file()]
    return f"{path} ({sum(file.stat().st_size for file in files) / 1e6:.1f} MB)" if files else f"{path} (none yet)"


def _check(key: bytes, body: bytes) -> bytes:
    return hashlib.sha256(key + body).digest()[:CHECK]


def _is_damage(error: Exception) -> bool:
    """A malformed file, or one whose table is gone; not a full disk, a lock or a missing permission."""
    return type(error) in (sqlite3.DatabaseError, UnicodeDecodeError) or "no such" in str(error)


def _is_new(path: Path) -> bool:
    """True for no file or an empty one; DataError for one that is not a cache of this version. Looks without SQLite,
    which may write when it opens another program's file."""
    if path.exists() and not path.is_file():
        raise DataError(f"{path} is not a file", "the scores are kept in one file", "name a file with --cache-file")
    if not path.exists():
        return True
    with open(path, "rb") as file:
        head = file.read(100)
    if not head:
        return True
    if not head.startswith(MAGIC) or int.from_bytes(head[68:72], "big") != APPLICATION_ID:
        raise DataError(
            f"{path} is not a score cache",
            "it is another program's or its first bytes are damaged, and it was left alone",
            "name another file with --cache-file, or delete this one if it was a cache",
        )
    version = int.from_bytes(head[60:64], "big")
    if version != VERSION:
        raise DataError(
            f"{path} is a score cache of version {version}",
            f"this arena-rm reads version {VERSION}",
            "upgrade arena-rm, or name another file with --cache-file",
        )
    return False


def _prepare(db: sqlite3.Connection, path: Path, is_new: bool) -> None:
    """Makes the table in one transaction, or asks for the right to write; then chooses the journal."""
    db.execute("BEGIN IMMEDIATE")
    if is_new:
        db.execute(SCHEMA)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {VERSION}")
    db.execute("COMMIT")
    if not _is_local(path):
        db.execute("PRAGMA journal_mode = DELETE")
        return
    with suppress(sqlite3.OperationalError):  # locked: another process is in the file, and either journal serves
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")  # a power cut may cost the last rows, never the file


def _is_local(path: Path) -> bool:
    """Whether the file is on a file system of this machine alone, as far as Linux tells; elsewhere the answer is no."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return False
    place, kind, longest = os.path.realpath(path), "", -1
    for fields in (line.split(" ") for line in mounts):
        point = re.sub(r"\\(\d{3})", lambda found: chr(int(found[1], 8)), fields[4])
        if len(point) >= longest and os.path.commonpath([point, place]) == point:
            kind, longest = fields[fields.index("-") + 1], len(point)
    return kind in LOCAL
