"""Compressed data: told by its first bytes, and read as the bytes that were compressed.

This file knows bytes and not what a row means.
"""

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeAlias, cast

from harness_plugin.errors import DataError
from harness_plugin.files.optional import optional_module

Stream: TypeAlias = "io.BufferedReader[Any] | gzip.GzipFile | zipfile.ZipExtFile"
"""Decompressed bytes; all three kinds have `peek`."""

CHUNK = 1 << 18
BROKEN = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, zipfile.BadZipFile)
"""What is raised, while a stream is read, by data that is cut off or corrupt."""


@dataclass(frozen=True)
class Compression:
    """One kind of compressed file. `suffix`: how its name ends; `magic`: how its bytes may begin; `open`: the raw
    stream and the name for messages to a context with the decompressed one."""

    suffix: str
    magic: tuple[bytes, ...]
    kind: str
    open: Callable[["io.BufferedReader[Any]", str], Any]


def compression_of(name: str, head: bytes) -> Compression | None:
    """The compression that the first bytes show; None for plain data. Raises DataError for a file that is named as
    compressed and does not begin so."""
    for known in COMPRESSIONS:
        if head.startswith(known.magic):
            return known
    for known in COMPRESSIONS:
        if name.lower().endswith(known.suffix):
            raise DataError(
                f"{name} is named {known.suffix} but does not start as {known.kind} data does (first bytes {head!r})",
                "it may be an error page or a cut download",
                "fetch it again, or rename it if it is not compressed",
            )
    return None


def uncompressed_name(name: str, stream: Stream) -> str:
    """The name of what was compressed, in lower case: that of the file in an archive, else without the suffix."""
    if isinstance(stream, zipfile.ZipExtFile):
        return stream.name.lower()
    stem = name.lower()
    for known in COMPRESSIONS:
        stem = stem.removesuffix(known.suffix)
    return stem


@contextmanager
def _gzip(raw: "io.BufferedReader[Any]", name: str) -> Iterator[Stream]:
    with gzip.GzipFile(fileobj=raw) as stream:
        yield stream


@contextmanager
def _zstd(raw: "io.BufferedReader[Any]", name: str) -> Iterator[Stream]:
    zstandard = optional_module("zstandard", "zstandard", f"{name} is compressed with zstd")
    frames = _Frames(raw, lambda: zstandard.ZstdDecompressor().decompressobj(), zstandard.ZstdError)
    with io.BufferedReader(frames, CHUNK) as stream:
        yield stream


@contextmanager
def _bzip2(raw: "io.BufferedReader[Any]", name: str) -> Iterator[Stream]:
    with io.BufferedReader(_Frames(raw, bz2.BZ2Decompressor, OSError), CHUNK) as stream:
        yield stream


@contextmanager
def _xz(raw: "io.BufferedReader[Any]", name: str) -> Iterator[Stream]:
    with io.BufferedReader(_Frames(raw, lzma.LZMADecompressor, lzma.LZMAError, b"\0"), CHUNK) as stream:
        yield stream


@contextmanager
def _zip(raw: "io.BufferedReader[Any]", name: str) -> Iterator[Stream]:
    """The one file of an archive. What macOS adds (`__MACOSX`, names that begin with a dot) does not count."""
    with zipfile.ZipFile(raw if raw.seekable() else io.BytesIO(raw.read())) as archive:
        names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
        names = [n for n in names if not n.startswith("__MACOSX/") and not n.rpartition("/")[2].startswith(".")]
        if "xl/workbook.xml" in names:
            raise DataError(f"{name} is an Excel workbook", "such files are not read", "save the sheet as CSV in UTF-8")
        if len(names) != 1:
            listed = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            raise DataError(
                f"{name} is a zip archive with {len(names)} files ({listed or 'none'})",
                "the rows are read from an archive with one file",
                "unpack it and name the file",
            )
        try:
            with archive.open(names[0]) as stream:
                yield cast(zipfile.ZipExtFile, stream)
        except (NotImplementedError, RuntimeError) as error:  # a method that zipfile lacks; a password
            raise DataError(
                f"{name} cannot be unpacked here ({error})", "its rows cannot be read", "unpack it and name the file"
            ) from error


COMPRESSIONS = (
    Compression(".gz", (b"\x1f\x8b",), "gzip", _gzip),
    Compression(".zst", (b"\x28\xb5\x2f\xfd",), "zstd", _zstd),
    Compression(".bz2", (b"BZh",), "bzip2", _bzip2),
    Compression(".xz", (b"\xfd7zXZ\x00",), "xz", _xz),
    Compression(".zip", (b"PK\x03\x04", b"PK\x05\x06"), "zip", _zip),
)
PACKED = tuple(known.suffix for known in COMPRESSIONS)
"""How the names of compressed files end."""


class _Frames(io.RawIOBase):
    """Decompresses data that consists of frames, one after the other. Raises EOFError where the last one is cut or one
    is corrupt, which the libraries' own readers pass over.

    `new_frame`: a decompressor of one frame; `error`: what it raises; `padding`: a byte that may stand between frames.
    """

    def __init__(self, source: BinaryIO, new_frame: Callable[[], Any], error: type[Exception], padding: bytes = b""):
        self._source, self._new_frame, self._error, self._padding = source, new_frame, error, padding
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
        packed = self._packed or self._source.read(CHUNK)
        self._packed = b""
        if not packed:
            if self._frame is not None:
                raise EOFError("its last part is not complete")
            return False
        if self._frame is None:
            packed = packed.lstrip(self._padding) if self._padding else packed
            if not packed:
                return True
            self._frame = self._new_frame()
        try:
            self._plain = memoryview(self._frame.decompress(packed))
        except self._error as error:
            raise EOFError(str(error)) from error
        if self._frame.eof:
            self._packed, self._frame = self._frame.unused_data, None
        return True
