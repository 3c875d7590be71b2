"""The values of a JSON array, one after the other, without holding the whole array.

This file knows JSON and not what a row means.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from harness_plugin.files.checked import UNIQUE_NAMES, GivenTwice

_SPACE = " \t\n\r"
_ENDS = (",", "]", *_SPACE)


def array_values(pieces: Iterable[str]) -> Iterator[Any]:
    """The values of the array whose text the pieces make together.

    Each is yielded as soon as its text is whole, so that whoever needs the first ones reads no further. In the place of
    a value in which an object has one name twice, the GivenTwice that says so is yielded. Raises ValueError, as
    `json.loads` does, for text that is not one JSON array, nested too deeply, or with numbers that Python does not
    convert; what stood before the place of the error was yielded.
    """
    text = _Text(pieces)
    if text.next_character() != "[":
        raise ValueError("it does not begin with [")
    text.at += 1
    if text.next_character() == "]":
        text.at += 1
    else:
        while True:
            yield text.value()
            mark = text.next_character()
            text.at += 1
            if mark == "]":
                break
            if mark != ",":
                raise ValueError("a comma or ] is missing after a value" if mark else "it ends within the array")
    if text.next_character():
        raise ValueError("text follows the end of the array")


class _Text:
    """The text from the place `at` on, as far as it was needed, and more of it on demand."""

    def __init__(self, pieces: Iterable[str]):
        self._pieces = iter(pieces)
        self._text = ""
        self._before = 0
        self.at = 0

    def _more(self, size: int = 1) -> bool:
        """Forgets what stands before `at` and takes at least `size` more characters, if there are so many; False at the
        end of the text."""
        taken = []
        while size > 0 and (piece := next(self._pieces, None)) is not None:
            taken.append(piece)
            size -= len(piece)
        self._text, self._before, self.at = self._text[self.at :] + "".join(taken), self._before + self.at, 0
        return bool(taken)

    def next_character(self) -> str:
        """The next character that is no space; empty at the end of the text."""
        while True:
            while self.at < len(self._text):
                if self._text[self.at] not in _SPACE:
                    return self._text[self.at]
                self.at += 1
            if not self._more():
                return ""

    def value(self) -> Any:
        """The next value, or the GivenTwice in its place. It is whole once a space, a comma or ] follows it, since a
        number could go on."""
        self.next_character()
        decoder, twice = UNIQUE_NAMES, None
        while True:
            try:
                value, end = decoder.raw_decode(self._text, self.at)
            except GivenTwice as error:
                decoder, twice = _ANY_NAMES, error  # which finds the end of the value
                continue
            except RecursionError as error:
                raise ValueError("nested too deeply") from error
            except ValueError as error:
                found = str(error)
                if isinstance(error, json.JSONDecodeError):
                    found = f"{error.msg}: character {self._before + error.pos}"
                # The text may be cut within the value. Twice as much each time, so that a long value costs little.
                if self._more(len(self._text) - self.at):
                    continue
                raise ValueError(found) from error
            size = end - self.at
            if self._text[end : end + 1] in _ENDS or not self._more():
                self.at += size
                return twice or value


_ANY_NAMES = json.JSONDecoder()
