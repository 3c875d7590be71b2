"""Our own columns. A row of a pair has the names of `Pair`'s fields; a row of one answer has `prompt`, `response` and
maybe `model` and `category`.
"""

from harness_plugin.errors import DataError
from harness_plugin.files.checked import excerpt, optional_id, optional_text
from harness_plugin.pairs.answer import Answer, Questions
from harness_plugin.pairs.formats.columns import PROMPT_PARTS, Fields, answer_or_none, answers_of, json_turns
from harness_plugin.pairs.formats.prompt_columns import prompt_of
from harness_plugin.pairs.pair import REQUIRED, Pair, content_id


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


def answer(row: Fields, questions: Questions) -> Answer:
    """An answer. Texts are strings or lists of turns; the prompt may be a list of messages too. Model and category may
    be missing."""
    response = answer_or_none(row, "response")
    prompt = prompt_of(row, "prompt", (response,))
    category = optional_id(row, "category") or None
    return Answer(prompt, response, optional_text(row, "model"), category, content_id(prompt))
