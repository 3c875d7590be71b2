"""Scores of a cluster's workers, kept in blocks as Parquet files, here or where a URI says. Knows rows, no model."""

import logging
from contextlib import contextmanager

from harness_plugin.files.opening import optional_module
from harness_plugin.files.remote import arrow_fs, reached
from harness_plugin.pairs import content_id

log = logging.getLogger("lm_eval.arena_rm")

SCORES = "scores"  # the folder of blocks in a run's folder


class Blocks:
    """Scores of texts in PLACE/scores/JUDGE, a Parquet file per block of pairs. A file is written beside its name and
    moved there, so that it is whole or absent; it is named by its content, so that a block that is judged twice is one
    file. `judge`: the hash of whoever judges; others' blocks stand in folders of their own."""

    def __init__(self, place: str, judge: str):
        self.place, self.judge = place, judge

    def read(self) -> dict[str, dict]:
        """Score rows (`scoring.score_row`) by the keys of their pairs. A damaged file counts as missing."""
        fs, parquet = arrow_fs(), optional_module("pyarrow.parquet", "pyarrow", "scores are kept as Parquet")
        rows: dict[str, dict] = {}
        with self._folder() as (system, path):
            for file in sorted(system.get_file_info(fs.FileSelector(path)), key=lambda f: f.path):
                if not (file.is_file and file.extension == "parquet"):
                    continue
                try:
                    with system.open_input_file(file.path) as stream:
                        found = parquet.read_table(stream).to_pylist()
                    rows.update({row["key"]: row for row in found})
                except (ValueError, KeyError, OSError) as e:  # Arrow's errors derive from the first and the last
                    log.warning("arena_rm: %s is damaged (%s); its pairs are judged anew", file.path, e)
        return rows

    def write(self, rows: list[dict]) -> None:
        """One more block. Raises DataError where it cannot be written."""
        arrow, parquet = (
            optional_module("pyarrow", "pyarrow", "scores are kept as Parquet"),
            optional_module("pyarrow.parquet", "pyarrow", ""),
        )
        table = arrow.Table.from_pylist([row | {"judge": self.judge} for row in rows])
        with self._folder() as (system, path):
            name = f"{path}/{content_id(*sorted(row['key'] for row in rows))}"
            with system.open_output_stream(f"{name}.part") as stream:
                parquet.write_table(table, stream)
            system.move(f"{name}.part", f"{name}.parquet")

    @contextmanager
    def _folder(self):
        with reached(self.place, "used") as (system, path):
            path = f"{path.rstrip('/')}/{SCORES}/{self.judge}"
            system.create_dir(path, recursive=True)
            yield system, path
