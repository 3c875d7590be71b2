"""What every renderer does with a tokenizer: text to ids, and the tokens that the tokenizer itself adds.

User text is encoded so that the spelling of a special token in it, such as `<eos>` or `<start_of_turn>`, stays text.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from harness_plugin.errors import DataError, ModelError, UsageError

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

LEAST_TEXT = 8  # tokens that a presentation must have for the texts themselves


class TextEncoder:
    """A tokenizer with a maximum length and a way to cut.

    `tokenizer`: one of transformers, or any object with a `backend_tokenizer` of the library tokenizers, which does all
    the work here. `padding`: the padding token of the model, None where it has none. Raises ModelError for a tokenizer
    without a `backend_tokenizer`: without character offsets.
    """

    def __init__(self, tokenizer: Any, max_length: int, truncation: str, padding: int | None = None):
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise ModelError(
                "a tokenizer without a fast version",
                "only a fast tokenizer says where each token is in the text, which is needed to count what is cut",
                "use a model with a tokenizer.json file",
            )
        self.tokenizer, self.max_length, self.truncation = tokenizer, int(max_length), truncation
        self.padding = padding
        self.backend: Tokenizer = backend

    def check_room(self, frame: int) -> None:
        """Raises UsageError where a template of `frame` tokens leaves no room for texts."""
        least = frame + LEAST_TEXT
        if self.max_length < least:
            raise UsageError(
                f"max_length={self.max_length}",
                f"the template alone takes {frame} tokens",
                f"use max_length={least} or more",
            )

    @cached_property
    def specials(self) -> tuple[list[int], list[int]]:
        """The special tokens that the tokenizer puts before a text (Gemma: BOS) and after it (Gemma: none)."""
        probe = self.encoding("x", whole=True)
        ids, mask = probe.ids, probe.special_tokens_mask
        before, after = mask.index(0), mask[::-1].index(0)
        return ids[:before], ids[len(ids) - after :]

    def read(self, ids: Sequence[int]) -> tuple[int, ...]:
        """The ids up to the last one that is not the padding token. transformers' classifiers read their logit there;
        our engine and servers read it at the last id that they get."""
        end = len(ids)
        while end and ids[end - 1] == self.padding:
            end -= 1
        return tuple(ids[:end])

    def own_tokens(self) -> set[int]:
        """The special tokens that are in presentations though no text holds them."""
        return {*self.specials[0], *self.specials[1]}

    def tokens_beyond(self, rows: int) -> list[str]:
        """The tokens with an id of `rows` or more that a presentation may hold, by id. A special token is not among
        them unless the tokenizer puts it before or after every text, since its spelling in a text stays text."""
        added = self.backend.get_added_tokens_decoder()
        if self.vocabulary_size <= rows and max(added, default=0) < rows:
            return []
        special = {i for i, token in added.items() if token.special} - self.own_tokens()
        vocabulary = self.backend.get_vocab(with_added_tokens=True)
        beyond = {i: token for token, i in vocabulary.items() if i >= rows and i not in special}
        return [beyond[i] for i in sorted(beyond)]

    @property
    def vocabulary_size(self) -> int:
        """How many tokens the tokenizer has."""
        return self.backend.get_vocab_size(with_added_tokens=True)

    def encode(self, text: str) -> list[int]:
        """The ids of a text without BOS. Raises DataError for text that is not valid Unicode."""
        return self.encoding(text).ids

    def encoding(self, text: str, whole: bool = False, split_special: bool = True) -> Encoding:
        """The tokens of a text, with the tokens that the tokenizer itself adds if it is a `whole` one. With
        `split_special`, the spelling of a special token stays text. Raises DataError for text that is not valid
        Unicode."""
        # These are settings of the tokenizer: its file may say something else, and so may others who use it.
        self.backend.no_truncation()
        self.backend.no_padding()
        self.backend.encode_special_tokens = split_special
        try:
            return self.backend.encode(text, add_special_tokens=whole)
        except (UnicodeEncodeError, TypeError) as e:
            raise DataError(
                "text that is not valid Unicode",
                f"the tokenizer cannot read it ({e})",
                "remove the halves of surrogate pairs from the text",
            ) from e

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some ids, special tokens included."""
        return self.backend.decode(list(ids), skip_special_tokens=False)
