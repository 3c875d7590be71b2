"""Commands of `arena-rm` as a user types them, in this process: `conftest` has fixtures for some of them."""

import pytest

from harness_plugin.cli import main


def code_of(arguments: list[str]) -> int:
    """The exit code of `arena-rm`; anything but an exit is a traceback for whoever typed the command."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    return stop.value.code or 0
