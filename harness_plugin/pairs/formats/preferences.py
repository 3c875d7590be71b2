"""Rows that give a better and a worse answer (`chosen` and `rejected`): RewardBench, UltraFeedback, HH-RLHF."""

from typing import Any

from harness_plugin.files.checked import (
    optional_id,
    optional_text,
    required,
    text_value,
    wrong_value,
)
from harness_plugin.pairs.formats import chat
from harness_plugin.pairs.formats.columns import Fields, rest
from harness_plugin.pairs.pair import Pair, Text, Winner, content_id


def pair(row: Fields) -> Pair:
    """A row of RewardBench, UltraFeedback or HH-RLHF: strings, message lists, or transcripts without a prompt column.

    Side A is the response whose content id with the prompt sorts first: the label has no say in it, nor has the row's
    position, so the same two answers always stand the same way round.
    """
    prompt, chosen, rejected = _texts(row)
    subset = optional_text(row, "subset")
    number = optional_id(row, "id")
    best, worst = (chosen, optional_text(row, "chosen_model")), (rejected, optional_text(row, "rejected_model"))
    chosen_first = content_id(prompt, chosen) <= content_id(prompt, rejected)
    (response_a, model_a), (response_b, model_b) = (best, worst) if chosen_first else (worst, best)
    return Pair(
        prompt,
        response_a,
        response_b,
        id=f"{subset}:{number}" if subset and number else number,  # RewardBench counts from 0 in each subset
        winner=Winner.MODEL_A if chosen_first else Winner.MODEL_B,
        model_a=model_a,
        model_b=model_b,
        category=subset,
        meta=rest(row, "prompt", "chosen", "rejected", "subset", "id", "chosen_model", "rejected_model"),
    )


def _texts(row: Fields) -> tuple[Text, str, str]:
    prompt = row.get("prompt")
    chosen, rejected = required(row, "chosen", "rejected")
    if not isinstance(chosen, str):
        return _after_history(prompt, chat.messages("chosen", chosen), chat.messages("rejected", rejected))
    text_value("chosen", chosen)
    text_value("rejected", rejected)
    if prompt is None:
        return _after_history(None, chat.transcript("chosen", chosen), chat.transcript("rejected", rejected))
    return _prompt(prompt), chosen, rejected


def _after_history(prompt: Any, chosen: list[chat.Message], rejected: list[chat.Message]) -> tuple[Text, str, str]:
    shared, best, worst = chat.split_shared(chosen, rejected)
    if shared:
        return chat.history(shared), best, worst
    if prompt is None:
        raise wrong_value("chosen", f"an answer alone ({best})", "the prompt before the answer, or a prompt column")
    return _prompt(prompt), best, worst


def _prompt(value: Any) -> Text:
    return text_value("prompt", value) if isinstance(value, str) else chat.history(chat.messages("prompt", value))
