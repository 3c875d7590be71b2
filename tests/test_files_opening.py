"""Files as people have them: compressed in any of the usual ways, in archives, or on other systems behind a URI."""

import bz2
import gzip
import http.server
import json
import lzma
import threading

import pytest
from pair_rows import GOOD, message, zipped

from harness_plugin.errors import DataError
from harness_plugin.files.opening import open_binary
from harness_plugin.files.remote import local
from harness_plugin.files.systems import is_remote, without_query
from harness_plugin.pairs import read_outputs, read_pairs

LINE = (json.dumps(GOOD) + "\n").encode()
CSV = b"prompt,response_a,response_b\nName a river.,The Oder.,A river flows.\n"
PACKERS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zip": zipped}


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_compressed_file_is_read_whatever_its_name(tmp_path, suffix):
    for name in (f"x.jsonl{suffix}", "x.jsonl", f"X.JSONL{suffix.upper()}"):
        path = tmp_path / name
        path.write_bytes(PACKERS[suffix](LINE * 3))
        assert [pair.prompt for pair in read_pairs(path).pairs] == [GOOD["prompt"]] * 3
    path = tmp_path / f"x.csv{suffix}"
    path.write_bytes(PACKERS[suffix](CSV) if suffix != ".zip" else zipped(CSV, "x.csv"))
    assert read_pairs(path).pairs[0].response_a == "The Oder."


@pytest.mark.parametrize("suffix", PACKERS)
def test_parquet_is_read_from_a_compressed_file(tmp_path, suffix):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.Table.from_pylist([GOOD]), tmp_path / "x.parquet")
    data = (tmp_path / "x.parquet").read_bytes()
    path = tmp_path / f"y.parquet{suffix}"
    path.write_bytes(zipped(data, "y.parquet") if suffix == ".zip" else PACKERS[suffix](data))
    assert read_pairs(path).pairs[0].prompt == GOOD["prompt"]


def test_a_cut_or_spoilt_compressed_file_is_noticed(tmp_path):
    lines = b"".join(json.dumps({**GOOD, "id": n}).encode() + b"\n" for n in range(5000))
    for suffix, pack in PACKERS.items():
        whole = pack(lines)
        broken = {"cut": whole[:-20], "half": whole[: len(whole) // 2], "changed": _changed(whole)}
        if suffix != ".zip":  # an archive ends with its table of contents
            broken["tail"] = whole + b"tail"
        for kind, data in broken.items():
            path = tmp_path / f"{kind}.jsonl{suffix}"
            path.write_bytes(data)
            text = message(path)
            # What gzip's check sum would refuse at the end may be a bad row before.
            assert f"{path} is cut off or corrupt" in text or (kind == "changed" and f"{path} row " in text), path


def _changed(data):
    middle = len(data) // 2
    return data[:middle] + bytes(byte ^ 255 for byte in data[middle : middle + 8]) + data[middle + 8 :]


def test_streams_of_several_parts_are_read_to_their_end(tmp_path):
    path = tmp_path / "x.jsonl"
    for pack, between in ((bz2.compress, b""), (lzma.compress, b""), (lzma.compress, bytes(4))):
        path.write_bytes(between.join(pack(json.dumps({**GOOD, "id": n}).encode() + b"\n") for n in range(3)))
        assert [pair.id for pair in read_pairs(path).pairs] == ["0", "1", "2"]


def test_a_zip_archive_holds_one_file_beside_what_macos_adds(tmp_path):
    path = tmp_path / "archive.zip"
    path.write_bytes(zipped(CSV, "data/train.csv", **{"__MACOSX/data/._train.csv": b"x", "data/.DS_Store": b"x"}))
    assert read_pairs(path).pairs[0].prompt == "Name a river.", "the name inside says that it is CSV"
    path.write_bytes(zipped(CSV, "train.csv", **{"test.csv": CSV}))
    assert message(path).startswith(f"{path} is a zip archive with 2 files (train.csv, test.csv); ")
    path.write_bytes(zipped(b"", ".hidden"))
    assert message(path).startswith(f"{path} is a zip archive with 0 files (none); ")


def test_a_zip_archive_with_a_password_is_refused_in_words(tmp_path):
    data = bytearray(zipped(LINE))
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + flags] |= 1  # the flag of encryption
    (tmp_path / "x.zip").write_bytes(bytes(data))
    assert "cannot be unpacked here (File 'x.jsonl' is encrypted" in message(tmp_path / "x.zip")


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("x.db", b"SQLite format 3\0", "is an SQLite database; such files are not read; write the rows as JSON lines"),
        ("x.pkl", b"\x80\x04\x95\0\0", "is a pickle; such files are not read; write the rows as JSON lines"),
        ("x.xls", b"\xd0\xcf\x11\xe0\xa1\xb1", "is an Excel workbook; such files are not read; save the sheet as CSV"),
        *(
            ("x.csv", "prompt,".encode(code), "is text in UTF-16; such files are not read; save it as UTF-8")
            for code in ("utf-16", "utf-16-le", "utf-16-be")
        ),
        (
            "x.jsonl.gz",
            gzip.compress(gzip.compress(b"{}", mtime=0), mtime=0),
            "holds a file that is compressed with gzip; one is unpacked",
        ),
        ("x.jsonl.zip", zipped(bz2.compress(b"{}"), "x.jsonl.bz2"), "holds a file that is compressed with bzip2"),
        ("x.7z", b"7z\xbc\xaf\x27\x1c\0\4", "is a 7z archive; such files are not read; unpack it"),
        ("x.rar", b"Rar!\x1a\x07\x01\0", "is a rar archive; such files are not read"),
        ("x.jsonl.lz4", b"\x04\x22\x4d\x18\x64\x40", "is compressed with lz4; such files are not read"),
        ("x.tar", bytes(257) + b"ustar\x0000" + bytes(248), "is a tar archive; such files are not read"),
        ("x.tar.gz", gzip.compress(bytes(257) + b"ustar\x0000" + bytes(248), mtime=0), "is a tar archive"),
        ("x.zip", b"PK\x05\x06" + bytes(18), "is a zip archive with 0 files (none)"),
        (
            "x.csv",
            b"<!DOCTYPE html>\n<html><body>Log in</body></html>",
            "is a web page; such files are not read; fetch",
        ),
        ("x.parquet", b"version https://git-lfs.github.com/spec/v1\noid", "is the pointer to a file of Git LFS; such"),
        ("x.arrow", b"ARROW1\0\0\xff\xff\xff\xff", "is an Arrow file; such files are not read; write it as parquet"),
        ("x.parquet", b"\xff\xff\xff\xff\x70\0", "is an Arrow stream; such files are not read; write it as parquet"),
        (
            "x.xlsx",
            zipped(b"", "[Content_Types].xml", **{"xl/workbook.xml": b""}),
            "is an Excel workbook",
        ),
        ("x.jsonl.xz", b"plain text", "is named .xz but does not start as xz data does"),
        ("x.jsonl.bz2", b"plain text", "is named .bz2 but does not start as bzip2 data does"),
        ("x.csv.zip", b"plain text", "is named .zip but does not start as zip data does"),
    ],
)
def test_what_is_not_read_is_named(tmp_path, name, data, words):
    (tmp_path / name).write_bytes(data)
    assert message(tmp_path / name).startswith(f"{tmp_path / name} {words}")


# --- other systems


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def site(tmp_path):
    """The address of a web server for the folder."""
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *arguments: Quiet(*arguments, directory=tmp_path)
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_files_of_a_web_server_are_read(tmp_path, site):
    (tmp_path / "x.jsonl").write_bytes(LINE)
    (tmp_path / "train.csv").write_bytes(CSV)
    (tmp_path / "x.csv.zip").write_bytes(zipped(CSV, "x.csv"))
    for name in ("x.jsonl", "train.csv?download=true", "x.csv.zip", "train.csv#top"):
        assert read_pairs(f"{site}/{name}").pairs[0].prompt == "Name a river.", name
    assert message(f"{site}/none.jsonl").startswith(f"{site}/none.jsonl cannot be read (")


def test_parquet_of_a_web_server_is_read(tmp_path, site):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.Table.from_pylist([GOOD]), tmp_path / "x.parquet")
    assert read_pairs(f"{site}/x.parquet").pairs[0].prompt == "Name a river."


def test_a_server_that_cannot_be_reached_is_one_line():
    assert message("http://127.0.0.1:9/x.jsonl").startswith("http://127.0.0.1:9/x.jsonl cannot be read (")


def test_file_systems_of_fsspec_and_of_arrow_are_reached(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    with fsspec.open("memory://folder/x.jsonl.bz2", "wb") as file:
        file.write(bz2.compress(LINE))
    (tmp_path / "x.jsonl").write_bytes(LINE)
    for uri in ("memory://folder/x.jsonl.bz2", f"file://{tmp_path}/x.jsonl"):
        assert read_pairs(uri).pairs[0].prompt == "Name a river.", uri
    with (
        pytest.raises(DataError, match=r"^memory://folder/none.jsonl cannot be read"),
        open_binary("memory://folder/none.jsonl"),
    ):
        pass
    assert message("nonsense://folder/x.jsonl").startswith(
        "nonsense://folder/x.jsonl cannot be read (Protocol not known"
    )


def test_a_protocol_whose_package_is_missing_says_which(monkeypatch):
    fsspec = pytest.importorskip("fsspec")
    fsspec.register_implementation("lake", "no_such_package.Lake", errtxt="Install lakefs to access lake", clobber=True)
    assert message("lake://store/x.jsonl").endswith("run: pip install lakefs")


def test_hub_files_without_a_network_are_one_line(monkeypatch):
    pytest.importorskip("huggingface_hub")
    text = message("hf://datasets/somebody/something/data/train.parquet")
    assert text.startswith("hf://datasets/somebody/something/data/train.parquet cannot be read (")


def test_answers_and_folders_of_other_systems_are_fetched(tmp_path, site):
    (tmp_path / "heron.jsonl").write_text('{"prompt": "Hi", "response": "Hello."}\n', "utf-8")
    assert read_outputs(f"{site}/heron.jsonl")[0].response == "Hello."
    with local([f"{site}/heron.jsonl?download=true"], "out") as place:
        assert place.files[0].endswith("/heron.jsonl")
        assert read_outputs(place.files[0])[0].response == "Hello."


def test_what_is_a_uri():
    assert all(map(is_remote, ("hf://a/b", "s3://b/k", "HTTPS://x/y", "fsspec+memory://x")))
    assert not any(map(is_remote, ("x.jsonl", "/a://b", "-", "C:\\x", "a b://c")))
    assert without_query("https://x/y.csv?z#t") == "https://x/y.csv"
    assert without_query("s3://x/y.csv?z") == "s3://x/y.csv?z" and without_query("a?b.csv") == "a?b.csv"
