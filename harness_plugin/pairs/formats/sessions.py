"""The arena's `full_conversation`: all rounds of a session, of which the last ones are those of the vote."""

from collections.abc import Mapping, Sequence
from typing import Any

from harness_plugin.files.checked import is_absent, wrong_value
from harness_plugin.files.written_lists import written_list
from harness_plugin.pairs.formats import chat

_SIDES = ("model_side_a", "model_side_b")
_ALLOWED = "a list of rounds, each with user, model_side_a and model_side_b, or a list of messages"


def before_vote(name: str, session: Any, asked: Sequence[str], answers: Sequence[str]) -> tuple[str, ...]:
    """What was said before the conversation with the user's turns `asked`, each turn prefixed by its speaker; empty
    where the session begins with that conversation. `answers`: both sides' last ones, which are to be judged.

    The user saw two answers in each round, and other models gave them, so both stand in the prompt, in an order that
    does not depend on the sides of the vote; two equal ones stand there once. Questions are compared without regard to
    white space. Raises DataError for a session that is not one, and for one that ends with the answers of the vote
    under other questions, since the judge would read them in the prompt.
    """
    rounds = _rounds(name, session)
    questions, current = [_flat(question) for question, _ in rounds], [*map(_flat, asked)]
    starts = [n for n in range(len(rounds)) if questions[n : n + len(current)] == current]
    if rounds and not starts and set(answers) <= set(rounds[-1][1]):
        raise wrong_value(name, rounds[-1][0], "a session that ends with the questions of the vote, or before them")
    turns: list[chat.Message] = []
    for question, given in rounds[: starts[-1] if starts else len(rounds)]:
        turns += [chat.Message("user", question), *(chat.Message("assistant", text) for text in dict.fromkeys(given))]
    return chat.spoken(turns)


def _flat(text: str) -> str:
    return " ".join(text.split())


def _rounds(name: str, session: Any) -> list[tuple[str, list[str]]]:
    """Each question with the answers to it."""
    if is_absent(session) or session in ("", "null"):
        return []
    value = written_list(session) if isinstance(session, str) else session
    if not isinstance(value, (list, tuple)):
        raise wrong_value(name, session, _ALLOWED)
    if chat.is_message_list(value):
        return _of_messages(chat.messages(name, value))
    return [_round(f"{name}[{n}]", entry) for n, entry in enumerate(value)]


def _of_messages(turns: list[chat.Message]) -> list[tuple[str, list[str]]]:
    rounds: list[tuple[str, list[str]]] = []
    for turn in turns:
        if turn.role == "user":
            rounds.append((turn.text or "", []))
        elif turn.role == "assistant" and rounds and turn.text is not None:
            rounds[-1][1].append(turn.text)
    return rounds


def _round(name: str, entry: Any) -> tuple[str, list[str]]:
    if not isinstance(entry, Mapping) or "user" not in entry:
        raise wrong_value(name, entry, _ALLOWED)
    question = _said(f"{name}.user", entry["user"])
    if question is None:
        raise wrong_value(f"{name}.user", entry["user"], "the text of a user's message")
    answers = [_said(f"{name}.{side}", entry.get(side)) for side in _SIDES]
    return question, [answer for answer in answers if answer is not None]


def _said(name: str, value: Any) -> str | None:
    return chat.content_text(name, value.get("content") if isinstance(value, Mapping) else value)
