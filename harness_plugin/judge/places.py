"""Files of a run that are not on this machine, or not only: any file system that Arrow names by a URI.

s3://, gs://, abfs://, hdfs://, file:// and fsspec+PROTOCOL://, as Ray reads them; a plain path is a folder here. Knows
bytes, names and rows, no model.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from harness_plugin.errors import DataError
from harness_plugin.pairs import content_id
from harness_plugin.pairs.files import need

log = logging.getLogger("lm_eval.arena_rm")

SCORES = "scores"  # the folder of blocks in a run's folder


@dataclass(frozen=True)
class Place:
    """Where a run reads and writes. `files`: local ones; `folder`: a local one for the report; `output`: what the user
    called it, where `Blocks` are kept."""

    files: list[str]
    folder: Path
    output: str


def is_remote(name: str) -> bool:
    return "://" in name


@contextmanager
def local(files: Sequence[str], output: str) -> Iterator[Place]:
    """The files as local ones, and a local folder whose files are copied to `output` at the end, if that is a URI.
    Raises DataError for a URI that cannot be read or written."""
    if not any(map(is_remote, [*files, output])):
        yield Place(list(files), Path(output), output)
        return
    with TemporaryDirectory(prefix="arena-rm-") as scratch:
        here = [fetched(name, Path(scratch) / str(n)) if is_remote(name) else name for n, name in enumerate(files)]
        folder = Path(scratch) / "output" if is_remote(output) else Path(output)
        yield Place(here, folder, output)
        if is_remote(output):
            with _reached(output, "written") as (system, path):
                system.create_dir(path)
                _arrow().copy_files(str(folder), path, _arrow().LocalFileSystem(), system)


def fetched(uri: str, folder: Path) -> str:
    """A local copy of the file, or of the folder with the files right in it, under the name and in a folder of the name
    that it has there, since names of models may be read from those."""
    with _reached(uri, "read") as (system, path):
        fs = _arrow()
        info = system.get_file_info(path)
        if info.type == fs.FileType.NotFound:
            raise DataError(f"{uri} is not there", "there is nothing to read", "check the name")
        copy = folder / Path(path).parent.name / Path(path).name
        inside = [f for f in system.get_file_info(fs.FileSelector(path)) if f.is_file] if not info.is_file else []
        for source, target in [(f.path, copy / f.base_name) for f in inside] or [(path, copy)]:
            target.parent.mkdir(parents=True, exist_ok=True)
            fs.copy_files(source, str(target), system, fs.LocalFileSystem())
        return str(copy)


class Blocks:
    """Scores of texts in PLACE/scores/JUDGE, a Parquet file per block of pairs. A file is written beside its name and
    moved there, so that it is whole or absent; it is named by its content, so that a block that is judged twice is one
    file. `judge`: the hash of whoever judges; others' blocks stand in folders of their own."""

    def __init__(self, place: str, judge: str):
        self.place, self.judge = place, judge

    def read(self) -> dict[str, dict]:
        """Score rows (`scoring.score_row`) by the keys of their pairs. A damaged file counts as missing."""
        fs, parquet = _arrow(), need("pyarrow.parquet", "pyarrow", "scores are kept as Parquet")
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
            need("pyarrow", "pyarrow", "scores are kept as Parquet"),
            need("pyarrow.parquet", "pyarrow", ""),
        )
        table = arrow.Table.from_pylist([row | {"judge": self.judge} for row in rows])
        with self._folder() as (system, path):
            name = f"{path}/{content_id(*sorted(row['key'] for row in rows))}"
            with system.open_output_stream(f"{name}.part") as stream:
                parquet.write_table(table, stream)
            system.move(f"{name}.part", f"{name}.parquet")

    @contextmanager
    def _folder(self):
        with _reached(self.place, "used") as (system, path):
            path = f"{path.rstrip('/')}/{SCORES}/{self.judge}"
            system.create_dir(path, recursive=True)
            yield system, path


def _arrow():
    return need("pyarrow.fs", "pyarrow", "a file system was named by a URI, or scores are kept as Parquet")


@contextmanager
def _reached(place: str, how: str):
    """(file system, path in it) of a URI or a local path; its troubles as one line."""
    fs = _arrow()
    try:
        if is_remote(place):
            yield fs.FileSystem.from_uri(place)
        else:
            yield fs.LocalFileSystem(), str(Path(place).absolute())
    except (OSError, ValueError, ImportError) as e:  # Arrow's errors derive from the first two
        first = str(e).strip().split("\n")[0][:200]
        raise DataError(
            f"{place} cannot be {how} ({first})", "a run reads and writes there", "check the URI and your rights"
        ) from e
