"""What a command says when it fails, and its exit code. Every exception has one here; none of them gives 1."""

import errno
import traceback
from pathlib import Path

import click

from harness_plugin.errors import INTERRUPTED, NOT_DONE, PIPE_CLOSED, USAGE, ArenaError

PACKAGE = Path(__file__).resolve().parent.parent


def explained(error: BaseException) -> tuple[int, str]:
    """(exit code, what to print after "arena-rm: ", "" for nothing). Names torch's errors without importing it."""
    if isinstance(error, ArenaError):
        return error.exit_code, str(error)
    if isinstance(error, click.ClickException):  # click prints it, with the command's usage
        return USAGE if isinstance(error, click.UsageError) else NOT_DONE, ""
    if isinstance(error, (click.Abort, KeyboardInterrupt)):
        return INTERRUPTED, "interrupted"
    if isinstance(error, BrokenPipeError):
        return PIPE_CLOSED, ""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "allocate memory" in str(error):
        return NOT_DONE, "out of memory; use a smaller --batch-size or --max-length, or another device"
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith(__package__.split(".")[0]):
        return NOT_DONE, _missing(error.name.partition(".")[0])
    if isinstance(error, OSError) and error.errno is not None:
        return NOT_DONE, _of_system(error)
    return NOT_DONE, _internal(error)


def _missing(package: str) -> str:
    return (
        f"the Python package {package} is not installed; this command needs it; "
        "run: pip install lm-eval-arena-rm, which installs it too (`arena-rm doctor` lists what is missing)"
    )


def _of_system(error: OSError) -> str:
    """An error of the operating system, with the file if the error names it."""
    reason = error.strerror or errno.errorcode.get(error.errno or 0, "unknown")
    place = "" if error.filename is None else f"{error.filename}: "
    if isinstance(error, (FileExistsError, NotADirectoryError)) and isinstance(error.filename, str):
        path = Path(error.filename)  # of a folder that is to be made, in which a file may be in the place of a parent
        file = next((part for part in (path, *path.parents) if part.is_file()), path)
        return f"{file}: a file is there; a folder is needed in its place; name another path"
    do = "; free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        do = "; the command has to use it; name another place, or change its permissions"
    return f"{place}{reason}{do}"


def _internal(error: BaseException) -> str:
    """A fault of this package, in one line that is worth sending."""
    ours = [f for f in traceback.extract_tb(error.__traceback__) if PACKAGE in Path(f.filename).resolve().parents]
    place = f" in {Path(ours[-1].filename).relative_to(PACKAGE)} line {ours[-1].lineno}" if ours else ""
    said = " ".join(str(error).split())[:300]
    return (
        f"internal error: {type(error).__name__}: {said}{place}; this is a fault of arena-rm; "
        "please report this line, the command and the output of `arena-rm doctor` (--debug prints the traceback too)"
    )
