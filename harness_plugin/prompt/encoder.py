"""What every renderer does with a tokenizer: text to ids, and the tokens that the tokenizer itself adds.

User text is encoded so that the spelling of a special token in it, such as `<eos>` or `<start_of_turn>`, stays text.
"""

from functools import cached_property

from harness_plugin.errors import DataError, ModelError, UsageError

LEAST_TEXT = 8  # tokens that a presentation must have for the texts themselves


class TextEncoder:
    """A tokenizer with a maximum length and a way to cut. Raises ModelError for a tokenizer without character
    offsets."""

    def __init__(self, tokenizer, max_length: int, truncation: str):
        if not getattr(tokenizer, "is_fast", False):
            raise ModelError(
                "a tokenizer without a fast version",
                "only a fast tokenizer says where each token is in the text, which is needed to count what is cut",
                "use a model with a tokenizer.json file",
            )
        self.tokenizer, self.max_length, self.truncation = tokenizer, int(max_length), truncation

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
        probe = self.tokenizer("x", return_special_tokens_mask=True)
        ids, mask = list(probe.input_ids), list(probe.special_tokens_mask)
        before, after = mask.index(0), mask[::-1].index(0)
        return ids[:before], ids[len(ids) - after :]

    def own_tokens(self) -> set[int]:
        """The special tokens that are in presentations though no text holds them."""
        return {*self.specials[0], *self.specials[1]}

    def tokens_beyond(self, rows: int) -> list[str]:
        """The tokens with an id of `rows` or more that a presentation may hold, by id. A special token is not among
        them unless the tokenizer puts it before or after every text, since its spelling in a text stays text."""
        if len(self.tokenizer) <= rows and max(self.tokenizer.get_added_vocab().values(), default=0) < rows:
            return []
        own = self.own_tokens()
        special = {i for i, token in self.tokenizer.added_tokens_decoder.items() if token.special} - own
        beyond = {i: t for t, i in self.tokenizer.get_vocab().items() if i >= rows and i not in special}
        return [beyond[i] for i in sorted(beyond)]

    def encode(self, text: str) -> list[int]:
        """The ids of a text without BOS. Raises DataError for text that is not valid Unicode."""
        try:
            return self.tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False).input_ids
        except (UnicodeEncodeError, TypeError) as e:
            raise not_unicode(e) from e


def not_unicode(error: Exception) -> DataError:
    return DataError(
        "text that is not valid Unicode",
        f"the tokenizer cannot read it ({error})",
        "remove the halves of surrogate pairs from the text",
    )
