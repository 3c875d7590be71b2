"""Our own columns. A row of a pair has the names of `Pair`'s fields; a row of one answer has `prompt`, `response` and
maybe `model` and `category`, or other columns that the user names for these.
"""

from collections.abc import Mapping

from harness_plugin.errors import DataError
from harness_plugin.files.checked import excerpt, optional_id, optional_text, required, wrong_value
from harness_plugin.pairs.answer import Answer, Questions
from harness_plugin.pairs.formats.columns import PROMPT_PARTS, Fields, answer_or_none, answers_of, json_turns
from harness_plugin.pairs.formats.prompts import prompt_of
from harness_plugin.pairs.pair import REQUIRED, Pair, content_id

ANSWER_COLUMNS = ("prompt", "response", "model", "category")


def pair(row: Fields) -> Pair:
    """A row with the names of `Pair`'s fields; other columns, parts of the prompt aside, go to `meta`."""
    answers = answers_of(row, "response_a", "response_b")
    own = {name: value for name, value in row.items() if name not in PROMPT_PARTS}
    texts = dict(zip(REQUIRED, (prompt_of(row, "prompt", answers), *answers), strict=True))
    return Pair.from_dict({**own, **texts})


def refuse_json_cells(row: Fields) -> None:
    """Refuses to guess about a table's row with a canonical pair's columns whose three texts are all JSON lists.

    That is how the Kaggle files look without their labels. Raises DataError that asks for the format.
    """
    cells = [row.get(name) for name in REQUIRED]
    if all(isinstance(cell, str) and json_turns(cell) is not None for cell in cells):
        raise DataError(
            f"the columns are a canonical pair's, but the texts are JSON lists, such as {excerpt(row['prompt'])}",
            "they may be turns (arena_55k) or the very text of one turn (canonical)",
            "name the format (--format)",
        )


def answer(fields: Mapping[str, str], row: Fields, questions: Questions) -> Answer:
    """An answer from the columns that `fields` names (our name -> the file's column); unnamed ones keep our names.

    Texts are strings or lists of turns; the prompt may be a list of messages too. Model and category may be missing
    unless their columns were named.
    """
    prompt_column, response_column, model_column, category_column = (fields.get(name, name) for name in ANSWER_COLUMNS)
    required(row, *(fields[name] for name in ("model", "category") if name in fields))
    response = answer_or_none(row, response_column)
    prompt = prompt_of(row, prompt_column, (response,))
    model = optional_text(row, model_column)
    if not model and "model" in fields:
        raise wrong_value(model_column, model, "the name of the model that answered")
    return Answer(prompt, response, model, optional_id(row, category_column) or None, content_id(prompt))
