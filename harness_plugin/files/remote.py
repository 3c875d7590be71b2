"""Files of a run on other file systems: whatever Arrow reaches by a URI.

s3://, gs://, abfs://, hdfs://, file:// and fsspec+PROTOCOL://, as Ray reads them; a plain path is a folder on this
machine. This file knows bytes and names.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from harness_plugin.errors import DataError
from harness_plugin.files.opening import optional_module

log = logging.getLogger("lm_eval.arena_rm")


@dataclass(frozen=True)
class Place:
    """Where a run reads and writes. `files`: local files; `folder`: a local folder for the report; `output`: the name
    that the user gave, where scores are kept."""

    files: list[str]
    folder: Path
    output: str


def is_remote(name: str) -> bool:
    """Whether the name is a URI."""
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
            with reached(output, "written") as (system, path):
                system.create_dir(path)
                arrow_fs().copy_files(str(folder), path, arrow_fs().LocalFileSystem(), system)


def fetched(uri: str, folder: Path) -> str:
    """The path of a local copy of the file, or of the folder with the files that lie directly in it.

    The copy has the name of the original and lies in a folder named as the original's, since names of models may be
    read from both. Raises DataError where there is nothing.
    """
    with reached(uri, "read") as (system, path):
        fs = arrow_fs()
        info = system.get_file_info(path)
        if info.type == fs.FileType.NotFound:
            raise DataError(f"{uri} is not there", "there is nothing to read", "check the name")
        copy = folder / Path(path).parent.name / Path(path).name
        inside = [f for f in system.get_file_info(fs.FileSelector(path)) if f.is_file] if not info.is_file else []
        for source, target in [(f.path, copy / f.base_name) for f in inside] or [(path, copy)]:
            target.parent.mkdir(parents=True, exist_ok=True)
            fs.copy_files(source, str(target), system, fs.LocalFileSystem())
        return str(copy)


def arrow_fs() -> Any:
    """The module pyarrow.fs. Raises DataError where pyarrow is not installed."""
    return optional_module("pyarrow.fs", "pyarrow", "a file system was named by a URI, or scores are kept as Parquet")


@contextmanager
def reached(place: str, how: str) -> Iterator[tuple[Any, str]]:
    """(Arrow's file system, path in it) of a URI or a local path.

    Errors of the file system in the block become a DataError which says that `place` cannot be `how`, such as "read".
    """
    fs = arrow_fs()
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


@contextmanager
def whole_stream(system: Any, path: str) -> Iterator[Any]:
    """An output stream on one of Arrow's file systems whose file appears under `path` only when the block ends well."""
    with system.open_output_stream(f"{path}.part") as stream:
        yield stream
    system.move(f"{path}.part", path)
