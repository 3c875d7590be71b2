"""The files that a gate leaves: gate.json, comment.md and junit.xml."""

from pathlib import Path

from harness_plugin.errors import UsageError
from harness_plugin.files import atomic_write
from harness_plugin.files.printable import readable
from harness_plugin.gate import GateResult
from harness_plugin.report.gate_text import as_json, markdown
from harness_plugin.report.junit import junit


def write_gate(folder: Path, result: GateResult) -> None:
    """Writes the three files into `folder`, which is made. Raises UsageError where it is a file, DataError where it
    cannot be written."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"-o {folder} is a file", "a gate writes several files", "name a folder")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("gate.json", as_json), ("comment.md", markdown), ("junit.xml", junit)):
        with atomic_write(folder / name) as out:
            out.write(readable(text(result)))
