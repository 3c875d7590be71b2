"""Hashes of whole files: computed once, again after any change, and never a reason to fail."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import harness_plugin
from harness_plugin.files.home import home
from harness_plugin.model import file_hashes
from harness_plugin.model.file_hashes import file_sha256, files_sha256


@pytest.fixture
def reads(monkeypatch, tmp_path):
    """The files that were read so far, with an empty home and hashes remembered at once."""
    monkeypatch.setenv("ARENA_RM_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(file_hashes, "SETTLED", -1)
    seen, read = [], file_hashes.read_sha256
    monkeypatch.setattr(file_hashes, "read_sha256", lambda path: seen.append(Path(path).name) or read(path))
    return seen


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"0123456789")
    return path


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def entries() -> list[Path]:
    return sorted((home() / file_hashes.FOLDER).iterdir())


def test_a_file_is_read_once_until_it_changes(reads, file):
    assert [file_sha256(file) for _ in range(3)] == [sha256(b"0123456789")] * 3 and reads == ["weights"]
    file.write_bytes(b"9876543210")
    assert file_sha256(file) == sha256(b"9876543210") and len(reads) == 2
    assert len(entries()) == 1


def test_a_change_of_the_same_length_at_the_same_time_is_seen(reads, file):
    file_sha256(file)
    before = file.stat()
    with open(file, "r+b") as stream:
        stream.write(b"X")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_mtime_ns == before.st_mtime_ns and file.stat().st_size == before.st_size
    assert file_sha256(file) == sha256(b"X123456789")


def test_another_file_in_its_place_is_seen_and_a_link_is_its_target(reads, file, tmp_path):
    file_sha256(file)
    other, link = tmp_path / "other", tmp_path / "link"
    other.write_bytes(b"9876543210")
    os.replace(other, file)
    assert file_sha256(file) == sha256(b"9876543210")
    link.symlink_to(file)
    assert file_sha256(link) == file_sha256(file) and len(reads) == 2


def test_what_was_just_written_is_not_remembered(reads, file, monkeypatch):
    monkeypatch.setattr(file_hashes, "SETTLED", 60)
    assert file_sha256(file) == file_sha256(file) and len(reads) == 2
    assert not (home() / file_hashes.FOLDER).exists()


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", '{"check": 1}', "\udcff"])
def test_a_damaged_entry_is_a_file_read_again(reads, file, damage):
    file_sha256(file)
    entries()[0].write_text(damage, encoding="utf-8", errors="surrogateescape")
    assert file_sha256(file) == sha256(b"0123456789") and len(reads) == 2
    assert file_sha256(file) == sha256(b"0123456789") and len(reads) == 2, "and it is remembered again"


def test_a_changed_hash_in_an_entry_is_not_believed(reads, file):
    file_sha256(file)
    stored = json.loads(entries()[0].read_text(encoding="utf-8"))
    entries()[0].write_text(json.dumps(stored | {"sha256": "0" * 64}), encoding="utf-8")
    assert file_sha256(file) == sha256(b"0123456789")


def test_a_home_that_cannot_be_written_costs_time_only(reads, file, monkeypatch):
    monkeypatch.setenv("ARENA_RM_HOME", str(file))  # a file where a folder is needed
    assert file_sha256(file) == file_sha256(file) == sha256(b"0123456789") and len(reads) == 2


def test_a_file_that_is_not_there_is_an_error_of_the_system(reads, tmp_path):
    with pytest.raises(FileNotFoundError):
        file_sha256(tmp_path / "nothing")


def test_several_files_have_one_hash_whatever_their_order_and_names(reads, file, tmp_path):
    other = tmp_path / "other"
    other.write_bytes(b"more")
    both = files_sha256([file, other])
    assert both == files_sha256([other, file]) and files_sha256([file]) == file_sha256(file)
    file.rename(tmp_path / "renamed")
    assert files_sha256([tmp_path / "renamed", other]) == both
    other.write_bytes(b"less")
    assert files_sha256([tmp_path / "renamed", other]) != both


MANY = """
import sys
from harness_plugin.model import file_hashes
file_hashes.SETTLED = -1
print(len({file_hashes.file_sha256(f) for _ in range(50) for f in sys.argv[1:]}))
"""


def test_processes_at_once_do_not_disturb_each_other(monkeypatch, tmp_path):
    monkeypatch.setenv("ARENA_RM_HOME", str(tmp_path / "home"))
    files = [tmp_path / str(n) for n in range(8)]
    for n, path in enumerate(files):
        path.write_bytes(bytes([n]))
    root = Path(next(iter(harness_plugin.__path__))).parent
    command = [sys.executable, "-c", MANY, *map(str, files)]
    started = [subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(3)]
    said = [process.communicate() for process in started]
    assert said == [(b"8\n", b"")] * 3
    assert len(entries()) == 8 and all(json.loads(e.read_text(encoding="utf-8"))["sha256"] for e in entries())
