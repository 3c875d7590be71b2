"""Rows that give a better and a worse answer (`chosen` and `rejected`): RewardBench, UltraFeedback, HH-RLHF."""

from collections.abc import Mapping, Sequence
from typing import Any

from harness_plugin.files.checked import (
    RowError,
    excerpt,
    is_absent,
    optional_id,
    optional_text,
    text_value,
    wrong_value,
)
from harness_plugin.pairs.formats import chat
from harness_plugin.pairs.formats.columns import Fields, rest
from harness_plugin.pairs.formats.prompt_columns import prompt_of, with_parts
from harness_plugin.pairs.pair import Pair, Text, Winner, content_id, is_no_answer, missing_answer

PROMPTS = ("prompt", "instruction", "question", "input")
"""The columns that may hold the prompt; the first of them that a row has does. `input` is one only of answers that come
without their prompt, and else a part of it."""
BETTER, WORSE = ("chosen", "chosen_response"), ("rejected", "rejected_response")
"""The columns of the better and of the worse answer; the second names are Argilla's and NeMo-Aligner's."""


def pair(row: Fields) -> Pair:
    """A row of RewardBench, UltraFeedback, HH-RLHF, TRL or LLaMA-Factory: strings, message lists, or transcripts
    without a prompt column."""
    names = names_of(row) or (BETTER[0], WORSE[0])
    return compared(row, row.get(names[0]), row.get(names[1]), names)


def names_of(row: Fields) -> tuple[str, str] | None:
    """The columns of the better and the worse answer that a row has; None where it has neither two."""
    return next((names for names in zip(BETTER, WORSE, strict=True) if row.keys() >= set(names)), None)


def compared(row: Fields, chosen: Any, rejected: Any, names: tuple[str, str] = (BETTER[0], WORSE[0])) -> Pair:
    """The pair of a row whose better and worse answer have these values, wherever they stand in it; `names`: what
    messages call them."""
    column = _prompt_column(row, PROMPTS[:-1])
    prompt, better, worse = _texts(row, column, (names[0], chosen), (names[1], rejected))
    subset = optional_text(row, "subset")
    number = optional_id(row, "id")
    return better_and_worse(
        prompt,
        better,
        worse,
        models=(optional_text(row, "chosen_model"), optional_text(row, "rejected_model")),
        id=f"{subset}:{number}" if subset and number else number,  # RewardBench counts from 0 in each subset
        category=subset,
        meta=rest(row, column or "", *names, "subset", "id", "chosen_model", "rejected_model"),
    )


def better_and_worse(
    prompt: Text, better: Text, worse: Text, models: tuple[str | None, str | None] = (None, None), **fields: Any
) -> Pair:
    """The pair of a better and a worse answer, of which `models` gives the names in this order.

    Side A is the response whose content id with the prompt sorts first: the label has no say in it, nor has the row's
    position, so the same two answers always stand the same way round.
    """
    best_first = content_id(prompt, better) <= content_id(prompt, worse)
    sides = [(better, models[0]), (worse, models[1])]
    (response_a, model_a), (response_b, model_b) = sides if best_first else sides[::-1]
    winner = Winner.MODEL_A if best_first else Winner.MODEL_B
    return Pair(prompt, response_a, response_b, winner=winner, model_a=model_a, model_b=model_b, **fields)


def _texts(row: Fields, column: str | None, *answers: tuple[str, Any]) -> tuple[Text, str, str]:
    """The prompt with its parts, and the better and the worse answer, each given as (name for messages, value).
    `column`: that of the prompt, if there is one."""
    for name, value in answers:
        if is_no_answer(value):
            raise missing_answer(f"field {name} is {value!r}")
        if not isinstance(value, (str, list, tuple, Mapping)):
            raise wrong_value(name, value, "a string, or messages with role and content")
    if all(_is_plain(value) for _, value in answers):
        chosen, rejected = (text_value(name, value) for name, value in answers)
        asked_in = _prompt_column(row, PROMPTS)
        # Beside a prompt, an answer that begins like a transcript may be a dialogue that was asked for.
        begun = [(name, _begun(value) if asked_in is None else value) for name, value in answers]
        whole = all(text.startswith(chat.TRANSCRIPT_START) for _, text in begun)
        column = column if whole else asked_in
        if column is not None and not whole:
            if (asked := of_transcript(column, row[column])) is not None:
                row, chosen, rejected = {**row, column: asked}, chosen.strip(), rejected.strip()
            return prompt_of(row, column, (chosen, rejected)), chosen, rejected
        if not whole:
            raise RowError(
                f"field {answers[0][0]} is {excerpt(chosen)}, and no column holds the prompt (fields found: "
                f"{_names(row)})",
                f"allowed: a column {', '.join(PROMPTS)}, or transcripts, which begin with 'Human:'",
                "name the column of the prompt (--field prompt=COLUMN), correct the row",
            )
        talks = [(name, chat.transcript(name, text)) for name, text in begun]
    else:
        talks = [(name, chat.messages(name, value)) for name, value in answers]
    shared, best, worst = chat.split_shared(*talks)
    if shared:
        used = _repeated(row, column, shared)
        return with_parts(row, chat.history(shared), used, (best, worst)), best, worst
    column = _prompt_column(row, PROMPTS)
    if column is None:
        allowed = "the prompt before the answer, or a prompt column"
        raise wrong_value(answers[0][0], f"an answer alone ({best})", allowed)
    value = row[column]
    written = chat.written_messages(value) if isinstance(value, str) else None
    return prompt_of({**row, column: written or value}, column, (best, worst)), best, worst


def _begun(text: str) -> str:
    """The text; a transcript with the white space before it that a program may have taken off."""
    start = text.lstrip()
    return f"\n\n{start}" if start.startswith("Human:") and "\n\nAssistant:" in start else text


def of_transcript(column: str, prompt: Any) -> list[dict[str, Any]] | None:
    """The messages of a prompt that is a transcript up to the answer; None for any other prompt."""
    begun = _begun(prompt) if isinstance(prompt, str) else ""
    if not begun.startswith(chat.TRANSCRIPT_START) or not begun.rstrip().endswith("\n\nAssistant:"):
        return None
    turns = chat.transcript(column, text_value(column, begun))
    return [{"role": turn.role, "content": turn.text} for turn in turns[:-1]]


def _prompt_column(row: Fields, columns: Sequence[str]) -> str | None:
    """The first of the columns with a text; files that were joined have several, empty ones among them."""
    given = [name for name in columns if not is_absent(row.get(name))]
    return next((name for name in given if row[name] != ""), given[0] if given else None)


def _names(row: Fields) -> str:
    return ", ".join(sorted(map(str, row)))


def _is_plain(value: Any) -> bool:
    return isinstance(value, str) and chat.written_messages(value) is None


def _repeated(row: Fields, column: str | None, shared: list[chat.Message]) -> tuple[str, ...]:
    """The column of a prompt that the messages of both sides repeat. Raises RowError where they do not repeat it."""
    if column is None:
        return ()
    value, said = row[column], {(turn.text or "").strip() for turn in shared}
    if isinstance(value, str) and value.strip() in said:
        return (column,)
    if not {text.strip() for text in _said(column, value)} <= said:
        raise wrong_value(column, value, "what the messages of chosen and rejected begin with, or null")
    return (column,)


def _said(column: str, value: Any) -> list[str]:
    """The texts of a prompt's turns. A transcript may end with the assistant's name, where the answer begins."""
    if not isinstance(value, str) or chat.written_messages(value) is not None:
        turns = chat.messages(column, value)
    elif value.startswith(chat.TRANSCRIPT_START):
        turns = chat.transcript(column, value)
    else:
        return [value]
    texts = [turn.text or "" for turn in turns]
    return texts[:-1] if turns[-1:] == [chat.Message("assistant", "")] else texts
