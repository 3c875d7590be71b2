"""The tokenizer of the embedded base: made from the vocabulary in its GGUF file, and loaded in a fraction of the time
that its tokenizer.json takes.

tokenizer.json is 33 MB, and transformers, whose import takes most of a second, reads it twice as JSON before it makes
the same BPE from the parts. FAST holds these parts as arrays. The tokenizer is the same, whichever of the two it comes
from.
"""

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness_plugin.files.rows import read_object
from harness_plugin.model.part_hashes import TOKENIZER_CONFIG

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FAST = "tokenizer_parts.npz"
SPACE = "▁"
CONTROL, USER_DEFINED = 3, 4  # kinds of tokens in a GGUF file
SPECIAL = ("unk_token", "bos_token", "eos_token", "pad_token", "mask_token")  # fields of tokenizer_config.json
BETWEEN = "\0"  # two pieces; no piece holds it


@dataclass(frozen=True)
class Parts:
    """A BPE's pieces in the order of their ids, its merges as pairs of ids, shape (merges, 2), and the ids of the
    tokens that are looked for in a text before anything else: special ones and others."""

    pieces: list[str]
    merges: np.ndarray
    special: np.ndarray
    added: np.ndarray

    def save(self, file: Path) -> None:
        text = np.frombuffer(BETWEEN.join(self.pieces).encode("utf-8"), np.uint8)
        np.savez(file, pieces=text, merges=self.merges, special=self.special, added=self.added)

    @classmethod
    def load(cls, file: Path) -> "Parts":
        with np.load(file, allow_pickle=False) as stored:
            pieces = stored["pieces"].tobytes().decode("utf-8").split(BETWEEN)
            return cls(pieces, stored["merges"], stored["special"], stored["added"])

    def bpe(self) -> dict[str, Any]:
        """The vocabulary and the merges as the class BPE of tokenizers takes them."""
        left, right = (map(self.pieces.__getitem__, ids.tolist()) for ids in self.merges.T)
        return {
            "vocab": {piece: i for i, piece in enumerate(self.pieces)},
            "merges": list(zip(left, right, strict=True)),
        }


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without the search for objects that refer to each other and are unreachable: it would go through the million
    strings and pairs of a vocabulary again and again while they are made."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def parts_of(fields: Mapping[str, Any]) -> Parts:
    """The parts from the fields of a Gemma's GGUF file, as transformers makes them
    (`integrations.gguf.gguf_tokenizer_mapping`): pieces of spaces are spelled as the normalizer spells spaces, and the
    merges, which the file does not hold, are all ways to cut a piece into two pieces, in the order of the pieces and
    with the longest left part first."""
    tokens: Sequence[str] = fields["tokenizer.ggml.tokens"]
    kinds = fields["tokenizer.ggml.token_type"]
    pieces = [SPACE * len(token) if " " in token and not token.strip() else token for token in tokens]
    ids = {piece: i for i, piece in enumerate(pieces)}
    with _no_collection():
        merges = [
            (left, right)
            for piece in pieces
            for cut in range(len(piece) - 1, 0, -1)
            if (left := ids.get(piece[:cut])) is not None and (right := ids.get(piece[cut:])) is not None
        ]
    spaces = np.array([" " in token for token in tokens])  # the normalizer has replaced them where they are looked for
    added = np.flatnonzero((kinds == USER_DEFINED) & ~spaces)
    return Parts(
        pieces, np.array(merges, np.int32), np.flatnonzero(kinds == CONTROL).astype(np.int32), added.astype(np.int32)
    )


@dataclass(frozen=True)
class BareTokenizer:
    """What a renderer of pairs needs of a tokenizer: the one of the library tokenizers, under the name that it has in
    those of transformers."""

    backend_tokenizer: "Tokenizer"


def made(parts: Parts, config: Mapping[str, Any]) -> "Tokenizer":
    """The tokenizer of the parts, as transformers' GemmaTokenizer makes it. `config`: the fields of its
    tokenizer_config.json."""
    from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers
    from tokenizers.models import BPE
    from tokenizers.processors import TemplateProcessing

    with _no_collection():
        bpe = BPE(**parts.bpe(), fuse_unk=True, byte_fallback=True, unk_token=config["unk_token"])
    tokenizer = Tokenizer(bpe)
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    special = [*(config[name] for name in SPECIAL), *(parts.pieces[i] for i in parts.special)]
    tokenizer.add_special_tokens([AddedToken(piece, normalized=False) for piece in special])
    tokenizer.add_tokens([AddedToken(parts.pieces[i], normalized=False) for i in parts.added])
    bos = config["bos_token"]
    tokenizer.post_processor = TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, tokenizer.token_to_id(bos))]
    )
    return tokenizer


def load_embedded_tokenizer(folder: Path) -> BareTokenizer:
    """The tokenizer of the converted base in `folder`."""
    return BareTokenizer(made(Parts.load(folder / FAST), read_object(folder / TOKENIZER_CONFIG)))


def write_tokenizer(folder: Path, fields: Mapping[str, Any]) -> None:
    """tokenizer.json and FAST from the fields of the GGUF file, into a folder that has tokenizer_config.json."""
    parts = parts_of(fields)
    parts.save(folder / FAST)
    made(parts, read_object(folder / TOKENIZER_CONFIG)).save(str(folder / "tokenizer.json"), pretty=True)
