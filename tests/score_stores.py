"""Files of stored scores, for the tests of the store, and a process that writes into one. It loads nothing heavy."""

import hashlib
import math
import subprocess
import sys
from pathlib import Path

import pytest

from harness_plugin.errors import DataError
from harness_plugin.scoring.store import ScoreCache

ROOT = Path(__file__).resolve().parents[1]
JUDGE = {"weights": "0123", "dtype": "float32"}
WRITER = f"""
import sys, hashlib, math, time
sys.path.insert(0, {str(ROOT)!r})
import harness_plugin.scoring.store as store
path, local, first, count, step = sys.argv[1], sys.argv[2] == "local", *map(int, sys.argv[3:6])
if not local:
    store.LOCAL = set()
store.WAIT = 600  # how long a writer waits for the others depends on the disk and on what else runs
cache = store.ScoreCache(path).bind({JUDGE!r}, 2)
for start in range(first, first + count, step):
    begun = time.monotonic()
    rows = {{hashlib.sha256(b"%d" % i).digest(): (math.sin(i), -i / 3) for i in range(start, start + step)}}
    cache.put(rows)
    assert all(rows[d] == z for d, z in cache.get(list(rows)).items())
    print(start + step, flush=True)
    time.sleep(time.monotonic() - begun)  # scoring takes longer; without a pause two writers starve each other
"""


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
