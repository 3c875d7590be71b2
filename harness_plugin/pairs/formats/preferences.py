"""Rows that give a better and a worse answer (`chosen` and `rejected`): RewardBench, UltraFeedback, HH-RLHF."""

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
from harness_plugin.pairs.pair import Pair, Text, Winner, content_id, missing_answer

PROMPTS = ("prompt", "instruction", "question")
"""The columns that may hold the prompt; the first of them that a row has does."""


def pair(row: Fields) -> Pair:
    """A row of RewardBench, UltraFeedback, HH-RLHF, TRL or LLaMA-Factory: strings, message lists, or transcripts
    without a prompt column."""
    return compared(row, row.get("chosen"), row.get("rejected"))


def compared(row: Fields, chosen: Any, rejected: Any) -> Pair:
    """The pair of a row whose better and worse answer have these values, wherever they stand in it."""
    column = next((name for name in PROMPTS if not is_absent(row.get(name))), None)
    prompt, better, worse = _texts(row, column, chosen, rejected)
    subset = optional_text(row, "subset")
    number = optional_id(row, "id")
    return better_and_worse(
        prompt,
        better,
        worse,
        models=(optional_text(row, "chosen_model"), optional_text(row, "rejected_model")),
        id=f"{subset}:{number}" if subset and number else number,  # RewardBench counts from 0 in each subset
        category=subset,
        meta=rest(row, column or "", "chosen", "rejected", "subset", "id", "chosen_model", "rejected_model"),
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


def _texts(row: Fields, column: str | None, chosen: Any, rejected: Any) -> tuple[Text, str, str]:
    """The prompt with its parts, and the better and the worse answer. `column`: that of the prompt, if there is one."""
    for name, value in (("chosen", chosen), ("rejected", rejected)):
        if is_absent(value):
            raise missing_answer(f"field {name} is {value!r}")
    if _is_plain(chosen) and _is_plain(rejected):
        text_value("chosen", chosen)
        text_value("rejected", rejected)
        whole = all(answer.startswith(chat.TRANSCRIPT_START) for answer in (chosen, rejected))
        if column is not None and not whole:
            return prompt_of(row, column, (chosen, rejected)), chosen, rejected
        if not whole:
            raise RowError(
                f"field chosen is {excerpt(chosen)}, and no column holds the prompt (fields found: {_names(row)})",
                f"allowed: a column {', '.join(PROMPTS)}, or transcripts, which begin with '\\n\\nHuman:'",
                "name the column of the prompt (--field prompt=COLUMN), correct the row",
            )
        talks = chat.transcript("chosen", chosen), chat.transcript("rejected", rejected)
    else:
        talks = chat.messages("chosen", chosen), chat.messages("rejected", rejected)
    shared, best, worst = chat.split_shared(*talks)
    if shared:
        used = _repeated(row, column, shared)
        return with_parts(row, chat.history(shared), used, (best, worst)), best, worst
    if column is None:
        raise wrong_value("chosen", f"an answer alone ({best})", "the prompt before the answer, or a prompt column")
    return prompt_of(row, column, (best, worst)), best, worst


def _names(row: Fields) -> str:
    return ", ".join(sorted(map(str, row)))


def _is_plain(value: Any) -> bool:
    return isinstance(value, str) and chat.message_list(value) is None


def _repeated(row: Fields, column: str | None, shared: list[chat.Message]) -> tuple[str, ...]:
    """The column of a prompt that the messages of both sides repeat. Raises RowError where they do not repeat it."""
    if column is None:
        return ()
    value = row[column]
    if not {text.strip() for text in _said(column, value)} <= {(turn.text or "").strip() for turn in shared}:
        raise wrong_value(column, value, "what the messages of chosen and rejected begin with, or null")
    return (column,)


def _said(column: str, value: Any) -> list[str]:
    """The texts of a prompt's turns. A transcript may end with the assistant's name, where the answer begins."""
    if not isinstance(value, str):
        turns = chat.messages(column, value)
    elif value.startswith(chat.TRANSCRIPT_START):
        turns = chat.transcript(column, value)
    else:
        return [value]
    texts = [turn.text or "" for turn in turns]
    return texts[:-1] if turns[-1:] == [chat.Message("assistant", "")] else texts
