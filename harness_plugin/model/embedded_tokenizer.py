"""The tokenizer of the embedded base: made from the vocabulary in its GGUF file, and loaded in a fraction of the time
that its tokenizer.json takes.

tokenizer.json is 33 MB, and transformers reads it twice as JSON before it makes the same BPE from the parts. FAST holds
these parts as arrays. The tokenizer is the same, whichever of the two it comes from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness_plugin.files.rows import read_object
from harness_plugin.model.part_hashes import TOKENIZER_CONFIG

FAST = "tokenizer_parts.npz"
SPACE = "▁"
CONTROL, USER_DEFINED = 3, 4  # kinds of tokens in a GGUF file
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
        """The vocabulary and the merges as GemmaTokenizer takes them."""
        left, right = (map(self.pieces.__getitem__, ids.tolist()) for ids in self.merges.T)
        return {
            "vocab": {piece: i for i, piece in enumerate(self.pieces)},
            "merges": list(zip(left, right, strict=True)),
        }


def parts_of(fields: Mapping[str, Any]) -> Parts:
    """The parts from the fields of a Gemma's GGUF file, as transformers makes them
    (`integrations.gguf.gguf_tokenizer_mapping`): pieces of spaces are spelled as the normalizer spells spaces, and the
    merges, which the file does not hold, are all ways to cut a piece into two pieces, in the order of the pieces and
    with the longest left part first."""
    tokens: Sequence[str] = fields["tokenizer.ggml.tokens"]
    kinds = fields["tokenizer.ggml.token_type"]
    pieces = [SPACE * len(token) if " " in token and not token.strip() else token for token in tokens]
    ids = {piece: i for i, piece in enumerate(pieces)}
    merges = [
        (ids[piece[:cut]], ids[piece[cut:]])
        for piece in pieces
        for cut in range(len(piece) - 1, 0, -1)
        if piece[:cut] in ids and piece[cut:] in ids
    ]
    spaces = np.array([" " in token for token in tokens])  # the normalizer has replaced them where they are looked for
    added = np.flatnonzero((kinds == USER_DEFINED) & ~spaces)
    return Parts(
        pieces, np.array(merges, np.int32), np.flatnonzero(kinds == CONTROL).astype(np.int32), added.astype(np.int32)
    )


def made(parts: Parts, config: Mapping[str, Any]):
    """The GemmaTokenizer of the parts. `config`: the fields of its tokenizer_config.json."""
    from tokenizers import AddedToken
    from tokenizers.processors import TemplateProcessing
    from transformers import GemmaTokenizer

    tokenizer = GemmaTokenizer(**parts.bpe(), **{k: v for k, v in config.items() if k != "tokenizer_class"})
    backend = tokenizer.backend_tokenizer
    backend.add_special_tokens([AddedToken(parts.pieces[i], normalized=False) for i in parts.special])
    backend.add_tokens([AddedToken(parts.pieces[i], normalized=False) for i in parts.added])
    bos = tokenizer.bos_token
    backend.post_processor = TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, tokenizer.bos_token_id)]
    )
    return tokenizer


def load_embedded_tokenizer(folder: Path):
    """The tokenizer of the converted base in `folder`."""
    return made(Parts.load(folder / FAST), read_object(folder / TOKENIZER_CONFIG))


def write_tokenizer(folder: Path, fields: Mapping[str, Any]) -> None:
    """tokenizer.json and FAST from the fields of the GGUF file, into a folder that has tokenizer_config.json."""
    parts = parts_of(fields)
    parts.save(folder / FAST)
    made(parts, read_object(folder / TOKENIZER_CONFIG)).backend_tokenizer.save(
        str(folder / "tokenizer.json"), pretty=True
    )
