"""Standard output and standard error of a command, made safe once for everything that is written to them.

Names, ids, texts and errors come from files that others made. Whatever they hold, a terminal and a CI runner take it
for text, a character that the encoding lacks is written out, and a stream that cannot be written to does not turn into
another exit code.
"""

import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from harness_plugin.files.printable import encodable, without_commands, without_controls

_BARS = re.compile(r"(\r|\n|\x1b\[A)*")  # what progress bars write to move the cursor


class RunnerCommand(str):
    """A line that a CI runner is meant to take for a command."""


class SafeStream(io.TextIOBase):
    """Writes to `stream` what `files.printable` leaves of a text. `name`: how messages call the stream.

    Raises OSError, with the name, if the stream cannot be written to; BrokenPipeError if its reader has ended. With
    `may_fail` neither is raised, and what is written later is lost: notes must not end a run.
    """

    encoding = "utf-8"  # what it takes; the stream's own encoding may be smaller

    def __init__(self, stream: Any, name: str, may_fail: bool):
        self._stream, self._name, self._may_fail = stream, name, may_fail
        self._head = ""  # of the line that is being written, without the white space before it, two characters

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        if not isinstance(text, str):  # so that click sees that the stream is none of bytes
            raise TypeError(f"a string is needed, not {type(text).__name__}")
        if text:
            self._put(self._safe(text))
        return len(text)

    def flush(self) -> None:
        self._trying(self._stream.flush)

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        """The stream is not this object's to close."""

    def discard(self) -> None:
        """From here on, what is written is lost; what is in the stream's buffer must not fail when Python ends."""
        with suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)

    def _safe(self, text: str) -> str:
        bar = ""
        if self._stream.isatty():
            if _BARS.fullmatch(text):
                return text
            if text.startswith("\r"):
                bar, text = "\r", text[1:]
        if isinstance(text, RunnerCommand):
            return without_controls(text)
        safe = without_commands(without_controls(text), self._head)
        self._head = (self._head * ("\n" not in text) + text.rpartition("\n")[2]).lstrip()[:2]
        return bar + safe

    def _put(self, text: str) -> None:
        shown = encodable(text, getattr(self._stream, "encoding", None) or "utf-8")
        self._trying(lambda: self._stream.write(shown))

    def _trying(self, act) -> None:
        try:
            act()
        except OSError as e:
            if self._may_fail:
                self.discard()
                return
            if isinstance(e, BrokenPipeError):
                raise
            raise OSError(e.errno, e.strerror or str(e), self._name) from e


@contextmanager
def safe_streams() -> Iterator[None]:
    """Within the block, sys.stdout and sys.stderr are safe. A stream that the shell closed (`>&-`) becomes one to the
    null device: the next file that is opened would get its number, and be written to by mistake."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - open as long as Python runs
    before: tuple[TextIO, TextIO] = sys.stdout, sys.stderr
    out = SafeStream(sys.stdout, "standard output", may_fail=False)
    sys.stdout, sys.stderr = out, SafeStream(sys.stderr, "standard error", may_fail=True)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        try:
            out.flush()
        except OSError:  # has been said; Python would fail on it once more when it ends, and exit with 120
            out.discard()
