"""File systems that a URI names, all seen through Arrow.

Arrow reaches s3://, gs://, abfs://, hdfs:// and file:// itself; hf://, https:// and everything else are reached through
fsspec. This file knows names of places and not what lies there.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness_plugin.errors import ArenaError, DataError
from harness_plugin.files.optional import optional_module

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_WEB = ("http", "https")


def is_remote(name: str) -> bool:
    """Whether the name is a URI."""
    return _URI.match(name) is not None


def without_query(name: str) -> str:
    """The name without what follows the path in a web address (`?download=true`); any other name as it is."""
    return re.split(r"[?#]", name, maxsplit=1)[0] if name.lower().startswith(_WEB) and is_remote(name) else name


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
            yield _system(fs, place)
        else:
            yield fs.LocalFileSystem(), str(Path(place).absolute())
    except Exception as error:
        if not is_of_system(error):
            raise
        raise unreachable(place, how, error) from error


def is_of_system(error: Exception) -> bool:
    """Whether a file system may have raised it. Those reached through fsspec and the transports under them share no
    base class; Python's own errors other than these three, and ours, come from elsewhere."""
    if isinstance(error, ArenaError):
        return False
    return isinstance(error, (OSError, ValueError, ImportError)) or type(error).__module__ != "builtins"


def unreachable(place: str, how: str, error: Exception) -> DataError:
    """The error for a place that cannot be `how` ("read", "written"), with the first line of the system's own words."""
    first = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    missing = re.search(r"[Ii]nstall (\S+) to", first)  # fsspec's words for a package that it needs
    advice = f"run: pip install {missing[1]}" if missing else "check the URI, your permissions and the network"
    return DataError(f"{place} cannot be {how} ({first[:200]})", "a file system that the URI names is needed", advice)


def _system(fs: Any, uri: str) -> tuple[Any, str]:
    try:
        return fs.FileSystem.from_uri(uri)
    except ValueError as error:
        if "Unrecognized filesystem type" not in str(error):
            raise
    fsspec = optional_module("fsspec.core", "fsspec", f"{uri} is reached through fsspec")
    protocol = uri.partition("://")[0].lower()
    # Without `trust_env` the proxy that the environment names would not be used.
    options = {"client_kwargs": {"trust_env": True}} if protocol in _WEB else {}
    system, path = fsspec.url_to_fs(uri, **options)
    return fs.PyFileSystem(fs.FSSpecHandler(system)), path


@contextmanager
def whole_stream(system: Any, path: str) -> Iterator[Any]:
    """An output stream on one of Arrow's file systems whose file appears under `path` only when the block ends well."""
    with system.open_output_stream(f"{path}.part") as stream:
        yield stream
    system.move(f"{path}.part", path)
