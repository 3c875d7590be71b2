"""Opens files to be read: plain, .gz, .zst or standard input, with one typed error for a bad file.

This file knows bytes and lines and not what a row means.
"""

import gzip
import importlib
import io
import os
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, TypeAlias

from harness_plugin.errors import DataError

STDIN = "-"
Stream: TypeAlias = "io.BufferedReader[Any] | gzip.GzipFile"
"""Decompressed bytes; both kinds have `peek`."""

_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_CHUNK = 1 << 18


def display(path: str | os.PathLike[str]) -> str:
    """The path as messages name it."""
    return "standard input" if os.fspath(path) == STDIN else os.fspath(path)


def optional_module(module: str, package: str, found: str) -> Any:
    """The imported module of a package that need not be installed. Raises DataError, which begins with `found` and says
    what to install, where it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DataError(
            f"{found}, and the Python package {package} is not installed",
            "without it the file cannot be read or written",
            f"run: pip install {package}",
        ) from error


@contextmanager
def open_binary(path: str | os.PathLike[str]) -> Iterator[Stream]:
    """The decompressed bytes of a file ("-" is standard input) as a buffered stream.

    Compression is told by the first bytes, not by the name. Raises DataError for a file that cannot be opened, is
    empty, is named .gz or .zst without being so, or turns out cut or corrupt while the stream is read.
    """
    name = display(path)
    try:
        with _raw(path) as raw:
            head = raw.peek(4)[:4]
            if not head:
                raise DataError(f"{name} is empty", "there is nothing to read", "check how the file was made")
            _check_suffix(name, head)
            if head.startswith(_GZIP_MAGIC):
                with gzip.GzipFile(fileobj=raw) as stream:
                    yield stream
            elif head == _ZSTD_MAGIC:
                zstandard = optional_module("zstandard", "zstandard", f"{name} is compressed with zstd")
                with io.BufferedReader(_ZstdReader(raw, zstandard), _CHUNK) as stream:
                    yield stream
            else:
                yield raw
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{name} is cut off or corrupt ({error})", "only part of it could be read", "fetch or make it again"
        ) from error
    except OSError as error:
        why = error.strerror or str(error)
        raise DataError(
            f"{name} cannot be read ({why})", "there is no data", "check the path and its rights"
        ) from error


@contextmanager
def _raw(path: str | os.PathLike[str]) -> Iterator["io.BufferedReader[Any]"]:
    if os.fspath(path) == STDIN:
        # What a test or a notebook puts in the place of sys.stdin may have no `peek`.
        yield io.BufferedReader(_Unclosed(sys.stdin.buffer), _CHUNK)
    else:
        with io.BufferedReader(io.FileIO(path), _CHUNK) as raw:
            yield raw


def _check_suffix(name: str, head: bytes) -> None:
    for suffix, magic, kind in ((".gz", _GZIP_MAGIC, "gzip"), (".zst", _ZSTD_MAGIC, "zstd")):
        if name.endswith(suffix) and not head.startswith(magic):
            raise DataError(
                f"{name} is named {suffix} but does not start as {kind} data does (first bytes {head!r})",
                "it may be an error page or a cut download",
                "fetch it again, or rename it if it is not compressed",
            )


class _Unclosed(io.RawIOBase):
    """Reads another stream and leaves it open."""

    def __init__(self, stream: Any):
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _ZstdReader(io.RawIOBase):
    """Decompresses zstd frames; EOFError where the last one is cut, which zstandard's own reader passes over."""

    def __init__(self, source: BinaryIO, zstandard: Any):
        self._source, self._zstandard = source, zstandard
        self._frame: Any = None
        self._packed = b""
        self._plain = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._plain:
            if not self._fill():
                return 0
        size = min(len(buffer), len(self._plain))
        buffer[:size] = self._plain[:size]
        self._plain = self._plain[size:]
        return size

    def _fill(self) -> bool:
        packed = self._packed or self._source.read(_CHUNK)
        self._packed = b""
        if not packed:
            if self._frame is not None:
                raise EOFError("the last zstd frame is not complete")
            return False
        if self._frame is None:
            self._frame = self._zstandard.ZstdDecompressor().decompressobj()
        try:
            self._plain = memoryview(self._frame.decompress(packed))
        except self._zstandard.ZstdError as error:
            raise EOFError(str(error)) from error
        if self._frame.eof:
            self._packed, self._frame = self._frame.unused_data, None
        return True


def text_lines(stream: Iterable[bytes], name: str, unit: str = "line") -> Iterator[tuple[int, str | DataError]]:
    """Line number from 1, and the line with its end; a DataError in its place where the bytes are not UTF-8.

    Lines end at a line feed only: other separators that Unicode knows are part of somebody's text.
    """
    for number, raw in enumerate(stream, start=1):
        if number == 1 and raw.startswith(b"\xef\xbb\xbf"):
            raw = raw[3:]
        try:
            yield number, raw.decode("utf-8")
        except UnicodeDecodeError as error:
            yield (
                number,
                DataError(
                    f"{name} {unit} {number}: byte {raw[error.start]:#04x} at position {error.start} is not UTF-8",
                    "the text cannot be read for certain",
                    "save the file as UTF-8",
                ),
            )
