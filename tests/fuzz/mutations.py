"""Damage of every kind that a disk, an editor or an attacker does to a file, drawn with a seed."""

import json
import random
from collections.abc import Iterator
from typing import Any

DEEP: Any = []
for _ in range(200):
    DEEP = [DEEP]
NUMBERS = (True, False, -1, 0, 2, 0.5, 1e308, -1e308, 5e-324, 10**400, float("nan"), float("inf"), 2**63)
TEXTS = ("", " ", "x" * 5000, "\x1b[2J", "::error::x", "\ud800", "日本", "../../x", "<b>", "NaN", "1", "model_a")
ODD = (None, *NUMBERS, *TEXTS, [], {}, [[1]], [None], {"a": 1}, ["x", 1], DEEP)


def mutated(draw: random.Random, data: bytes) -> bytes:
    """The content with one to three changes."""
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        data = draw.choice((_bytes, _cut, _lines, _value, _value, _value, _value, _key))(draw, data)
    return data


def _bytes(draw: random.Random, data: bytes) -> bytes:
    noisy = bytearray(data or b"\0")
    for _ in range(draw.choice((1, 1, 3, 30))):
        noisy[draw.randrange(len(noisy))] = draw.randrange(256)
    return bytes(noisy)


def _cut(draw: random.Random, data: bytes) -> bytes:
    at, length = draw.randrange(len(data) + 1), draw.choice((0, 1, 100, 4096))
    return draw.choice((data[:at], data[at:], data[:at] + data[at + length :], data[:at] + bytes(length) + data[at:]))


def _lines(draw: random.Random, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True) or [b""]
    one, other = draw.randrange(len(lines)), draw.randrange(len(lines))
    kind = draw.randrange(6)
    if kind == 0:
        del lines[one]
    elif kind == 1:
        lines.insert(other, lines[one])
    elif kind == 2:
        lines[one], lines[other] = lines[other], lines[one]
    elif kind == 3:
        lines.insert(one, draw.choice((b"\n", b"null\n", b"[]\n", b"{}\n", b"\xff\n", b"[" * 5000 + b"\n", b"---\n")))
    elif kind == 4:
        return draw.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"\x1f\x8b", b"PAR1")) + data
    else:
        return data.replace(b"\n", draw.choice((b"\r\n", b"\r", b"\n\n")))
    return b"".join(lines)


def _document(draw: random.Random, data: bytes) -> tuple[Any, int | None]:
    """(a JSON document of the content, the number of its line or None where it is the whole); (None, None) for none."""
    try:
        return json.loads(data), None
    except (ValueError, RecursionError):
        lines = data.splitlines()
        number = draw.randrange(len(lines)) if lines else 0
        try:
            return json.loads(lines[number]), number
        except (ValueError, IndexError, RecursionError):
            return None, None


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a document, as (its parent, its key)."""
    for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
        yield node, key
        yield from _places(node[key])


def _changed(draw: random.Random, data: bytes, change) -> bytes:
    document, number = _document(draw, data)
    places = list(_places(document))
    if not places:
        return _bytes(draw, data)
    change(*draw.choice(places))
    text = json.dumps(document).encode("utf-8", "surrogatepass")
    if number is None:
        return text
    lines = data.splitlines()
    lines[number] = text
    return b"\n".join([*lines, b""])


def _value(draw: random.Random, data: bytes) -> bytes:
    def change(parent, key):
        value = parent[key]
        near = [value * 2, value + 1, -value] if isinstance(value, (int, float)) and abs(value) < 1e300 else [value]
        parent[key] = draw.choice((*ODD, *near))

    return _changed(draw, data, change)


def _key(draw: random.Random, data: bytes) -> bytes:
    def change(parent, key):
        if isinstance(parent, list):
            parent.insert(key, draw.choice(ODD))
        elif draw.random() < 0.5:
            del parent[key]
        else:
            parent[draw.choice(("", "x", key.upper(), f"{key} ", "::error::"))] = parent.pop(key)

    return _changed(draw, data, change)
