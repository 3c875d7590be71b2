"""A pair as a judge of pairs reads it: both responses in the text of the reference model card.

Training, scoring and lm-eval all use `Renderer`.
"""

from dataclasses import dataclass, replace
from functools import cached_property

from harness_plugin.errors import UsageError
from harness_plugin.pairs import Pair, Text
from harness_plugin.prompt.cutting import MAX_LENGTH, Kept, cut, end_of, ends, prompt_quota, water_fill
from harness_plugin.prompt.encoder import TextEncoder

# The text of the reference model card, byte for byte. A change here needs a new PROMPT_VERSION.
TEMPLATE = "Which response is better for the prompt: {prompt}\n\nResponse A: {a}\n\nResponse B: {b}"
PROMPT_VERSION = 1
TRUNCATIONS = ("budget", "card")
TURN_JOIN = "\n\n"


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
        return self.frame_cut or any(k.is_cut for k in (self.prompt, self.response_a, self.response_b))


def flat(text: Text) -> str:
    """A field as one string; the turns of a conversation are joined by an empty line."""
    return text if isinstance(text, str) else TURN_JOIN.join(text)


def card_text(pair: Pair) -> str:
    """The text that the code on the reference model card tokenizes."""
    return TEMPLATE.format_map({"prompt": flat(pair.prompt), "a": flat(pair.response_a), "b": flat(pair.response_b)})


class Renderer(TextEncoder):
    """Renders pairs for one tokenizer.

    `max_length` counts all ids, BOS included. `truncation`: "budget" divides the length between the fields, "card" cuts
    off the end of the whole text, as the code on the reference model card does. `padding` as in `TextEncoder`. Raises
    UsageError for settings that cannot work, and ModelError for a tokenizer without character offsets.
    """

    def __init__(self, tokenizer, max_length: int = MAX_LENGTH, truncation: str = "budget", padding: int | None = None):
        if truncation not in TRUNCATIONS:
            raise UsageError(
                f"truncation={truncation!r}",
                "long texts are cut in one of two ways, and this is neither",
                f"use one of {', '.join(TRUNCATIONS)}",
            )
        super().__init__(tokenizer, max_length, truncation, padding)
        self.check_room(len(self._frame))

    @property
    def template(self) -> str:
        """The text around the prompt and the responses."""
        return TEMPLATE

    @cached_property
    def _pieces(self) -> tuple[list[int], list[int], list[int]]:
        """The ids of the template's fixed text before each of the three fields.

        The space before a field is encoded with the field, since in vocabularies like sentencepiece's it is a part of
        the field's first token.
        """
        parts, rest = [], TEMPLATE
        for field in ("{prompt}", "{a}", "{b}"):
            before, rest = rest.split(field, 1)
            parts.append(self.encode(before.removesuffix(" ")))
        first, second, third = parts
        return self.specials[0] + first, second, third

    @cached_property
    def _frame(self) -> list[int]:
        """All ids that belong to no field."""
        return [i for piece in (*self._pieces, self.specials[1]) for i in piece]

    def render(self, pair: Pair) -> Rendered:
        """The pair with response A first."""
        return self.render_orders(pair, both=False)[0]

    def render_orders(self, pair: Pair, both: bool = True) -> list[Rendered]:
        """[A first], or with `both` [A first, B first]. Each field is encoded only once."""
        end = end_of(self.max_length)
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
        return [self.encode((TURN_JOIN if i else " ") + turn) for i, turn in enumerate(turns)]

    def _budget(self, prompt, a, b) -> Rendered:
        """The presentation with the length divided between the fields, which are given as from `_field`."""
        budget = self.max_length - len(self._frame)
        n_prompt, n_a, n_b = (sum(map(len, field)) for field in (prompt, a, b))
        keep_prompt = prompt_quota(n_prompt, n_a + n_b, budget)
        keep_a, keep_b = water_fill(n_a, n_b, budget - keep_prompt)
        first, second, third = self._pieces
        ids = [*first, *cut(prompt, keep_prompt), *second, *cut(a, keep_a), *third, *cut(b, keep_b), *self.specials[1]]
        return Rendered(self.read(ids), Kept(keep_prompt, n_prompt), Kept(keep_a, n_a), Kept(keep_b, n_b))

    def _card(self, pair: Pair) -> Rendered:
        """The presentation with the end cut off, as the code on the reference model card does it."""
        encoding, after = self.encoding(card_text(pair), whole=True), self.specials[1]
        ids, offsets = encoding.ids, encoding.offsets
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
            mine = [i for i, (_, stop) in enumerate(offsets) if start < stop <= end]
            kept.append(Kept(sum(i < len(ids) for i in mine), len(mine)))
            start = end + len(gap)
        prompt, a, b = kept
        return Rendered(self.read(ids), prompt, a, b, frame_cut=over)


def _grown(short: Rendered, prompt: float, a: float, b: float) -> Rendered:
    """What was rendered of shortened fields, with the lengths of the whole fields, which are so many times as long."""
    return replace(
        short,
        prompt=Kept(short.prompt.kept, round(short.prompt.original * prompt)),
        response_a=Kept(short.response_a.kept, round(short.response_a.original * a)),
        response_b=Kept(short.response_b.kept, round(short.response_b.original * b)),
    )
