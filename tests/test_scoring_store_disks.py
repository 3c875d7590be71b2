"""The store of scores on disks that are full, fail or may not be written: the run goes on."""

import errno
import os
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from score_stores import WRITER, digest, filled, opened, rows

FULL = (
    "import logging, resource; logging.basicConfig()\n"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
    + WRITER.replace("    print(start", "    print(len(cache.get(list(rows))) == step, cache._stores) #")
)


def test_a_full_disk_is_said_once_and_what_was_stored_stays(tmp_path, store_journal):
    command = [sys.executable, "-c", FULL, tmp_path / "c", store_journal, 0, 5000, 50]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    steps = done.stdout.splitlines()
    good = steps.count("True True")
    assert good > 3 and steps == ["True True"] * good + ["False False"] * (100 - good)
    assert done.stderr.count("score cache") == 1 and "no more scores are stored in this run" in done.stderr
    with opened(tmp_path / "c") as cache:
        assert cache.get(list(rows(*range(5000)))) == rows(*range(50 * good))
        cache.put(rows(9999))
        assert cache.get([digest(9999)])


@pytest.fixture
def guarded():
    """A folder that the user of this test may enter, and a function that takes the right to write there."""
    with tempfile.TemporaryDirectory() as name:
        folder, me = Path(name), os.geteuid()
        folder.chmod(0o755)

        def guard(*files):
            for file in files:
                file.chmod(0o555 if file.is_dir() else 0o444)
            if me == 0:
                os.seteuid(65534)  # root may write everywhere

        yield folder, guard
        if me == 0:
            os.seteuid(0)
        folder.chmod(0o755)


@pytest.mark.parametrize("what", ["file", "folder", "both"])
def test_a_cache_that_cannot_be_written_is_read_and_that_is_said_once(guarded, what, store_journal, caplog):
    folder, guard = guarded
    path = filled(folder / "c", 20)
    before = path.read_bytes()
    guard(*{"file": [path], "folder": [folder], "both": [path, folder]}[what])
    with opened(path) as cache:
        assert cache.get(list(rows(0, 19, 20))) == rows(0, 19)
        cache.put(rows(20))
        cache.put(rows(21))
        assert cache.get(list(rows(0, 20))) == rows(0)
    assert path.read_bytes() == before
    assert len(caplog.records) == 1 and str(path) in caplog.text and "stored" in caplog.text


def test_where_no_cache_can_be_made_or_read_scoring_goes_on_and_says_so(guarded, caplog):
    folder, guard = guarded
    secret = filled(folder / "secret", 3)
    secret.chmod(0)
    (folder / "file").touch()
    guard(folder)
    for path in (secret, folder / "new", folder / "sub" / "new", folder / "file" / "new"):
        caplog.clear()
        with opened(path) as cache:
            cache.put(rows(1))
            assert cache.get([digest(1)]) == {}
        assert len(caplog.records) == 1 and "scoring goes on without it" in caplog.text, path


def test_a_failing_disk_ends_the_reading_and_not_the_run(tmp_path, caplog):
    cache = opened(filled(tmp_path / "c", 3))

    class Failing:
        def execute(self, *args):
            raise sqlite3.OperationalError(f"disk I/O error {errno.EIO}")

        def close(self):
            pass

    cache._db.close()
    cache._db = Failing()
    assert cache.get([digest(1)]) == cache.get([digest(2)]) == {} and cache.misses == 2
    cache.put(rows(1))
    assert len(caplog.records) == 1 and "scoring goes on without it" in caplog.text
