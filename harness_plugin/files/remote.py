"""Files of a run on other file systems: copied here to be read, and what was written copied there.

This file knows places and not what lies in the files.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from harness_plugin.errors import DataError
from harness_plugin.files.systems import arrow_fs, is_remote, reached, without_query


@dataclass(frozen=True)
class Place:
    """Where a run reads and writes. `files`: local files; `folder`: a local folder for the report; `output`: the name
    that the user gave, where scores are kept."""

    files: list[str]
    folder: Path
    output: str


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
        named = Path(without_query(path))
        copy = folder / named.parent.name / named.name
        inside = [f for f in system.get_file_info(fs.FileSelector(path)) if f.is_file] if not info.is_file else []
        for source, target in [(f.path, copy / f.base_name) for f in inside] or [(path, copy)]:
            target.parent.mkdir(parents=True, exist_ok=True)
            fs.copy_files(source, str(target), system, fs.LocalFileSystem())
        return str(copy)
