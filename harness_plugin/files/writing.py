"""Writes files: beside their place and moved in, so that nobody ever finds half a file.

This file knows bytes and places on disk; it must not know what a row means.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from harness_plugin.errors import DataError

_DISK_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)


@contextmanager
def atomic_write(path: str | os.PathLike[str], binary: bool = False) -> Iterator[IO[Any]]:
    """A new file that appears under `path` only when the block ends well; otherwise nothing changes.

    Yields a text file (UTF-8, line feeds as given) or a binary one, written beside its place and moved in. An
    existing file keeps its mode, a link its target; a device such as /dev/null is written in place.
    Raises DataError where the file cannot be made or moved.
    """
    target = Path(os.path.realpath(path))
    options: dict[str, Any] = {"mode": "wb"} if binary else {"mode": "w", "encoding": "utf-8", "newline": ""}
    if os.path.exists(path) and not os.path.isfile(path):
        with _writing(target, "open"):
            file = open(path, **options)  # noqa: SIM115
        with _full_disk(target), file:
            yield file
        return
    temporary = target.with_name(f".arena-rm-{os.getpid()}-{os.urandom(4).hex()}.tmp")
    with _writing(target, "make"):
        file = open(temporary, **{**options, "mode": options["mode"].replace("w", "x")})  # noqa: SIM115
    try:
        with _full_disk(target), file:
            yield file
            with _writing(target, "write"):
                file.flush()
                os.fsync(file.fileno())
        with _writing(target, "replace"):
            if target.exists():
                shutil.copymode(target, temporary)
            os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def _full_disk(target: Path) -> Iterator[None]:
    """Names the file when the disk gives up; other errors of the block are its own."""
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_TROUBLE:
            raise _cannot("write", target, error) from error
        raise


@contextmanager
def _writing(target: Path, doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _cannot(doing, target, error) from error


def _cannot(doing: str, target: Path, error: OSError) -> DataError:
    why = error.strerror or str(error)
    return DataError(f"cannot {doing} {target} ({why})", "nothing was written", "choose another place")
