"""Lists that stand as text in the cell of a table: as JSON, or as Python and numpy write them, which is what pandas
puts into CSV files.

This file knows spellings and not what a list means.
"""

import ast
import io
import tokenize
from typing import Any

from harness_plugin.files.checked import GivenTwice
from harness_plugin.files.rows import parse_unique

_WORDS = {"nan": "None"}
_CLOSING, _OPENING = ("]", "}"), ("[", "{")
_VALUES = (tokenize.STRING, tokenize.NUMBER, tokenize.NAME)
_SPACES = (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)


def written_list(text: str) -> list[Any] | None:
    """The list that a text spells in JSON, or as `str` writes lists and arrays; None where it spells none, or where an
    object in it has one name twice, since only one of its values would be read."""
    if not text.lstrip().startswith("["):
        return None
    try:
        value = parse_unique(text)
    except GivenTwice:
        return None
    except ValueError:
        value = _python_list(text)
    return value if isinstance(value, list) else None


def _python_list(text: str) -> Any:
    """The value that a text spells in Python or numpy; None where it spells none. A number that is none (nan) is None.

    numpy writes no commas between the values of an array. Python itself takes two texts without a comma for one.
    """
    try:
        tokens = []
        for token in tokenize.generate_tokens(io.StringIO(text.strip()).readline):
            if token.type == tokenize.ERRORTOKEN:  # each open quote behind it would be sought to the end of the text
                return None
            if token.type not in _SPACES:
                tokens.append(token)
        return ast.literal_eval(" ".join(_with_commas(tokens)))
    except (tokenize.TokenError, ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def _with_commas(tokens: list[tokenize.TokenInfo]) -> list[str]:
    """The words of a list of lists, with all commas, without array(..., dtype=...), and with lists for tuples."""
    words = [token.string for token in tokens]
    found: list[str] = []
    opened: list[str] = []
    ended, at = False, 0
    while at < len(words):
        size, word = 1, _WORDS.get(words[at], words[at])
        if words[at : at + 2] == ["array", "("]:
            size, word = 2, ""
            opened.append(word)
        elif words[at : at + 3] == [",", "dtype", "="] and words[at + 4 : at + 5] == [")"] and opened:
            size, word = 5, opened.pop()
        elif word == "(":
            word = "["
            opened.append("]")
        elif word == ")":
            word = opened.pop() if opened else word
        apart = at > 0 and tokens[at].start > tokens[at - 1].end
        begins = word in _OPENING or (size == 1 and tokens[at].type in _VALUES)
        if ended and apart and begins:
            found.append(",")
        if word:
            found.append(word)
            ended = word in _CLOSING or tokens[at].type in _VALUES
        at += size
    return found
