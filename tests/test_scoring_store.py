"""The store of scores as a file: what it keeps, and which files it refuses. How scoring uses it is in
test_judges_store_use.py."""

import math
import sqlite3
import time
from pathlib import Path

import pytest
from score_stores import JUDGE, digest, filled, opened, refused, rows

import harness_plugin.scoring.store as cache_room
from harness_plugin.scoring.store import APPLICATION_ID, ScoreCache, describe


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
def test_a_hundred_thousand_keys_are_stored_and_found_in_seconds(tmp_path, store_journal):
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
