"""The file that a long run appends to, so that a killed run continues where it stopped. Knows rows with a key."""

import io
import json
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from harness_plugin.errors import DataError, UsageError
from harness_plugin.files.rows import parse_json
from harness_plugin.files.writing import atomic_write, lock, naming

log = logging.getLogger("lm_eval.arena_rm")


BEGIN = b'{"header": '  # how a part begins


class Line(str):
    """How a message names a line of a file. `start`: the byte at which the line begins."""

    start: int


class Journal:
    """The file a run appends to until it is whole: OUT.part, a header line with what decides the scores, then records.

    A second run with the same header continues after the last whole line; another header is refused, since mixing two
    judges' scores in one file would mislead. `finish` writes OUT and removes the part. Records stay on disk: there may
    be millions.
    """

    def __init__(self, out: Path, header: dict):
        self.out, self.part, self.header = out, out.with_name(out.name + ".part"), header
        self._file: io.BufferedRandom
        self._end = 0  # where the next line begins

    def __enter__(self) -> "Journal":
        self.out.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._locked()
        try:
            self._load()
            if self._end == 0:
                self._write({"header": self.header})
        except BaseException:  # a refused part must not stay locked for as long as somebody keeps the error
            self._file.close()
            raise
        return self

    def __exit__(self, *exc) -> None:
        with naming(self.part):
            self._file.close()

    def _locked(self) -> io.BufferedRandom:
        """The part, opened, which this run alone holds."""
        while True:
            file = open(self.part, "a+b")  # noqa: SIM115
            if not lock(file.fileno()):
                file.close()
                raise UsageError(f"{self.part} is in use", "another run is writing it", "wait, or choose another -o")
            # Another run may have finished between the two calls: then the file that is held has no name any more, and
            # a third run could make and hold one that has.
            if _is_at(file.fileno(), self.part):
                return file
            file.close()

    def _load(self) -> None:
        """Finds the end of what an earlier run left: a last line without its end, which was being written when that run
        was killed, is cut off. Raises DataError for a file that does not begin with a run's header, and for another
        header than this run's.
        """
        self._file.seek(0)
        good = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                if not good and not (line.startswith(BEGIN) or BEGIN.startswith(line)):
                    raise self._foreign()
                break
            if not good:
                self._check_header(line)
            good += len(line)
        self._file.truncate(good)
        self._file.seek(good)
        self._end = good

    def records(self) -> Iterator[tuple[Line, dict]]:
        """The records with their places, in the order in which they were added. A line that is no record is left out,
        and said."""
        damaged = []
        for number, (place, line) in enumerate(lines_of(self.part), start=1):
            if number == 1:  # the header
                continue
            if (row := _with(line, "key", str)) is None:
                damaged.append(number)
            else:
                yield place, row
        if damaged:
            log.warning("arena_rm: %d lines of %s are no records (line %d first)", len(damaged), self.part, damaged[0])

    def _check_header(self, line: bytes) -> None:
        row = _with(line, "header", dict)
        if row is None:
            raise self._foreign()
        if row["header"] != self.header:
            raise DataError(
                f"{self.part} was begun with other settings ({_difference(row['header'], self.header)})",
                "its scores cannot be continued",
                "delete it to start afresh, or repeat the first command",
            )

    def _foreign(self) -> DataError:
        return DataError(
            f"{self.part} line 1 is not from a run of arena-rm",
            "the file would be overwritten",
            "move it away, or choose another -o",
        )

    def _write(self, row: dict) -> None:
        line = line_of(row)
        with naming(self.part):
            self._file.write(line)
            self._file.flush()
        self._end += len(line)

    def add(self, row: dict) -> int:
        """Appends a record, which has its own "key"; returns the byte of the part at which it begins."""
        start = self._end
        self._write(row)
        return start

    def finish(self, rows: Iterable[dict]) -> None:
        """Writes OUT, one line for each of the finished rows, and removes the part."""
        self.finish_lines(map(line_of, rows))

    def finish_lines(self, lines: Iterable[bytes]) -> None:
        """As `finish`, for rows that are lines already (`line_of`)."""
        with atomic_write(self.out, binary=True) as out:
            for line in lines:
                out.write(line)
        os.unlink(self.part)


def line_of(row: dict) -> bytes:
    """A row as a line of a file."""
    return json.dumps(row, ensure_ascii=False).encode("utf-8") + b"\n"


def lines_of(path: Path) -> Iterator[tuple[Line, bytes]]:
    """The lines of a file with their places."""
    start = 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            place = Line(f"{path}, line {number}")
            place.start = start
            start += len(line)
            yield place, line


def _is_at(file: int, path: Path) -> bool:
    """Whether an open file is the one that lies at the path."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except OSError:
        return False


def _with(line: bytes, name: str, kind: type) -> dict | None:
    """The object of a line that has `name` with a value of that kind; None for any other line."""
    try:
        row = parse_json(line.decode("utf-8"))
    except ValueError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get(name), kind) else None


def _difference(old: dict, new: dict) -> str:
    names = sorted(k for k in old.keys() | new.keys() if old.get(k) != new.get(k))
    return ", ".join(f"{k}: {old.get(k)!r} then, {new.get(k)!r} now" for k in names)[:300]
