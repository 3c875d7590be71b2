"""Several processes write into one store of scores, and are killed while they do: nothing that was stored is lost."""

import os
import random
import signal
import sqlite3
import subprocess
import sys

import pytest
from score_stores import WRITER, filled, opened, rows, writer

import harness_plugin.scoring.store as cache_room


@pytest.mark.slow
def test_several_processes_make_and_write_one_file_at_once_the_same_keys_and_others(tmp_path, store_journal):
    running = [writer(tmp_path / "c", first, 200, journal=store_journal) for first in (0, 0, 100, 1000)]
    for process in running:
        _, err = process.communicate()
        assert process.returncode == 0 and not err, err
    expected = rows(*range(300), *range(1000, 1200))
    with opened(tmp_path / "c") as cache:
        assert cache.get(list(expected)) == expected
        assert cache._db.execute("SELECT count(*) FROM scores").fetchone() == (len(expected),)
        assert cache._db.execute("PRAGMA journal_mode").fetchone() == (
            b"wal" if store_journal == "local" else b"delete",
        )


@pytest.mark.slow
def test_a_killed_writer_loses_nothing_that_was_stored_and_leaves_a_whole_file(tmp_path, store_journal):
    done, draw = 0, random.Random(1)
    for _ in range(3):
        process, other = (writer(tmp_path / "c", first, 100_000, 7, store_journal) for first in (done, 500_000 + done))
        for _ in range(draw.randrange(3, 30)):
            done = int(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)
        os.kill(other.pid, signal.SIGKILL)
        assert process.wait() == other.wait() == -signal.SIGKILL
        process.communicate(), other.communicate()
        with opened(tmp_path / "c") as cache:
            assert cache.get(list(rows(*range(done)))) == rows(*range(done))
            assert cache._db.execute("PRAGMA integrity_check").fetchone() == (b"ok",)
            assert cache.damaged == 0


def test_a_writer_killed_inside_a_transaction_leaves_none_of_it_and_no_lock(tmp_path, store_journal, monkeypatch):
    filled(tmp_path / "c", 100)
    inside = WRITER.split("for start")[0] + (
        "db = cache._db\n"
        "db.execute('PRAGMA cache_size = 1')\n"  # so that pages reach the disk before the end of the transaction
        "db.execute('BEGIN IMMEDIATE')\n"
        "for i in range(20000): db.execute('INSERT INTO scores VALUES (?, ?)', (b'%d' % i, b'x' * 24))\n"
        "print('inside', flush=True)\n"
        "time.sleep(100)\n"
    )
    command = [sys.executable, "-c", inside, tmp_path / "c", store_journal, "0", "0", "1"]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "inside\n"
    monkeypatch.setattr(cache_room, "WAIT", 0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with opened(tmp_path / "c") as cache:
        cache.put(rows(100))
        assert cache.get(list(rows(*range(101)))) == rows(*range(101))
        assert cache._db.execute("SELECT count(*) FROM scores").fetchone() == (101,)


def test_a_lock_that_is_not_given_back_costs_the_cache_and_not_the_run(tmp_path, monkeypatch, caplog):
    filled(tmp_path / "c", 3)
    monkeypatch.setattr(cache_room, "WAIT", 0.1)
    cache = opened(tmp_path / "c")
    other = sqlite3.connect(tmp_path / "c", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    cache.put(rows(7))
    cache.put(rows(8))
    assert [r.getMessage() for r in caplog.records if "locked" in r.getMessage()] == [caplog.records[0].getMessage()]
    assert "no more scores are stored in this run" in caplog.text
    assert cache.get(list(rows(0, 7))) == rows(0), "reading goes on"
    other.close()


def test_a_transaction_that_cannot_end_is_given_up_and_blocks_nobody(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_room, "LOCAL", set())
    monkeypatch.setattr(cache_room, "WAIT", 0.1)
    cache = opened(filled(tmp_path / "c", 3))
    reader = sqlite3.connect(tmp_path / "c", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM scores").fetchone()
    cache.put(rows(7))  # its rows are written, but cannot be committed beside the reader
    reader.close()
    with opened(tmp_path / "c") as third:
        third.put(rows(8))
        assert third.get(list(rows(0, 7, 8))) == rows(0, 8)
