"""Commands of `arena-rm` as a user types them, in this process."""

import pytest

from harness_plugin.cli import main


def code_of(arguments: list[str]) -> int:
    """The exit code of `arena-rm`; anything but an exit is a traceback for whoever typed the command."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    return stop.value.code or 0


def gate(monkeypatch, capsys):
    """gate(*arguments) -> (exit code, stdout, stderr) of `arena-rm gate`, outside GitHub."""
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments):
        capsys.readouterr()
        return code_of(["gate", *map(str, arguments)]), *capsys.readouterr()

    return run


def arena(capsys):
    """arena(*args) -> (exit code, stdout, stderr) of arena-rm in this process."""

    def run(*args):
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in args])
        out = capsys.readouterr()
        assert not stop.value.code or "Traceback" not in out.err
        return stop.value.code, out.out, out.err

    return run
