"""One answer as a pointwise reward model reads it: the conversation up to the answer, in the model's chat template."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from harness_plugin.errors import DataError
from harness_plugin.pairs import Pair, Text
from harness_plugin.pairs.formats.chat import Message, as_messages
from harness_plugin.prompt.chat_template import ChatTemplate
from harness_plugin.prompt.cutting import Kept, cut_turns, end_of, ends, prompt_quota
from harness_plugin.prompt.encoder import LEAST_TEXT, TextEncoder

REMEMBERED = 256  # answers whose ids are kept: in a round robin, an answer comes back with each of its opponents


@dataclass(frozen=True)
class RenderedAnswer:
    """The token ids of a conversation that ends with an answer, and how much of the prompt and of the answer was
    kept."""

    ids: tuple[int, ...]
    prompt: Kept
    response: Kept

    @property
    def truncated(self) -> bool:
        """Whether anything was cut."""
        return self.prompt.is_cut or self.response.is_cut


@dataclass(frozen=True)
class _Said:
    """A message, whether it is the answer's, and how many times as long the whole text is where only its ends are
    here."""

    role: str
    text: str
    answers: bool
    growth: float = 1.0


@dataclass(frozen=True)
class _Encoded:
    """n messages as ids: `frames` are the n + 1 pieces of the template before, between and after their `fields`."""

    frames: list[list[int]]
    fields: list[list[int]]

    @property
    def frame(self) -> int:
        return sum(map(len, self.frames))

    @property
    def total(self) -> int:
        return self.frame + sum(map(len, self.fields))


class AnswerRenderer(TextEncoder):
    """Renders answers for one tokenizer in the chat template `template`.

    `max_length` counts all ids, BOS included. A text that is too long is cut inside the messages and never at the end,
    since the head reads the last token. `padding` as in `TextEncoder`. Raises UsageError for a `max_length` that the
    template alone fills, ModelError for a tokenizer without character offsets, and DataError for a template that cannot
    render a question and an answer.
    """

    def __init__(self, tokenizer, max_length: int, template: str, padding: int | None = None):
        super().__init__(tokenizer, max_length, truncation="budget", padding=padding)
        self.template = template
        self._chat = ChatTemplate(tokenizer, template)
        self.check_room(len(self._begin) + self._empty.frame)
        self._remembered = lru_cache(REMEMBERED)(self._render)

    def render_answers(self, pair: Pair) -> list[RenderedAnswer]:
        """[response A, response B], each after the prompt."""
        return [self.render_answer(pair.prompt, answer) for answer in (pair.response_a, pair.response_b)]

    def render_answer(self, prompt: Text, answer: Text) -> RenderedAnswer:
        """The answer after the prompt. Raises DataError for a conversation that the template refuses."""
        return self._remembered(prompt, answer)

    def _render(self, prompt: Text, answer: Text) -> RenderedAnswer:
        said = self._accepted(_shortened(*as_messages(prompt, answer), end_of(self.max_length)))
        whole = self._encoded(said)
        shown, encoded = said, whole
        if dropped := self._dropped(said, whole):
            system = [one for one in said[:1] if one.role == "system"]
            shown = system + said[len(system) + dropped :]
            encoded = self._encoded(shown)
        fields = self._cut(shown, encoded)
        pieces = [piece for pair in zip(encoded.frames, [*fields, []], strict=True) for piece in pair]
        ids = [*self._begin, *(i for piece in pieces for i in piece)]
        return RenderedAnswer(
            self.read(ids), *(self._kept(said, whole, shown, fields, answers) for answers in (False, True))
        )

    @staticmethod
    def _kept(said, whole: _Encoded, shown, fields, answers: bool) -> Kept:
        original = sum(
            round(len(f) * s.growth) for s, f in zip(said, whole.fields, strict=True) if s.answers == answers
        )
        return Kept(sum(len(f) for s, f in zip(shown, fields, strict=True) if s.answers == answers), original)

    # -- the conversation -------------------------------------------------------------------------------------------

    def _accepted(self, said: list[_Said]) -> list[_Said]:
        """The messages as the template accepts them. Where it refuses a system message, or two messages of one role in
        a row, the first of the two goes before the second, with an empty line between them."""
        try:
            self._chat.around(tuple(one.role for one in said))
            return said
        except DataError:
            joined = _joined(said)
            if len(joined) == len(said):
                raise
            self._chat.around(tuple(one.role for one in joined))
            return joined

    def _dropped(self, said: list[_Said], whole: _Encoded) -> int:
        """How many messages after a system message are left out of a conversation that is too long: the earliest
        rounds, of which no text would be left. The last round stays."""
        system = sum(one.role == "system" for one in said[:1])
        total, frame = len(self._begin) + whole.total, len(self._begin) + whole.frame
        start = system
        for end in [i for i, one in enumerate(said) if one.role == "user" and i > system]:
            frames = sum(map(len, whole.frames[start + 1 : end + 1]))  # what opens the conversation stays
            rest = total - frames - sum(map(len, whole.fields[start:end]))
            crowded = self.max_length - frame < LEAST_TEXT
            if total <= self.max_length or (rest < self.max_length and not crowded):
                break
            total, frame, start = rest, frame - frames, end
        return start - system

    def _cut(self, shown: list[_Said], encoded: _Encoded) -> list[list[int]]:
        """The fields with the length divided between the prompt and the answer. Raises UsageError where the template
        leaves no room for them."""
        self.check_room(len(self._begin) + encoded.frame)
        budget = self.max_length - len(self._begin) - encoded.frame
        fields: list[list[int]] = [[]] * len(shown)
        places = {answers: [i for i, one in enumerate(shown) if one.answers == answers] for answers in (False, True)}
        sizes = {answers: sum(len(encoded.fields[i]) for i in places[answers]) for answers in places}
        quota = prompt_quota(sizes[False], sizes[True], budget)
        for answers, share in ((False, quota), (True, budget - quota)):
            turns = cut_turns([encoded.fields[i] for i in places[answers]], share)
            for i, turn in zip(places[answers], turns, strict=True):
                fields[i] = turn
        return fields

    # -- ids --------------------------------------------------------------------------------------------------------

    @cached_property
    def _empty(self) -> _Encoded:
        """The template around a question and an answer without text."""
        return self._encoded([_Said("user", "", False), _Said("assistant", "", True)])

    @cached_property
    def _begin(self) -> list[int]:
        """BOS, where the tokenizer puts it before texts and the template does not write it."""
        before = self.specials[0]
        return [] if self._empty.frames[0][: len(before)] == before else before

    def own_tokens(self) -> set[int]:
        """As `TextEncoder.own_tokens`: BOS and the special tokens that the template writes."""
        return {*self._begin, *(i for frame in self._empty.frames for i in frame)}

    def _encoded(self, said: Sequence[_Said]) -> _Encoded:
        """The ids of the messages in the template. A token that is partly a message's and partly the template's is the
        template's, and is not cut."""
        around = self._chat.around(tuple(one.role for one in said))
        text, spans = around.fixed[0], []
        for one, strip, after in zip(said, around.strips, around.fixed[1:], strict=True):
            field = strip(one.text)
            spans.append((len(text), len(text) + len(field)))
            text += field + after
        frames: list[list[int]] = [[] for _ in range(len(spans) + 1)]
        fields: list[list[int]] = [[] for _ in spans]
        at = 0  # the first message that does not end before the token
        for token, start, end in self._tokens(text, spans):
            while at < len(spans) and spans[at][1] <= start:
                at += 1
            if at == len(spans) or start < spans[at][0]:
                frames[at].append(token)
            elif end <= spans[at][1]:
                fields[at].append(token)
            else:
                frames[at + 1].append(token)
        return _Encoded(frames, fields)

    def _tokens(self, text: str, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int, int]]:
        """(id, start, end) of each token, where the messages stand at `spans`.

        The text is tokenized as a whole, as transformers does it, unless a message holds the spelling of a special
        token. Then what stands between the special tokens of the template is tokenized piece by piece.
        """
        marks = [found.span() for found in self._special.finditer(text)] if self._special else []
        free = [(s, e) for s, e in marks if not any(s < end and start < e for start, end in spans)]
        if len(free) == len(marks):
            return self._piece(text, 0, split=False)
        tokens, at = [], 0
        for start, end in free:
            tokens += self._piece(text[at:start], at, split=True)
            tokens.append((self._special_ids[text[start:end]], start, end))
            at = end
        return tokens + self._piece(text[at:], at, split=True)

    def _piece(self, text: str, at: int, split: bool) -> list[tuple[int, int, int]]:
        """The tokens of a text that stands at `at`; `split`: special tokens are read as text."""
        encoding = self.encoding(text, split_special=split)
        return [(i, at + s, at + e) for i, (s, e) in zip(encoding.ids, encoding.offsets, strict=True)]

    @cached_property
    def _special_ids(self) -> dict[str, int]:
        """The ids of the special tokens, by how they are spelled."""
        return {token.content: i for i, token in self.backend.get_added_tokens_decoder().items() if token.special}

    @cached_property
    def _special(self) -> re.Pattern[str] | None:
        """Matches the spelling of any special token."""
        spelled = sorted(self._special_ids, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, spelled))) if spelled else None


def _shortened(messages: Sequence[Message], answers: Sequence[bool], end: int) -> list[_Said]:
    """The messages, of which a text that is longer than two ends is only its ends."""
    said = []
    for message, own in zip(messages, answers, strict=True):
        text, growth = ends(message.text or "", end)
        said.append(_Said(message.role, str(text), own, growth))
    return said


def _joined(said: list[_Said]) -> list[_Said]:
    """The messages with a system message in front of the one after it, and neighbours of one role as one. The answer's
    messages stay apart."""
    joined: list[_Said] = []
    for one in said:
        last = joined[-1] if joined else None
        if last is None or last.answers or one.answers or last.role not in ("system", one.role):
            joined.append(one)
            continue
        length = len(last.text) + len(one.text)
        growth = (len(last.text) * last.growth + len(one.text) * one.growth) / max(1, length)
        joined[-1] = _Said(one.role, f"{last.text}\n\n{one.text}", False, growth)
    return joined
