"""What is said about the texts and the labels that were read from a file: what they may have lost, or hold by mistake.

It goes to the package's log, as what `notes` says about columns does.
"""

import logging
import re
from collections.abc import Collection, Iterable, Sequence

from harness_plugin.files.checked import excerpt
from harness_plugin.files.printable import counted, listed
from harness_plugin.files.written_lists import written_list
from harness_plugin.pairs.formats import chat
from harness_plugin.pairs.formats.chat_templates import templated_messages
from harness_plugin.pairs.formats.columns import json_turns
from harness_plugin.pairs.pair import Pair, Text, Winner, flat_text

log = logging.getLogger("lm_eval.arena_rm")

_THOUGHTS = re.compile(r"\s*<(?:think|thinking|thought|reasoning)>")
_MARKERS = re.compile(r"<\||\[\||<\uff5c|\[INST\]|<start_of_turn>")
_BYTES = re.compile(r"""b(?:'[^']*'|"[^"]*")""")
_ALIKE = 10  # prompts: where the answers to so many are alike, it is no accident
_CUT, _LONG = 3, 200  # answers, and their characters: so many of one length, if they are so long, are no accident
_NEAR = 10  # characters by which other answers may be shorter than those
_LOST = "\ufffd"

Side = Sequence[tuple[Text, Text | None]]
"""The prompts and the answers of a file of answers, or of one side of its pairs."""


def say_texts(name: str, prompts: Sequence[tuple[str, Text]], *sides: Side) -> None:
    """Logs a warning for each of: prompts without a text; prompts with their own question as the earlier conversation,
    where that is so in more than half of those that have one; prompts, or all answers, that are lists of turns or
    messages that somebody wrote into a text, or that have the markers of a chat template; answers that hold the
    thoughts that a model wrote before them; answers that all begin with their prompts, are all the same, or seem to be
    cut at one length; texts with characters that were lost. The judge reads them all as they stand. `prompts`: the
    place of each for messages, and its text."""
    given = [answer for side in sides for _, answer in side if answer]
    empty = [place for place, prompt in prompts if not flat_text(prompt).strip()]
    if empty:
        log.warning("%s: the prompt has no text in %s (%s)", name, counted(len(empty), "row"), listed(empty))
    asked_again = [place for place, prompt in prompts if _asks_again(prompt)]
    talks = sum(len(_spoken(prompt)) > 1 for _, prompt in prompts)
    if 2 * len(asked_again) > talks:  # some people do ask again what was answered already
        log.warning(
            "%s: the earlier conversation is the question itself and an answer to it in %s (%s); if these are no "
            "earlier turns, leave their column alone (such as --ignore messages)",
            name,
            counted(len(asked_again), "row"),
            listed(asked_again),
        )
    _say_lists(name, [prompt for _, prompt in prompts], given)
    _say_markers(name, (prompt for _, prompt in prompts))
    _say_thoughts(name, given)
    whose = "all answers" if len(sides) == 1 else "all answers of one side"
    for side in sides:
        texts = [(flat_text(prompt), flat_text(answer)) for prompt, answer in side if answer]
        _say_alike(f"{name}: {whose}", texts)
    _say_cut(name, {flat_text(answer) for answer in given})
    lost = sum(_LOST in flat_text(text) for text in (*(prompt for _, prompt in prompts), *given))
    if lost:
        log.warning(
            "%s: %s with the character U+FFFD, which stands for what a program could not decode; read as they stand",
            name,
            counted(lost, "text"),
        )


def _say_alike(whose: str, side: Sequence[tuple[str, str]]) -> None:
    """Logs a warning where answers to several prompts are all one text, or all begin with their prompts."""
    if len({prompt for prompt, _ in side}) < _ALIKE:
        return
    if len({answer for _, answer in side}) == 1:
        log.warning("%s are the same text, %s; check their column", whose, excerpt(side[0][1]))
    elif all(prompt.strip() and answer.lstrip().startswith(prompt.strip()) for prompt, answer in side):
        why = "which the judge then reads twice; take them off if a program put them there"
        log.warning("%s begin with their prompts, %s", whose, why)


def _say_cut(name: str, answers: Collection[str]) -> None:
    """Logs a warning where several answers are as long as the longest one, to the character, as if they were cut, and
    more than those that are up to ten characters shorter: of long answers that nobody cut, fewer are longer."""
    longest = max(map(len, answers), default=0)
    if longest < _LONG:
        return
    count = sum(len(answer) == longest for answer in answers)
    near = sum(longest - _NEAR <= len(answer) < longest for answer in answers)
    if count >= _CUT and count > near:
        log.warning(
            "%s: %d different answers have exactly %s characters, and none has more; they may have been cut",
            name,
            count,
            f"{longest:,}",
        )


def _asks_again(prompt: Text) -> bool:
    """Whether all that comes before the question is the same question with an answer."""
    turns = _spoken(prompt)
    if [chat.speaker(turn) for turn in turns] != ["Human: ", "Assistant: ", "Human: "]:
        return False
    return turns[0].strip() == turns[2].strip()


def _spoken(prompt: Text) -> list[str]:
    """The turns of a prompt that are not the system's."""
    return [turn for turn in ((prompt,) if isinstance(prompt, str) else prompt) if chat.speaker(turn) != "System: "]


def _say_lists(name: str, prompts: Iterable[Text], given: Collection[Text]) -> None:
    count = sum(map(_is_written_list, prompts))
    if count:
        what = "prompt is a list" if count == 1 else "prompts are lists"
        log.warning("%s: %d %s written as text, read as it stands; write real lists for turns", name, count, what)
    kind = next(map(_written_as, given), None)
    if kind is not None and all(_written_as(answer) == kind for answer in given):
        why = "read as they stand; take the texts out of them if they are answers or turns"
        log.warning("%s: all answers are %s written as text, %s", name, kind, why)


def _written_as(text: Text) -> str | None:
    """What a program wrote into the text in the place of an answer; None where it is none of these."""
    if not isinstance(text, str):
        return None
    whole = text.strip()
    if whole.startswith("["):
        return "lists" if written_list(whole) is not None else None
    if whole.startswith("{"):
        return "objects" if written_list(f"[{whole}]") is not None else None
    if whole[:1] == whole[-1:] == '"':
        return "JSON strings" if written_list(f"[{whole}]") is not None else None
    return "bytes" if _BYTES.fullmatch(whole) else None


def _is_written_list(text: Text) -> bool:
    if not isinstance(text, str) or not text.lstrip().startswith(("[", "{")):
        return False
    return chat.written_messages(text) is not None or json_turns(text) is not None


def _say_markers(name: str, prompts: Iterable[Text]) -> None:
    texts = (text for text in prompts if isinstance(text, str) and _MARKERS.search(text))
    count = sum(templated_messages(text) is not None for text in texts)
    if count:
        what = "prompt has" if count == 1 else "prompts have"
        why = "the judge reads them as text; write the messages themselves, as a list"
        log.warning("%s: %d %s the markers of a chat template; %s", name, count, what, why)


def _say_thoughts(name: str, given: Iterable[Text]) -> None:
    turns = ((answer,) if isinstance(answer, str) else answer for answer in given)
    count = sum(any("</think>" in text or _THOUGHTS.match(text) for text in texts) for texts in turns)
    if count:
        what = "answer has" if count == 1 else "answers have"
        why = "the judge reads it as part of the answer; take it out if people do not see it"
        log.warning("%s: %d %s a text of thoughts (<think>) in front; %s", name, count, what, why)


def say_contradictions(name: str, pairs: Sequence[Pair]) -> None:
    """Logs a warning where the winner and `p_b` name different sides, and where one of two equal answers won."""
    sides = {Winner.MODEL_A: -0.5, Winner.MODEL_B: 0.5}
    apart = [p.id for p in pairs if p.p_b is not None and p.winner in sides and (p.p_b - 0.5) * sides[p.winner] < 0]
    if apart:
        log.warning(
            "%s: winner and p_b name different sides in %s (id %s); the winner counts where a judge is measured, and "
            "p_b where one is trained. p_b is the probability that B is preferred",
            name,
            counted(len(apart), "pair"),
            listed(apart),
        )
    same = [p.id for p in pairs if p.response_a == p.response_b and p.winner in sides]
    if same:
        log.warning(
            "%s: both answers are the same text, and one of them won, in %s (id %s)",
            name,
            counted(len(same), "pair"),
            listed(same),
        )
