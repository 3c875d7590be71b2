"""A pair becomes token ids here and nowhere else: the template, the truncation, and how much of each field was kept.

Training, scoring and lm-eval all use `Renderer`. It returns ids, never text that is tokenized again. User text is
encoded so that the spelling of a special token in it, such as `<eos>` or `<start_of_turn>`, stays text; the BOS token
is put in front exactly once. This module knows neither models nor files.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate

from harness_plugin.errors import DataError, ModelError, UsageError
from harness_plugin.pairs import Pair, Text

# The text of the reference model card, byte for byte. A change here needs a new PROMPT_VERSION.
TEMPLATE = "Which response is better for the prompt: {prompt}\n\nResponse A: {a}\n\nResponse B: {b}"
PROMPT_VERSION = 1
TRUNCATIONS = ("budget", "card")
MAX_LENGTH = 512
PROMPT_SHARE = 0.3  # of the tokens beside the template; what the prompt does not need the responses get, and vice versa
TURN_JOIN = "\n\n"
# Of a field that is longer than two ends, only the ends are tokenized: what is between them is cut anyway, and 10 MB
# would take minutes. An end has at least TOKEN_CHARACTERS for each token of max_length; no token has as many.
END_CHARACTERS, TOKEN_CHARACTERS = 100_000, 64


@dataclass(frozen=True)
class Kept:
    """How many tokens of a field are in the ids, and how many the field had (an estimate for a field of more than
    2 * END_CHARACTERS, whose middle is not tokenized)."""

    kept: int
    original: int


@dataclass(frozen=True)
class Rendered:
    """The token ids of one presentation of a pair, and how much of each field was kept.

    `frame_cut`: whether the end was cut off, which may remove parts of the template; only truncation "card" does that.
    """

    ids: tuple[int, ...]
    prompt: Kept
    response_a: Kept
    response_b: Kept
    frame_cut: bool = False

    @property
    def truncated(self) -> bool:
        """Whether anything was cut."""
        return self.frame_cut or any(k.kept < k.original for k in (self.prompt, self.response_a, self.response_b))


def flat(text: Text) -> str:
    """A field as one string; the turns of a conversation are joined by an empty line."""
    return text if isinstance(text, str) else TURN_JOIN.join(text)


def card_text(pair: Pair) -> str:
    """The text that the code on the reference model card tokenizes."""
    return TEMPLATE.format_map({"prompt": flat(pair.prompt), "a": flat(pair.response_a), "b": flat(pair.response_b)})


def water_fill(a: int, b: int, budget: int) -> tuple[int, int]:
    """How many of `budget` tokens two fields of `a` and `b` tokens get.

    The shorter field gets all that it needs, up to one half; the longer field gets the rest. If both need more than one
    half and the budget is odd, one token stays unused: the sides are treated alike, so water_fill(b, a) is
    water_fill(a, b) exchanged.
    """
    half = budget // 2
    if a + b <= budget:
        return a, b
    if a <= half:
        return a, budget - a
    if b <= half:
        return budget - b, b
    return half, half


class Renderer:
    """Renders pairs for one tokenizer.

    `max_length` counts all ids, BOS included. `truncation`: "budget" divides the length between the fields, "card" cuts
    off the end of the whole text, as the code on the reference model card does. Raises UsageError for settings that
    cannot work, and ModelError for a tokenizer without character offsets.
    """

    def __init__(self, tokenizer, max_length: int = MAX_LENGTH, truncation: str = "budget"):
        if truncation not in TRUNCATIONS:
            raise UsageError(
                f"truncation={truncation!r}",
                "long texts are cut in one of two ways, and this is neither",
                f"use one of {', '.join(TRUNCATIONS)}",
            )
        if not getattr(tokenizer, "is_fast", False):
            raise ModelError(
                "a tokenizer without a fast version",
                "only a fast tokenizer says where each token is in the text, which is needed to count what is cut",
                "use a model with a tokenizer.json file",
            )
        self.tokenizer, self.max_length, self.truncation = tokenizer, int(max_length), truncation
        least = len(self._frame) + 8
        if self.max_length < least:
            raise UsageError(
                f"max_length={max_length}",
                f"the template alone takes {len(self._frame)} tokens",
                f"use max_length={least} or more",
            )

    @cached_property
    def _pieces(self) -> tuple[list[int], list[int], list[int]]:
        """The ids of the template's fixed text before each of the three fields.

        The space before a field is encoded with the field, since in vocabularies like sentencepiece's it is a part of
        the field's first token.
        """
        parts, rest = [], TEMPLATE
        for field in ("{prompt}", "{a}", "{b}"):
            before, rest = rest.split(field, 1)
            parts.append(self._encode(before.removesuffix(" ")))
        first, second, third = parts
        return self._specials[0] + first, second, third

    @cached_property
    def _specials(self) -> tuple[list[int], list[int]]:
        """The special tokens that the tokenizer puts before a text (Gemma: BOS) and after it (Gemma: none)."""
        probe = self.tokenizer("x", return_special_tokens_mask=True)
        ids, mask = list(probe.input_ids), list(probe.special_tokens_mask)
        before, after = mask.index(0), mask[::-1].index(0)
        return ids[:before], ids[len(ids) - after :]

    @cached_property
    def _frame(self) -> list[int]:
        """All ids that belong to no field."""
        return [i for piece in (*self._pieces, self._specials[1]) for i in piece]

    def tokens_beyond(self, rows: int) -> list[str]:
        """The tokens with an id of `rows` or more that a presentation may hold, by id. A special token is not among
        them unless the tokenizer puts it before or after every text, since its spelling in a text stays text."""
        if len(self.tokenizer) <= rows and max(self.tokenizer.get_added_vocab().values(), default=0) < rows:
            return []
        own = {*self._specials[0], *self._specials[1]}
        special = {i for i, token in self.tokenizer.added_tokens_decoder.items() if token.special} - own
        beyond = {i: t for t, i in self.tokenizer.get_vocab().items() if i >= rows and i not in special}
        return [beyond[i] for i in sorted(beyond)]

    def _encode(self, text: str) -> list[int]:
        """The ids of a text without BOS. Raises DataError for text that is not valid Unicode."""
        try:
            return self.tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False).input_ids
        except (UnicodeEncodeError, TypeError) as e:
            raise _not_unicode(e) from e

    def render(self, pair: Pair) -> Rendered:
        """The pair with response A first."""
        return self.render_orders(pair, both=False)[0]

    def render_orders(self, pair: Pair, both: bool = True) -> list[Rendered]:
        """[A first], or with `both` [A first, B first]. Each field is encoded only once."""
        end = max(END_CHARACTERS, TOKEN_CHARACTERS * self.max_length)
        texts = [ends(text, end) for text in (pair.prompt, pair.response_a, pair.response_b)]
        if any(growth != 1 for _, growth in texts):
            (text, growth), (text_a, growth_a), (text_b, growth_b) = texts
            short = self.render_orders(replace(pair, prompt=text, response_a=text_a, response_b=text_b), both)
            sides = (growth_a, growth_b), (growth_b, growth_a)
            return [_grown(r, growth, *side) for r, side in zip(short, sides[: len(short)], strict=True)]
        if self.truncation == "card":
            return [self._card(p) for p in ((pair, pair.swap()) if both else (pair,))]
        prompt, a, b = (self._field(t) for t in (pair.prompt, pair.response_a, pair.response_b))
        return [self._budget(prompt, *sides) for sides in (((a, b), (b, a)) if both else ((a, b),))]

    def _field(self, text: Text) -> list[list[int]]:
        """The ids of each turn, with the separator in front of it."""
        turns = (text,) if isinstance(text, str) else text
        return [self._encode((TURN_JOIN if i else " ") + turn) for i, turn in enumerate(turns)]

    def _budget(self, prompt, a, b) -> Rendered:
        """The presentation with the length divided between the fields, which are given as from `_field`."""
        room = self.max_length - len(self._frame)
        n_prompt, n_a, n_b = (sum(map(len, field)) for field in (prompt, a, b))
        keep_prompt = min(n_prompt, max(int(room * PROMPT_SHARE), room - n_a - n_b))
        keep_a, keep_b = water_fill(n_a, n_b, room - keep_prompt)
        first, second, third = self._pieces
        ids = [*first, *cut(prompt, keep_prompt), *second, *cut(a, keep_a), *third, *cut(b, keep_b), *self._specials[1]]
        return Rendered(tuple(ids), Kept(keep_prompt, n_prompt), Kept(keep_a, n_a), Kept(keep_b, n_b))

    def _card(self, pair: Pair) -> Rendered:
        """The presentation with the end cut off, as the code on the reference model card does it."""
        text = card_text(pair)
        try:
            enc = self.tokenizer(text, split_special_tokens=True, return_offsets_mapping=True, verbose=False)
        except (UnicodeEncodeError, TypeError) as e:
            raise _not_unicode(e) from e
        ids, after = list(enc.input_ids), self._specials[1]
        over = len(ids) > self.max_length
        if over:
            ids = ids[: self.max_length - len(after)] + after
        start = TEMPLATE.index("{prompt}")
        kept = []
        for field, gap in (
            (pair.prompt, "\n\nResponse A: "),
            (pair.response_a, "\n\nResponse B: "),
            (pair.response_b, ""),
        ):
            end = start + len(flat(field))
            mine = [i for i, (_, stop) in enumerate(enc.offset_mapping) if start < stop <= end]
            kept.append(Kept(sum(i < len(ids) for i in mine), len(mine)))
            start = end + len(gap)
        prompt, a, b = kept
        return Rendered(tuple(ids), prompt, a, b, frame_cut=over)


def ends(text: Text, end: int) -> tuple[Text, float]:
    """(the first and the last `end` characters of a field, how many times as long the field is). A field that is not
    longer than both is left as it is. Of several turns, whole ones between the ends are left out."""
    whole = len(text) if isinstance(text, str) else sum(map(len, text))
    if whole <= 2 * end:
        return text, 1.0
    if isinstance(text, str):
        return text[:end] + text[-end:], whole / (2 * end)
    turns = [str(ends(turn, end)[0]) for turn in text]
    *starts, total = accumulate(map(len, turns), initial=0)
    kept = [t for t, start in zip(turns, starts, strict=True) if start < end or start + len(t) > total - end]
    return tuple(kept), whole / sum(map(len, kept))


def _grown(short: Rendered, prompt: float, a: float, b: float) -> Rendered:
    """What was rendered of shortened fields, with the lengths of the whole fields, which are so many times as long."""
    return replace(
        short,
        prompt=Kept(short.prompt.kept, round(short.prompt.original * prompt)),
        response_a=Kept(short.response_a.kept, round(short.response_a.original * a)),
        response_b=Kept(short.response_b.kept, round(short.response_b.original * b)),
    )


def cut(turns: list[list[int]], budget: int) -> list[int]:
    """At most `budget` ids of a field. The last turns are kept, and of the first turn that does not fit, its beginning
    and its end."""
    kept: list[int] = []
    for turn in reversed(turns):
        room = budget - len(kept)
        if len(turn) > room:
            tail = room // 2
            return turn[: room - tail] + (turn[len(turn) - tail :] if tail else []) + kept
        kept = turn + kept
    return kept


def _not_unicode(error: Exception) -> DataError:
    return DataError(
        "text that is not valid Unicode",
        f"the tokenizer cannot read it ({error})",
        "remove the halves of surrogate pairs from the text",
    )
