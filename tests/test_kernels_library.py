"""The library of our kernels: it is compiled once for each source and limit, and never loaded stale or damaged."""

import logging
import shutil
import subprocess
import sys

import pytest
from kernel_needs import needs_a_compiler

from harness_plugin.kernels import instructions, library


@needs_a_compiler
def test_a_library_is_compiled_once_and_another_source_or_a_failure_never_loads_a_stale_one(tmp_path, monkeypatch):
    monkeypatch.setenv("ARENA_RM_HOME", str(tmp_path))
    first = library._compiled()
    stamp = first.stat().st_mtime_ns
    assert library._compiled() == first and first.stat().st_mtime_ns == stamp
    for_less = limited(monkeypatch, "avx2")
    assert for_less != first and limited(monkeypatch, "") == first
    changed = tmp_path / "sources"
    shutil.copytree(library.FOLDER, changed)
    monkeypatch.setattr(library, "FOLDER", changed)
    assert library._compiled() == first
    (changed / "common.h").write_text((changed / "common.h").read_text() + "\nint more(void);\n")
    assert library._compiled() not in (first, for_less)
    (changed / "steps.c").write_text("this is not C")
    with pytest.raises(subprocess.CalledProcessError):
        library._compiled()
    assert len(list((tmp_path / "kernels").glob("*"))) == 3, "nothing half made stays"


def test_a_compiler_that_takes_too_long_is_the_reason_in_the_log(monkeypatch, caplog):
    def endless():
        raise subprocess.TimeoutExpired(["cc", *library.FLAGS], 120)

    monkeypatch.setattr(library, "_compiled", endless)
    with caplog.at_level(logging.INFO, logger="lm_eval.arena_rm"):
        assert library.kernels.__wrapped__() is None
    assert "(the compiler did not end within 120 seconds)" in caplog.text


def limited(monkeypatch, limit):
    """The library that is compiled under a limit of the instructions."""
    monkeypatch.setenv(instructions.LIMIT, limit)
    return library._compiled()


@pytest.mark.skipif(sys.platform != "linux", reason="kernels are compiled only on Linux")
def test_a_compiler_that_does_not_know_an_option_of_a_limit_compiles_without_it(tmp_path, monkeypatch):
    """As gcc 10 does not know AVX-VNNI."""
    compiler, calls = tmp_path / "cc", tmp_path / "calls"
    compiler.write_text(
        f'#!/bin/sh\necho "$@" >> {calls}\n'
        'case " $* " in *" -mno-avxvnni "*) echo "unrecognized command-line option" >&2; exit 1;; esac\n'
        'while [ $# -gt 1 ] && [ "$1" != -o ]; do shift; done\n'
        '[ "$1" != -o ] || echo library > "$2"\n'
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    monkeypatch.setenv("ARENA_RM_HOME", str(tmp_path / "home"))
    assert limited(monkeypatch, "avx2").read_text() == "library\n"
    assert " -mno-avx512f " in calls.read_text().splitlines()[-1]


@pytest.mark.skipif(sys.platform != "linux", reason="kernels are compiled only on Linux")
def test_a_damaged_library_is_compiled_anew_and_not_loaded(tmp_path, monkeypatch, caplog):
    """Loading one that was cut would end the process with SIGBUS."""
    compiler = tmp_path / "cc"
    compiler.write_text('#!/bin/sh\nwhile [ "$1" != -o ]; do source=$1; shift; done\ncp "$source" "$2"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    monkeypatch.setenv("ARENA_RM_HOME", str(tmp_path / "home"))
    whole = (library.FOLDER / "steps.c").read_bytes()
    file = library._compiled()
    for damage in (whole[:5000], b"", whole[:-1] + b"?"):
        file.write_bytes(damage)
        assert library._compiled() == file and file.read_bytes() == whole
        assert "is damaged" in caplog.text
    assert list(file.parent.iterdir()) == [file]
