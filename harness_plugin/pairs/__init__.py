"""Pairs: one prompt, two responses, who won; and the files they come in.

`pair` says what a pair is and `answer` what one model's answer is; `formats` turns rows into either; `pair_readers` and
`answer_readers` read files of them, and `writers` writes files of pairs. `notes` says on the log which columns were
read and which were not (by what `column_names` make them look like), `cells` and `text_notes` what single cells, and
the texts that were read, may have lost. `likeness` says which texts look alike. Nothing here knows tokens, models or
statistics, and importing it imports nothing but the standard library.
"""

from harness_plugin.pairs.answer import Answer
from harness_plugin.pairs.answer_readers import read_outputs, read_questions
from harness_plugin.pairs.formats.detection import detect_format
from harness_plugin.pairs.formats.registry import FORMATS
from harness_plugin.pairs.pair import (
    FIELDS,
    MARKS,
    MissingAnswer,
    Pair,
    Text,
    Winner,
    content_id,
    flat_text,
    labelled,
    text_length,
    turn_count,
)
from harness_plugin.pairs.pair_readers import PairFile, pair_from_row, pairs_from_rows, read_pairs
from harness_plugin.pairs.writers import write_pairs

__all__ = [
    "FIELDS",
    "FORMATS",
    "MARKS",
    "Answer",
    "MissingAnswer",
    "Pair",
    "PairFile",
    "Text",
    "Winner",
    "content_id",
    "detect_format",
    "flat_text",
    "labelled",
    "pair_from_row",
    "pairs_from_rows",
    "read_outputs",
    "read_pairs",
    "read_questions",
    "text_length",
    "turn_count",
    "write_pairs",
]
