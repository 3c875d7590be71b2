"""Pairs: one prompt, two responses, who won; and the files they come in.

`core` says what a pair is, `files` opens and writes files, `tables` yields their rows, `chat` turns messages into
texts, `battles` and `preferences` turn rows into pairs, `formats` tells them apart, `readers` and `writers` put these
together, `outputs` reads files that hold one model's answers. Nothing here knows tokens, models or statistics, and
importing it imports nothing but the standard library.
"""

from harness_plugin.files.writing import atomic_write
from harness_plugin.pairs.formats import FORMATS, detect_format
from harness_plugin.pairs.formats.answers import Output, read_outputs
from harness_plugin.pairs.pair import FIELDS, Pair, Text, Winner, content_id, text_length
from harness_plugin.pairs.readers import PairFile, pair_from_row, pairs_from_rows, read_pairs
from harness_plugin.pairs.writers import write_pairs

__all__ = [
    "FIELDS",
    "FORMATS",
    "Output",
    "Pair",
    "PairFile",
    "Text",
    "Winner",
    "atomic_write",
    "content_id",
    "detect_format",
    "pair_from_row",
    "pairs_from_rows",
    "read_outputs",
    "read_pairs",
    "text_length",
    "write_pairs",
]
