"""A damaged store of scores never gives a wrong number."""

import random
import sqlite3

import pytest
from score_stores import digest, filled, opened, refused, rows

from harness_plugin.errors import DataError
from harness_plugin.scoring.store import ScoreCache


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
    refused(tmp_path / "c", "damaged", "no such table", "delete it", "--cache-file")


def test_a_schema_that_is_not_even_text_is_damage(tmp_path):
    file = tmp_path / "scores.sqlite"
    with ScoreCache(file) as cache:
        cache.bind({"judge": 1}, 1).put({b"d" * 32: [1.0]})
    content = file.read_bytes()
    assert content.count(b"PRIMARY KEY") == 1
    file.write_bytes(content.replace(b"PRIMARY KEY", b"PRIMARY K\xffY"))
    with pytest.raises(DataError, match="damaged"):
        ScoreCache(file)
