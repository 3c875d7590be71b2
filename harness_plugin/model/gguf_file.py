"""What a GGUF file holds: its fields, and its tensors as float32.

The package `gguf` reads each of the 800,000 strings and numbers of a vocabulary by itself, which takes ten seconds and
transformers does it three times; here all take a tenth of a second. The blocks of numbers are undone by `gguf.quants`.
Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

MAGIC = b"GGUF"
STRING, ARRAY, BOOL = 8, 9, 7
NUMBERS = {
    0: "u1",
    1: "i1",
    2: "<u2",
    3: "<i2",
    4: "<u4",
    5: "<i4",
    6: "<f4",
    BOOL: "?",
    10: "<u8",
    11: "<i8",
    12: "<f8",
}
UINT32, UINT64 = 4, 10
BLOCKS = 1024  # in a part of a tensor: few enough for a cache, and enough that Python's own time counts little


@dataclass(frozen=True)
class Stored:
    """A tensor as it is stored: its shape, the number of its kind, and where its bytes begin."""

    shape: tuple[int, ...]
    kind: int
    start: int


class GgufFile:
    """A GGUF file in memory. `fields` maps names to numbers, strings, lists of strings and arrays of numbers; `tensors`
    maps the names of tensors to where they are, in the order of the file. Raises ValueError for bytes that are no GGUF
    file."""

    def __init__(self, content: bytes):
        self._content, self._place = content, len(MAGIC)
        if content[: len(MAGIC)] != MAGIC:
            raise ValueError("the first bytes are not those of a GGUF file")
        self._number(UINT32)  # the version
        tensors, fields = self._number(UINT64), self._number(UINT64)
        self.fields = {self._string(): self._value(self._number(UINT32)) for _ in range(fields)}
        described = [
            (self._string(), self._shape(), self._number(UINT32), self._number(UINT64)) for _ in range(tensors)
        ]
        step = self.fields.get("general.alignment", 32)
        data = -(-self._place // step) * step
        self.tensors = {name: Stored(shape, kind, data + start) for name, shape, kind, start in described}

    def parts(self, tensor: Stored) -> Iterator[np.ndarray]:
        """The values of a tensor, float32, in flat parts that fit into a cache; one part where they are stored so."""
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
        from gguf.quants import dequantize

        kind = GGMLQuantizationType(tensor.kind)
        values, size = GGML_QUANT_SIZES[kind]  # of a block: how many values in how many bytes
        blocks = math.prod(tensor.shape) // values
        raw = np.frombuffer(self._content, np.uint8, blocks * size, tensor.start)
        if kind == GGMLQuantizationType.F32:
            yield raw.view("<f4")
            return
        for start in range(0, len(raw), BLOCKS * size):
            yield dequantize(raw[start : start + BLOCKS * size], kind)

    def _number(self, kind: int) -> Any:
        value = np.frombuffer(self._content, NUMBERS[kind], 1, self._place)[0]
        self._place += value.nbytes
        return value.item()

    def _shape(self) -> tuple[int, ...]:
        """The file has the size that changes fastest first."""
        return tuple(self._number(UINT64) for _ in range(self._number(UINT32)))[::-1]

    def _string(self) -> str:
        length = struct.unpack_from("<Q", self._content, self._place)[0]
        start = self._place + 8
        self._place = start + length
        return self._content[start : self._place].decode("utf-8")

    def _value(self, kind: int) -> Any:
        if kind == STRING:
            return self._string()
        if kind != ARRAY:
            return self._number(kind)
        inner, length = self._number(UINT32), self._number(UINT64)
        if inner == STRING:
            return [self._string() for _ in range(length)]
        values = np.frombuffer(self._content, NUMBERS[inner], length, self._place)
        self._place += values.nbytes
        return values
