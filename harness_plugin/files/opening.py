"""Opens files to be read: on this machine, on other systems by a URI, or standard input; plain or compressed; with one
typed error for a bad file.

This file knows bytes and lines and not what a row means.
"""

import codecs
import io
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from harness_plugin.errors import DataError
from harness_plugin.files.compression import BROKEN, CHUNK, Stream, compression_of
from harness_plugin.files.systems import is_of_system, is_remote, reached, unreachable, without_query

STDIN = "-"
_REMOTE_CHUNK = 1 << 22
_UNPACK = "unpack it and name the file"
_FETCH = "fetch the file itself (on huggingface.co its address has /resolve/ where the page's has /blob/)"
_AS_LINES = "write the rows as JSON lines"
_UTF8 = "save it as UTF-8"
_NOT_READ = (  # first bytes, what they are of, and what to do
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!", "a rar archive", _UNPACK),
    (b"\x04\x22\x4d\x18", "compressed with lz4", _UNPACK),
    (b"ARROW1", "an Arrow file", "write it as parquet"),
    (b"\xff\xff\xff\xff", "an Arrow stream", "write it as parquet (a saved data set with its method to_parquet)"),
    (b"SQLite format 3", "an SQLite database", _AS_LINES),
    (b"\x89HDF", "an HDF5 file", _AS_LINES),
    (b"\x80\x04\x95", "a pickle", _AS_LINES),
    (b"\x80\x05\x95", "a pickle", _AS_LINES),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook", "save the sheet as CSV in UTF-8"),
    (b"\xff\xfe", "text in UTF-16", _UTF8),
    (b"\xfe\xff", "text in UTF-16", _UTF8),
    (b"version https://git-lfs", "the pointer to a file of Git LFS", "fetch the file itself (git lfs pull)"),
    (b"<!doctype html", "a web page", _FETCH),
    (b"<html", "a web page", _FETCH),
)
_TAR = slice(257, 262), b"ustar"


def display(path: str | os.PathLike[str]) -> str:
    """The path as messages name it."""
    return "standard input" if os.fspath(path) == STDIN else os.fspath(path)


@contextmanager
def open_binary(path: str | os.PathLike[str]) -> Iterator[Stream]:
    """The decompressed bytes of a file as a buffered stream; "-" is standard input, and a URI such as hf://, s3:// or
    https:// a file on another system, of which only what is asked for is read.

    Compression is told by the first bytes, not by the name. Raises DataError for a file that cannot be opened, is
    empty, is named as compressed without being so, is an archive of several files or of a kind that is not read, or
    turns out cut or corrupt while the stream is read.
    """
    name = display(path)
    try:
        with _raw(path) as raw:
            head = raw.peek(6)[:6]
            if not head:
                raise DataError(f"{name} is empty", "there is nothing to read", "check how the file was made")
            packed = compression_of(without_query(name), head)
            if packed is None:
                _refuse_other_kinds(name, raw)
                yield raw
            else:
                with packed.open(raw, name) as stream:
                    _refuse_other_kinds(name, stream)
                    _refuse_compressed(name, stream)
                    yield stream
    except BROKEN as error:
        raise DataError(
            f"{name} is cut off or corrupt ({error})", "only part of it could be read", "fetch or make it again"
        ) from error
    except OSError as error:
        why = error.strerror or str(error)
        raise DataError(
            f"{name} cannot be read ({why})", "there is no data", "check the path and its permissions"
        ) from error


@contextmanager
def _raw(path: str | os.PathLike[str]) -> Iterator["io.BufferedReader[Any]"]:
    name = os.fspath(path)
    if name == STDIN:
        # What a test or a notebook puts in the place of sys.stdin may have no `peek`.
        yield io.BufferedReader(_Unclosed(sys.stdin.buffer), CHUNK)
    elif is_remote(name):
        with reached(name, "read") as (system, place):
            source = system.open_input_file(place)
        with source:
            yield io.BufferedReader(_Remote(source, name), _REMOTE_CHUNK)
    else:
        with io.BufferedReader(io.FileIO(path), CHUNK) as raw:
            yield raw


def _refuse_other_kinds(name: str, stream: Stream) -> None:
    """Raises DataError for archives and tables that are not read, and for the page around a file on the web."""
    head = stream.peek(512)
    place, tar = _TAR
    kinds = [(kind, do) for magic, kind, do in _NOT_READ if head.lower().startswith(magic.lower())]
    kinds += [("a tar archive", _UNPACK)] * (head[place] == tar)
    kinds += [("text in UTF-16", _UTF8)] * _is_wide(head[:16])
    if kinds:
        raise DataError(f"{name} is {kinds[0][0]}", "such files are not read", kinds[0][1])


def _is_wide(head: bytes) -> bool:
    """Whether each second byte is 0, and no other one: UTF-16 without the mark at its beginning."""
    even, odd = head[::2], head[1::2]
    return bool(odd) and any(not any(zeros) and all(others) for zeros, others in ((even, odd), (odd, even)))


def _refuse_compressed(name: str, stream: Stream) -> None:
    """Raises DataError for what is compressed once more within a compressed file."""
    if (inside := compression_of("", stream.peek(6)[:6])) is not None:
        raise DataError(f"{name} holds a file that is compressed with {inside.kind}", "one is unpacked", _UNPACK)


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


class _Remote(_Unclosed):
    """Reads a file of another system, from any place in it. Raises DataError where the system fails."""

    def __init__(self, stream: Any, name: str):
        super().__init__(stream)
        self._name = name

    def readinto(self, buffer: Any) -> int:
        try:
            return super().readinto(buffer)
        except Exception as error:
            if not is_of_system(error):
                raise
            raise unreachable(self._name, "read", error) from error

    def seekable(self) -> bool:
        return bool(self._stream.seekable())

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._stream.seek(offset, whence))

    def tell(self) -> int:
        return int(self._stream.tell())


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
                    "characters could be read wrongly",
                    "save the file as UTF-8",
                ),
            )


def text_pieces(stream: Stream, name: str) -> Iterator[str]:
    """The text of a stream in pieces of any length. Raises DataError where the bytes are not UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    before = 0
    while True:
        data = stream.read1(CHUNK)
        kept = len(decoder.getstate()[0])
        try:
            yield decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            raise DataError(
                f"{name}: byte {error.object[error.start]:#04x} at position {before - kept + error.start} is not UTF-8",
                "characters could be read wrongly",
                "save the file as UTF-8",
            ) from error
        before += len(data)
        if not data:
            return
