"""The conversion of the embedded base: what a GGUF file holds, and that the result is what transformers makes of it."""

import json

import numpy as np
import pytest
import tiny

from harness_plugin.model import embedded
from harness_plugin.model.embedded_tokenizer import Parts, load_embedded_tokenizer, made, parts_of, write_tokenizer
from harness_plugin.model.gguf_file import GgufFile
from harness_plugin.model.part_hashes import TOKENIZER_CONFIG
from harness_plugin.prompt import Renderer

CONFIG = {
    "bos_token": "<bos>",
    "eos_token": "<eos>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}
TEXTS = [
    "Hello  world\n\n\nand\tmore",
    "emoji 😀👩‍👩‍👧 and 漢字カナ, 한국어, שלום",
    "combining e\u0301 é, \x00\x01\x7f, \ue000, \U0010fffd",
    tiny.HOSTILE,
    "   leads, ▁ and trails   ",
    "<div>\t\t\t<b>tags</b></div> [multimodal] <unused17>",
    "",
]


def test_a_gguf_file_is_read_as_its_own_package_reads_it(tmp_path):
    gguf = pytest.importorskip("gguf")
    draw = np.random.default_rng(0)
    kinds = [gguf.GGMLQuantizationType[name] for name in ("Q5_0", "Q8_0", "Q4_0")]
    matrices = {f"m.{kind.name}": draw.normal(size=(600, 64)).astype(np.float32) for kind in kinds}
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "gemma3")
    writer.add_uint32("a.number", 7)
    writer.add_float32("a.fraction", 0.5)
    writer.add_bool("a.flag", True)
    writer.add_array("a.words", ["one", "zwei", "三", ""])
    writer.add_array("a.counts", [1, 2, 3])
    writer.add_tensor("plain", draw.normal(size=(3, 5)).astype(np.float32))
    for kind, (name, values) in zip(kinds, matrices.items(), strict=True):
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = GgufFile((tmp_path / "a.gguf").read_bytes())
    assert [file.fields[f"a.{name}"] for name in ("number", "fraction", "flag")] == [7, 0.5, True]
    assert file.fields["a.words"] == ["one", "zwei", "三", ""] and list(file.fields["a.counts"]) == [1, 2, 3]
    theirs = gguf.GGUFReader(tmp_path / "a.gguf").tensors
    assert list(file.tensors) == [tensor.name for tensor in theirs]
    for tensor, mine in zip(theirs, file.tensors.values(), strict=True):
        values = np.concatenate([*file.parts(mine)]).reshape(mine.shape)
        assert np.array_equal(values, gguf.quants.dequantize(tensor.data, tensor.tensor_type))
    assert len([*file.parts(file.tensors["m.Q4_0"])]) > 1, "several parts"


def test_other_bytes_are_no_gguf_file():
    with pytest.raises(ValueError, match="GGUF"):
        GgufFile(b"safetensors or anything")


def fields(tokens, special, added):
    kinds = [3 if token in special else 4 if token in added else 1 for token in tokens]
    return {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": np.array(kinds, np.int32)}


def test_merges_are_all_ways_to_cut_a_piece_longest_left_part_first(tmp_path):
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "a", "b", "ab", "ba", "aba", "  ", "▁"]
    parts = parts_of(fields(tokens, tokens[:5], ["aba", "  "]))
    assert parts.pieces[10:] == ["▁▁", "▁"], "a piece of spaces is spelled as the normalizer spells them"
    cut = [(parts.pieces[left], parts.pieces[right]) for left, right in parts.merges]
    assert cut == [("a", "b"), ("b", "a"), ("ab", "a"), ("a", "ba"), ("▁", "▁")]
    assert parts.special.tolist() == [0, 1, 2, 3, 4] and parts.added.tolist() == [9]
    parts.save(tmp_path / "parts.npz")
    again = Parts.load(tmp_path / "parts.npz")
    assert again.pieces == parts.pieces and np.array_equal(again.merges, parts.merges)
    tokenizer = made(again, CONFIG)
    assert tokenizer.encode("ab  a").ids == [2, 7, 10, 5] and tokenizer.encode("aba").ids == [2, 9]


def test_the_tokenizer_of_the_parts_is_the_one_that_transformers_makes(tmp_path):
    """Of Gemma's class, from the same vocabulary and merges; the file is what transformers loads."""
    from transformers import AutoTokenizer, GemmaTokenizer

    tokens = [*tiny.SPECIAL, "a", "b", "ab", "ba", "\n", "\n\n", "▁", "▁▁", *(f"<0x{byte:02X}>" for byte in range(256))]
    stored = fields(tokens, tiny.SPECIAL, ["\n\n"])
    (tmp_path / TOKENIZER_CONFIG).write_text(json.dumps(CONFIG | {"tokenizer_class": "GemmaTokenizer"}))
    write_tokenizer(tmp_path, stored)
    backend = load_embedded_tokenizer(tmp_path).backend_tokenizer
    parts = parts_of(stored)
    theirs = GemmaTokenizer(**parts.bpe(), **CONFIG).backend_tokenizer
    for part in ("normalizer", "pre_tokenizer", "decoder"):
        assert getattr(backend, part).__getstate__() == getattr(theirs, part).__getstate__()
    mine, made_by_them = (json.loads(x.to_str()) for x in (backend, theirs))
    assert mine["model"] == made_by_them["model"] and mine["added_tokens"][:5] == made_by_them["added_tokens"]
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    for text in [*TEXTS, "abba\n\nba  <eos>"]:
        assert loaded(text).input_ids == backend.encode(text).ids


@pytest.mark.slow
def test_the_converted_base_is_what_transformers_makes_of_the_file(monkeypatch, tmp_path):
    """The hashes are those of the files that transformers 5.23 saved after loading the GGUF file, with gguf 0.19."""
    monkeypatch.setenv("ARENA_RM_HOME", str(tmp_path))
    folder = embedded.embedded_base()
    made = json.loads((folder / embedded.MARKER).read_text(encoding="utf-8"))["files"]
    saved = {
        "config.json": "f979a66b9dbe8a2576016279502b1361890f99bea48b0d6089b2ad4cbb10c97c",
        "model.safetensors": "d9df495ac8121f17441f73a45548b59cd75068fbd5e57ed0883c9e4a443fe908",
        "tokenizer.json": "3c01ed742c180439796d05b781d1cc02ce30801903444b53a73c57fe9d798a84",
        "tokenizer_config.json": "aa77c1dab9c5a8c044f2746c66ceb01b8e6d5fcc4db7ca57f280b7793d766c3a",
    }
    assert {name: made[name]["sha256"] for name in saved} == saved


@pytest.mark.slow
def test_the_fast_tokenizer_is_that_of_tokenizer_json():
    from transformers import AutoTokenizer

    folder = embedded.embedded_base()
    ours, theirs = load_embedded_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    assert ours.backend_tokenizer.to_str() == theirs.backend_tokenizer.to_str()
    renderer = Renderer(ours)
    options = {"split_special_tokens": True, "return_offsets_mapping": True}
    for text in TEXTS:
        for whole in (False, True):
            mine, made_by_them = renderer.encoding(text, whole), theirs(text, add_special_tokens=whole, **options)
            assert (mine.ids, mine.offsets) == (made_by_them.input_ids, made_by_them.offset_mapping), text
        assert renderer.decode(mine.ids) == theirs.decode(mine.ids)
