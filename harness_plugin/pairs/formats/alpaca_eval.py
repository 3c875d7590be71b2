"""AlpacaEval: `annotations.json` (two outputs and a preference) and `model_outputs.json` (one model's outputs)."""

from collections.abc import Sequence
from typing import Any

from harness_plugin.files.checked import is_absent, optional_text, wrong_value
from harness_plugin.pairs.answer import Answer, Questions
from harness_plugin.pairs.formats.columns import Fields, answer_or_none, answers_of, rest
from harness_plugin.pairs.formats.prompt_columns import prompt_of
from harness_plugin.pairs.pair import Pair, Winner, content_id


def pair(row: Fields) -> Pair:
    """A row of `annotations.json`: `preference` goes from 1 (output_1) to 2 (output_2), so that p_b = preference - 1.

    1.5 is a tie, and so is 0, the older spelling. null is unknown.
    """
    response_a, response_b = answers_of(row, "output_1", "output_2")
    p_b, winner = _preference(row.get("preference"))
    used = ("instruction", "output_1", "output_2", "generator_1", "generator_2", "preference", "dataset")
    return Pair(
        prompt_of(row, "instruction", (response_a, response_b)),
        response_a,
        response_b,
        winner=winner,
        model_a=optional_text(row, "generator_1"),
        model_b=optional_text(row, "generator_2"),
        category=optional_text(row, "dataset"),
        p_b=p_b,
        meta=rest(row, *used),
    )


def _preference(value: Any) -> tuple[float | None, Winner | None]:
    if is_absent(value):
        return None, None
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not (value == 0 or 1 <= value <= 2):  # NaN fails both
        raise wrong_value("preference", value, "a number from 1 to 2, 0 (a tie), or null")
    p_b = 0.5 if value == 0 else value - 1
    if p_b == 0.5:
        return p_b, Winner.TIE
    return p_b, Winner.MODEL_B if p_b > 0.5 else Winner.MODEL_A


def doubt(pairs: Sequence[Pair]) -> str:
    """What may be wrong where each preference is 0 or 1, and both are there: 0 is a tie here, elsewhere an answer."""
    if {pair.p_b for pair in pairs} - {None} != {0.0, 0.5} or any(pair.meta.get("annotator") for pair in pairs):
        return ""
    return (
        "each preference is 0, read as a tie, or 1, read as output_1; if 0 means output_1 and 1 means output_2, say so "
        '(--winner-map "0=model_a,1=model_b")'
    )


def answer(row: Fields, questions: Questions) -> Answer:
    """A row of `model_outputs.json`."""
    response = answer_or_none(row, "output")
    prompt = prompt_of(row, "instruction", (response,))
    model, category = optional_text(row, "generator"), optional_text(row, "dataset")
    return Answer(prompt, response, model, category, content_id(prompt))
