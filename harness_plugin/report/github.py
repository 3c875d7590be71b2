"""A gate's result where GitHub Actions looks for it: the step's summary and outputs, and annotations.

Outside GitHub Actions nothing is written: each place is there only where the runner says so.
"""

import os
from pathlib import Path

from harness_plugin.errors import DataError
from harness_plugin.files.printable import log_line, readable
from harness_plugin.gate import GateResult, State
from harness_plugin.gate.decide import DECIDES
from harness_plugin.gate.rules import WARN
from harness_plugin.report.gate_text import document, headline, markdown

MOST = 4  # annotations; GitHub shows ten of a kind per step
OUTPUTS = ("baseline", "current", "difference", "low", "high", "p_holm", "smallest_drop", "prompts")


def report_to_github(result: GateResult, folder: Path | None) -> list[str]:
    """Appends to $GITHUB_STEP_SUMMARY and $GITHUB_OUTPUT where they are set, and returns the lines to be printed: with
    $GITHUB_ACTIONS the annotations. `folder`: where the files of the result are. Raises DataError where the runner's
    files cannot be written."""
    outputs = "".join(f"{name}={value}\n" for name, value in _outputs(result, folder).items())
    _append(os.environ.get("GITHUB_STEP_SUMMARY"), markdown(result) + "\n")
    _append(os.environ.get("GITHUB_OUTPUT"), outputs)
    return annotations(result) if os.environ.get("GITHUB_ACTIONS") == "true" else []


def annotations(result: GateResult) -> list[str]:
    """Workflow commands: an error for what fails the step, warnings for what else a reader must see."""
    found = []
    if result.exit_code:
        found.append(_command("error", headline(result)))
    elif result.state == State.INCONCLUSIVE and result.rules.on_inconclusive == WARN:
        found.append(_command("warning", headline(result)))
    for m in result.decision.measured if result.decision else ():
        if m.state == State.REGRESSION and m.role != DECIDES:
            found.append(
                _command("warning", f"{log_line(m.name)} ({m.role}): a significant drop of {abs(m.difference):.4f}")
            )
    return found[:MOST]


def _command(kind: str, message: str) -> str:
    text = message[:1000].replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return f"::{kind} title=arena-rm gate::{text}"


def _outputs(result: GateResult, folder: Path | None) -> dict[str, str]:
    """Numbers are of the first metric that decides."""
    said = document(result)
    metric = said["metrics"][0] if said["metrics"] else {}
    found = {"verdict": said["verdict"], "metric": log_line(metric.get("name", ""))}
    found |= {name.replace("_", "-"): "" if metric.get(name) is None else str(metric[name]) for name in OUTPUTS}
    return found | {"comment": "" if folder is None else log_line(folder / "comment.md")}


def _append(file: str | None, text: str) -> None:
    if not file:
        return
    try:
        with open(file, "a", encoding="utf-8") as out:
            out.write(readable(text))
    except OSError as e:
        raise DataError(
            f"{file} cannot be written ({e.strerror or e})",
            "GitHub asked for the result there",
            "check the runner's disk",
        ) from e
