"""Commands of `arena-rm` as a user types them: `conftest` has fixtures for some of them."""

import json

import pytest

from harness_plugin.cli import main

# `arena-rm` in a process that kills itself (-9) when nine rows are in its journal, below the line about the run
KILLED = """
import os, signal
import harness_plugin.judges.presentations as scoring
from harness_plugin.files.journal import Journal
scoring.CHUNK, add = 4, Journal.add
def killing(self, row, added=[]):
    added.append(row)
    start = add(self, row)
    if len(added) == 9:
        os.kill(os.getpid(), signal.SIGKILL)
    return start
Journal.add = killing
from harness_plugin.cli import main
main()
"""


@pytest.fixture
def judge(tiny_base, tiny_adapter):
    return ["--pretrained", tiny_base("gemma3"), "--peft", tiny_adapter("gemma3"), "--dtype", "float32"]


def run(args, capsys):
    """(exit code, stdout, stderr) of arena-rm in this process."""
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in args])
    out = capsys.readouterr()
    return stop.value.code, out.out, out.err


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def code_of(arguments: list[str]) -> int:
    """The exit code of `arena-rm`; anything but an exit is a traceback for whoever typed the command."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    return stop.value.code or 0
