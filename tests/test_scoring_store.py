"""The score cache as a file: several writers, kills, damage, full disks, other programs' files; never a wrong number.

The processes started here load nothing heavy. How scoring uses the cache is in test_judges_store_use.py.
"""

import errno
import hashlib
import math
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

import harness_plugin.scoring.store as cache_room
from harness_plugin.errors import DataError
from harness_plugin.scoring.store import APPLICATION_ID, ScoreCache, describe

ROOT = Path(__file__).resolve().parents[1]
JUDGE = {"weights": "0123", "dtype": "float32"}
WRITER = f"""
import sys, hashlib, math, time
sys.path.insert(0, {str(ROOT)!r})
import harness_plugin.scoring.store as room
path, local, first, count, step = sys.argv[1], sys.argv[2] == "local", *map(int, sys.argv[3:6])
if not local:
    room.LOCAL = set()
cache = room.ScoreCache(path).bind({JUDGE!r}, 2)
for start in range(first, first + count, step):
    rows = {{hashlib.sha256(b"%d" % i).digest(): (math.sin(i), -i / 3) for i in range(start, start + step)}}
    cache.put(rows)
    assert all(rows[d] == z for d, z in cache.get(list(rows)).items())
    print(start + step, flush=True)
    time.sleep(0.003)  # scoring takes longer; without a pause two writers starve each other
"""


@pytest.fixture(params=["local", "elsewhere"])
def journal(request, monkeypatch):
    """Runs a test with a write-ahead log, and with the journal for file systems of several machines."""
    if request.param == "elsewhere":
        monkeypatch.setattr(cache_room, "LOCAL", set())
    return request.param


def digest(i):
    return hashlib.sha256(b"%d" % i).digest()


def rows(*numbers):
    """What WRITER stores under these numbers."""
    return {digest(i): (math.sin(i), -i / 3) for i in numbers}


def opened(path, judge=JUDGE):
    return ScoreCache(path).bind(judge, 2)


def filled(path, count):
    """A closed file with the rows 0 ... count-1."""
    with opened(path) as cache:
        cache.put(rows(*range(count)))
    assert [f.name for f in path.parent.iterdir()] == [path.name], "closing leaves one file"
    return path


def writer(path, first, count, step=5, journal="local"):
    command = [sys.executable, "-c", WRITER, path, journal, first, count, step]
    return subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def refused(path, *words):
    """Opening is refused in one line with these words, and the folder stays as it is, byte for byte."""
    before = {f.name: f.read_bytes() for f in path.parent.iterdir() if f.is_file()}
    with pytest.raises(DataError) as caught:
        ScoreCache(path)
    text = str(caught.value)
    assert "\n" not in text and str(path) in text and all(word in text for word in words), text
    assert {f.name: f.read_bytes() for f in path.parent.iterdir() if f.is_file()} == before
    assert caught.value.exit_code == 3


# -- what it keeps ----------------------------------------------------------------------------------------------------


def test_logits_come_back_bit_for_bit_and_what_is_not_there_is_counted(tmp_path):
    odd = {digest(1): (0.1 + 0.2, -0.0), digest(2): (5e-324, 1.7976931348623157e308), digest(3): (1 / 3, math.pi)}
    with opened(tmp_path / "new" / "folder" / "c") as cache:
        assert cache.get(list(odd)) == {}
        cache.put(odd)
    with opened(tmp_path / "new" / "folder" / "c") as cache:
        found = cache.get([digest(0), *odd, digest(2)])
        assert {k: [v.hex() for v in z] for k, z in found.items()} == {k: [v.hex() for v in z] for k, z in odd.items()}
        assert (cache.hits, cache.misses, cache.damaged) == (3, 1, 0)
        assert cache.summary() == f"3 of 4 presentations came from the cache {tmp_path / 'new' / 'folder' / 'c'}"


def test_another_judge_or_number_of_logits_finds_nothing(tmp_path):
    filled(tmp_path / "c", 5)
    others = [JUDGE | {"dtype": "bfloat16"}, JUDGE | {"more": None}, {"weights": "0123"}, {}]
    for judge in others:
        with opened(tmp_path / "c", judge) as cache:
            assert cache.get(list(rows(*range(5)))) == {}
    with ScoreCache(tmp_path / "c").bind(JUDGE, 1) as cache:
        assert cache.get(list(rows(*range(5)))) == {} and cache.damaged == 0
    with opened(tmp_path / "c", dict(reversed(JUDGE.items()))) as cache:
        assert cache.get(list(rows(*range(5)))) == rows(*range(5))
    with ScoreCache(tmp_path / "c") as cache, pytest.raises(RuntimeError, match="not bound"):
        cache.get([digest(0)])


def test_the_first_score_of_a_presentation_stays_and_what_is_not_finite_is_never_stored(tmp_path):
    with opened(tmp_path / "c") as cache:
        cache.put({digest(1): (1.0, 2.0)})
        cache.put({digest(1): (3.0, 4.0), digest(2): (math.nan, 1.0), digest(3): (1.0, -math.inf)})
        cache.put({digest(4): (math.nan, math.nan)})
        assert cache.get([digest(i) for i in range(5)]) == {digest(1): (1.0, 2.0)}


@pytest.mark.slow
def test_a_hundred_thousand_keys_are_stored_and_found_in_seconds(tmp_path, journal):
    made = rows(*range(100_000))
    start = time.process_time()  # not the wall clock: a busy machine is not a slow cache
    with opened(tmp_path / "c") as cache:
        cache.put(made)
        assert cache.get([*made, *map(digest, range(-1000, 0))]) == made and cache.misses == 1000
    assert time.process_time() - start < 15
    assert (tmp_path / "c").stat().st_size < 120 * len(made)


def test_where_and_how_large_is_told(tmp_path):
    assert describe(tmp_path / "c") == f"{tmp_path / 'c'} (none yet)"
    filled(tmp_path / "c", 10_000)
    assert describe(tmp_path / "c") == f"{tmp_path / 'c'} ({(tmp_path / 'c').stat().st_size / 1e6:.1f} MB)"


# -- several processes, and kills -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_several_processes_make_and_write_one_file_at_once_the_same_keys_and_others(tmp_path, journal):
    running = [writer(tmp_path / "c", first, 200, journal=journal) for first in (0, 0, 100, 1000)]
    for process in running:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0 and not err, err
    expected = rows(*range(300), *range(1000, 1200))
    with opened(tmp_path / "c") as cache:
        assert cache.get(list(expected)) == expected
        assert cache._db.execute("SELECT count(*) FROM scores").fetchone() == (len(expected),)
        assert cache._db.execute("PRAGMA journal_mode").fetchone() == (b"wal" if journal == "local" else b"delete",)


@pytest.mark.slow
def test_a_killed_writer_loses_nothing_that_was_stored_and_leaves_a_whole_file(tmp_path, journal):
    done, draw = 0, random.Random(1)
    for _ in range(3):
        process, other = (writer(tmp_path / "c", first, 100_000, 7, journal) for first in (done, 500_000 + done))
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


def test_a_writer_killed_inside_a_transaction_leaves_none_of_it_and_no_lock(tmp_path, journal, monkeypatch):
    filled(tmp_path / "c", 100)
    inside = WRITER.split("for start")[0] + (
        "db = cache._db\n"
        "db.execute('PRAGMA cache_size = 1')\n"  # so that pages reach the disk before the end of the transaction
        "db.execute('BEGIN IMMEDIATE')\n"
        "for i in range(20000): db.execute('INSERT INTO scores VALUES (?, ?)', (b'%d' % i, b'x' * 24))\n"
        "print('inside', flush=True)\n"
        "time.sleep(100)\n"
    )
    command = [sys.executable, "-c", inside, tmp_path / "c", journal, "0", "0", "1"]
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


# -- damage -----------------------------------------------------------------------------------------------------------


def test_a_damaged_row_counts_as_missing_and_is_written_anew(tmp_path):
    path = filled(tmp_path / "c", 50)
    with opened(path) as cache:
        key = cache._key(digest(3))
    content = path.read_bytes()
    at = content.index(key) + len(key) + 3
    path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    with opened(path) as cache:
        found = cache.get(list(rows(*range(50))))
        assert found == rows(*(i for i in range(50) if i != 3)) and (cache.damaged, cache.misses) == (1, 1)
        assert "1 stored scores were damaged" in cache.summary()
        cache.put(rows(3))
    with opened(path) as cache:
        assert cache.get(list(rows(*range(50)))) == rows(*range(50)) and cache.damaged == 0


def test_another_rows_value_or_another_type_is_no_score(tmp_path):
    path = filled(tmp_path / "c", 50)
    db = sqlite3.connect(path)
    values = db.execute("SELECT key, value FROM scores").fetchall()
    db.execute("UPDATE scores SET value = ? WHERE key = ?", (values[1][1], values[0][0]))
    odd = [b"", b"\0" * 24, "text", "\udcff".encode("utf-8", "surrogatepass"), 3, 2.5]
    for (key, _), value in zip(values[2:], odd, strict=False):
        db.execute("UPDATE scores SET value = ? WHERE key = ?", (value, key))
    db.execute("UPDATE scores SET value = CAST(? AS TEXT) WHERE key = ?", (b"\xff\xfe" * 12, values[20][0]))
    db.commit()
    db.close()
    with opened(path) as cache:
        found = cache.get(list(rows(*range(50))))
        assert found.items() <= rows(*range(50)).items() and len(found) == 42 and cache.damaged == 8


@pytest.mark.parametrize("kind", ["bits", "zeros", "noise", "cut"])
def test_whatever_is_damaged_no_wrong_number_comes_out_and_scoring_can_go_on(tmp_path, kind, caplog):
    path = filled(tmp_path / "c", 600)
    whole, expected, outcomes = path.read_bytes(), rows(*range(600)), set()
    for seed in range(60):
        draw = random.Random(f"{kind}{seed}")
        damaged, at = bytearray(whole), draw.randrange(len(whole))
        if kind == "bits":
            for _ in range(20):
                damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        elif kind == "cut":
            del damaged[at:]
        else:
            size = min(draw.randrange(1, 5000), len(whole) - at)
            damaged[at : at + size] = bytes(size) if kind == "zeros" else draw.randbytes(size)
        path.write_bytes(damaged)
        caplog.clear()
        try:
            with opened(path) as cache:
                found = cache.get(list(expected))
                assert found.items() <= expected.items(), seed
                cache.put(expected)
                again = cache.get(list(expected))
                assert again.items() <= expected.items(), seed
                assert "delete the file when no run" in caplog.text or len(again) > 300, seed  # some paths are gone
                outcomes.add("whole again" if len(again) == 600 else "not whole")
        except DataError as e:
            assert "delete" in str(e) and "\n" not in str(e)
            outcomes.add("refused")
    assert len(outcomes) > 1, outcomes


def test_a_table_that_is_gone_is_damage(tmp_path):
    db = sqlite3.connect(filled(tmp_path / "c", 3))
    db.execute("ALTER TABLE scores RENAME TO others")
    db.close()
    refused(tmp_path / "c", "damaged", "no such table", "delete it", "--no-cache")


# -- other files ------------------------------------------------------------------------------------------------------


def test_another_programs_database_is_refused_and_left_alone(tmp_path):
    for mode in ("DELETE", "WAL"):
        path = tmp_path / mode / "notes.db"
        path.parent.mkdir()
        db = sqlite3.connect(path)
        db.execute(f"PRAGMA journal_mode = {mode}")
        db.execute("CREATE TABLE scores (key BLOB PRIMARY KEY, value BLOB)")
        db.commit()
        db.close()
        refused(path, "is not a score cache", "left alone", "--cache-file")


def test_text_and_folders_and_other_versions_are_refused(tmp_path):
    for name, content in {"text": b"a shopping list\n", "short": b"S", "cut": b"SQLite format 3\0\x10"}.items():
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, "is not a score cache", "--cache-file")
    (tmp_path / "folder").mkdir()
    refused(tmp_path / "folder", "is not a file")
    (tmp_path / "next").mkdir()
    db = sqlite3.connect(filled(tmp_path / "next" / "c", 3))
    db.execute("PRAGMA user_version = 2")
    db.close()
    refused(tmp_path / "next" / "c", "version 2", "reads version 1", "upgrade")


def test_an_empty_file_becomes_a_cache_that_says_what_it_is(tmp_path):
    (tmp_path / "c").touch()
    head = filled(tmp_path / "c", 3).read_bytes()[:100]
    assert int.from_bytes(head[68:72], "big") == APPLICATION_ID and int.from_bytes(head[60:64], "big") == 1


def test_only_on_a_disk_of_this_machine_is_there_a_write_ahead_log(tmp_path, monkeypatch):
    for where, (local, mode) in {"here": (cache_room.LOCAL, b"wal"), "elsewhere": (set(), b"delete")}.items():
        monkeypatch.setattr(cache_room, "LOCAL", local)
        with opened(tmp_path / where) as cache:
            assert cache._db.execute("PRAGMA journal_mode").fetchone() == (mode,)
    with opened(tmp_path / "here") as cache:
        assert cache._db.execute("PRAGMA journal_mode").fetchone() == (b"delete",), "moved to where logs cannot be"
    assert not cache_room._is_local(Path("/proc/scores"))


# -- disks ------------------------------------------------------------------------------------------------------------

FULL = (
    "import logging, resource; logging.basicConfig()\n"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
    + WRITER.replace("    print(start", "    print(len(cache.get(list(rows))) == step, cache._stores) #")
)


def test_a_full_disk_is_said_once_and_what_was_stored_stays(tmp_path, journal):
    command = [sys.executable, "-c", FULL, tmp_path / "c", journal, 0, 5000, 50]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120)
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
def test_a_cache_that_cannot_be_written_is_read_and_that_is_said_once(guarded, what, journal, caplog):
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


def test_a_schema_that_is_not_even_text_is_damage(tmp_path):
    file = tmp_path / "scores.sqlite"
    with ScoreCache(file) as cache:
        cache.bind({"judge": 1}, 1).put({b"d" * 32: [1.0]})
    content = file.read_bytes()
    assert content.count(b"PRIMARY KEY") == 1
    file.write_bytes(content.replace(b"PRIMARY KEY", b"PRIMARY K\xffY"))
    with pytest.raises(DataError, match="damaged"):
        ScoreCache(file)
