"""Writes files and folders beside their place and moves them in, so that nobody ever reads half of one.

This file knows bytes and places on disk and not what a row means.
"""

import errno
import gzip
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, cast

from harness_plugin.errors import DataError
from harness_plugin.files.optional import optional_module

TEMPORARY = ".arena-rm-"  # how the names of temporary files begin
JUST_MADE = 60.0  # seconds: a file that was just made may not be locked yet
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
        with naming(target), file:
            yield file
        return
    remove_left(target.parent)
    temporary = target.with_name(f"{TEMPORARY}{os.getpid()}-{os.urandom(4).hex()}.tmp")
    with _writing(target, "make"):
        file = open(temporary, **{**options, "mode": options["mode"].replace("w", "x")})  # noqa: SIM115
    held = os.dup(file.fileno())  # keeps the lock until the file is in its place
    try:
        lock(held)
        with naming(target), file:
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
    finally:
        os.close(held)


def lock(file: int) -> bool:
    """Locks an open file for this process; False where another holds it. The lock ends with the process. Windows has no
    such lock, and some network file systems have none: there it is as if nobody else were there."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        return True
    except OSError as e:
        return e.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True


def remove_left(folder: Path) -> None:
    """Removes the temporary files in the folder whose writers were killed: those that nobody holds and that were not
    just made."""
    with suppress(OSError):
        for file in folder.glob(f"{TEMPORARY}*.tmp"):
            with suppress(OSError), open(file, "rb") as left:
                if time.time() - os.fstat(left.fileno()).st_mtime > JUST_MADE and lock(left.fileno()):
                    file.unlink()


@contextmanager
def compressed_write(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """As `atomic_write` in binary, but compressed where the name ends in .gz or .zst.

    The same content gives the same bytes. Raises DataError also where the package for .zst is not installed.
    """
    name = os.fspath(path)
    with atomic_write(path, binary=True) as file:
        if name.endswith(".gz"):
            # The header holds no name and no time, so that the bytes depend on the content only.
            with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
                yield cast(IO[bytes], packed)
        elif name.endswith(".zst"):
            zstandard = optional_module("zstandard", "zstandard", f"{name} is to be compressed with zstd")
            with zstandard.ZstdCompressor().stream_writer(file, closefd=False) as packed:
                yield packed
        else:
            yield file


@contextmanager
def moved_into_place(target: Path) -> Iterator[Path]:
    """A path beside `target` where a program or a library writes a file or a folder, which is moved to `target` when
    the block ends well; otherwise it is removed.

    Whoever opens the file itself uses `atomic_write`. A run that is killed leaves a folder `target`.*.tmp. Raises
    OSError where the path cannot be made or moved, such as to a folder that is not empty.
    """
    with TemporaryDirectory(prefix=f"{target.name}.", suffix=".tmp", dir=target.parent) as scratch:
        place = Path(scratch) / target.name
        yield place
        os.replace(place, target)


@contextmanager
def naming(target: Path) -> Iterator[None]:
    """Turns errors of the disk into one that names the file; other errors of the block pass."""
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
