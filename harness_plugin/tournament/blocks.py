"""Scores of a cluster's workers, kept in blocks as Parquet files, here or where a URI says. Knows rows, no model."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from harness_plugin.errors import DataError
from harness_plugin.files.optional import optional_module
from harness_plugin.files.systems import arrow_fs, reached, whole_stream
from harness_plugin.pairs import content_id
from harness_plugin.scoring.judgement import Judgement, read_judgements
from harness_plugin.tournament.folder import SCORES_FOLDER

log = logging.getLogger("lm_eval.arena_rm")

# What a damaged file raises: our error, and those from which Arrow's derive.
BROKEN = (DataError, ValueError, KeyError, TypeError, OSError)
COLUMN = "judgement"
"""The one column of a block: a row as JSON. A column for each field would change types on the way, and Parquet has no
empty objects."""


class Blocks:
    """Scores of texts in PLACE/scores/JUDGE, a Parquet file per block of pairs. A file is written beside its name and
    moved there, so that it is whole or absent; it is named by its content, so that a block that is judged twice is one
    file. `judge`: the hash of whoever judges; others' blocks stand in folders of their own."""

    def __init__(self, place: str, judge: str):
        self.place, self.judge = place, judge

    def read(self) -> Iterator[Judgement]:
        """The judgements, a block at a time; texts that were judged twice come twice. A damaged file counts as
        missing."""
        fs = arrow_fs()
        with self._folder() as (system, path):
            for file in sorted(system.get_file_info(fs.FileSelector(path)), key=lambda f: f.path):
                if file.is_file and file.extension == "parquet":
                    yield from _block(system, file.path)

    def write(self, judgements: list[Judgement]) -> None:
        """One more block. Raises DataError where it cannot be written."""
        arrow, parquet = _pyarrow("pyarrow"), _pyarrow("pyarrow.parquet")
        table = arrow.table({COLUMN: [json.dumps(judgement.to_row()) for judgement in judgements]})
        with self._folder() as (system, path):
            name = f"{path}/{content_id(*sorted(judgement.key for judgement in judgements))}"
            with whole_stream(system, f"{name}.parquet") as stream:
                parquet.write_table(table, stream)

    @contextmanager
    def _folder(self):
        with reached(self.place, "used") as (system, path):
            path = f"{path.rstrip('/')}/{SCORES_FOLDER}/{self.judge}"
            system.create_dir(path, recursive=True)
            yield system, path


def _block(system: Any, path: str) -> list[Judgement]:
    """The judgements of a file on one of Arrow's file systems; none where it is damaged, which is said."""
    try:
        with system.open_input_file(path) as stream:
            rows = map(json.loads, _pyarrow("pyarrow.parquet").read_table(stream)[COLUMN].to_pylist())
        return list(read_judgements((f"{path} row {n}", row) for n, row in enumerate(rows, start=1)))
    except BROKEN as e:
        log.warning("arena_rm: %s is damaged (%s); its pairs are judged again", path, e)
        return []


def _pyarrow(module: str) -> Any:
    return optional_module(module, "pyarrow", "scores are kept as Parquet")
