"""The table of formats: which columns tell each one, and which function reads its rows.

To add a format: write a function in the file of its family (or in a new file) that turns a row into a `Pair` or an
`Answer` and raises `wrong_value` or `missing_field` for what the format does not allow; then add one entry to
PAIR_FORMATS or ANSWER_FORMATS. For the tests, add a row of it to ROWS or ANSWER_ROWS in tests/pair_rows.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from harness_plugin.errors import DataError, UsageError
from harness_plugin.files.checked import excerpt
from harness_plugin.pairs.answer import Answer, Questions
from harness_plugin.pairs.formats import (
    alpaca_eval,
    arena,
    arena_hard,
    benchmarks,
    candidates,
    canonical,
    comparia,
    llama_factory,
    lm_eval_samples,
    mt_bench,
    preferences,
)
from harness_plugin.pairs.formats.columns import Fields
from harness_plugin.pairs.pair import Pair


def _always(row: Fields) -> bool:
    return True


@dataclass(frozen=True)
class PairFormat:
    """A format whose rows are pairs. Names of columns stand in one string, with spaces between them.

    `columns` and `without`: a row is of this format where it has all of the first and none of the second, and where
    `fits` accepts it. `pair`: a row to its pair or pairs, or to None where the row repeats another. `texts` and
    `numbers`: for CSV files, the columns in which an empty cell is an empty text, and those that hold numbers.
    `unique_ids`: False where the publisher's ids may repeat, so that a repeated one gets a suffix instead of an error.
    `first_of`: a column; only the rows count that have in it what the first row has.
    """

    name: str
    columns: str
    pair: Callable[[Fields], Pair | list[Pair] | None]
    without: str = ""
    fits: Callable[[Fields], bool] = _always
    texts: str = ""
    numbers: str = ""
    unique_ids: bool = True
    first_of: str | None = None

    def matches(self, row: Fields) -> bool:
        """Whether the row is of this format, as far as its columns tell."""
        return row.keys() >= set(self.columns.split()) and not row.keys() & set(self.without.split()) and self.fits(row)


@dataclass(frozen=True)
class AnswerFormat:
    """A format whose rows are single answers of one model; `columns`, `texts` and `first_of` as in `PairFormat`.

    `answer`: a row and the questions that were given to its answer. `unique_ids`: True where an id names one question,
    so that a second answer to it is an error; else equal ids are prompts that the benchmark repeats, and are numbered.
    """

    name: str
    columns: str
    answer: Callable[[Fields, Questions], Answer]
    texts: str = ""
    unique_ids: bool = False
    first_of: str | None = None

    def matches(self, row: Fields) -> bool:
        """Whether the row has the columns of this format."""
        return row.keys() >= set(self.columns.split())


_TEXTS = "prompt response_a response_b"
_TALKS = "conversation_a conversation_b"
_ONE_HOT = "winner_model_a winner_model_b winner_tie"

PAIR_FORMATS = (
    PairFormat("canonical", _TEXTS, canonical.pair, without=_ONE_HOT, texts=_TEXTS, numbers="p_b"),
    PairFormat("arena_55k", f"{_TEXTS} {_ONE_HOT}", arena.pair_55k, texts=_TEXTS, numbers=_ONE_HOT),
    PairFormat("arena_100k", _TALKS, arena.pair_100k, without="full_conversation judge both_equal"),
    PairFormat("comparia", f"{_TALKS} chosen_model_name both_equal", comparia.pair),
    PairFormat("arena_140k", f"{_TALKS} full_conversation", arena.pair_140k, without="both_equal"),
    PairFormat("chatbot_arena", f"{_TALKS} judge tstamp", arena.pair_100k, without="full_conversation"),
    PairFormat("mt_bench", f"{_TALKS} judge turn", mt_bench.pair, without="full_conversation tstamp"),
    PairFormat(
        "chosen_rejected",
        "chosen rejected",
        preferences.pair,
        fits=lambda row: not candidates.holds_lists(row) and not llama_factory.holds_messages(row),
        texts="prompt chosen rejected",
        unique_ids=False,
    ),
    PairFormat(
        "llama_factory", "chosen rejected", llama_factory.pair, fits=llama_factory.holds_messages, unique_ids=False
    ),
    PairFormat(
        "rewardbench2", "prompt chosen rejected", candidates.rewardbench2, "domain", fits=candidates.holds_lists
    ),
    PairFormat(
        "rm_bench",
        "prompt chosen rejected domain",
        candidates.rm_bench,
        fits=candidates.holds_lists,
        unique_ids=False,
    ),
    PairFormat(
        "alpaca_eval",
        "instruction output_1 output_2",
        alpaca_eval.pair,
        texts="instruction output_1 output_2",
        numbers="preference",
    ),
    PairFormat(
        "judgebench", "question response_A response_B", benchmarks.judgebench, texts="question response_A response_B"
    ),
    PairFormat(
        "llmbar", "input output_1 output_2 label", benchmarks.llmbar, "instruction", texts="input output_1 output_2"
    ),
    PairFormat(
        "ppe",
        "prompt response_1 response_2",
        benchmarks.ppe,
        texts="prompt response_1 response_2",
        unique_ids=False,
    ),
    PairFormat(
        "helpsteer3",
        "context response1 response2",
        benchmarks.helpsteer3,
        texts="response1 response2",
        numbers="overall_preference",
    ),
    PairFormat(
        "multipref",
        "text completion_a completion_b",
        benchmarks.multipref,
        texts="text completion_a completion_b",
    ),
    PairFormat("lm_eval", "doc resps", lm_eval_samples.pair, fits=lm_eval_samples.holds_pair, first_of="filter"),
)
"""A row must fit exactly one of these."""

ANSWER_FORMATS = (
    AnswerFormat("alpaca_eval", "instruction output", alpaca_eval.answer, texts="instruction output"),
    AnswerFormat("canonical", "prompt response", partial(canonical.answer, {}), texts="prompt response"),
    AnswerFormat("arena_hard_v0.1", "choices model_id", arena_hard.answer_v01, unique_ids=True),
    AnswerFormat("arena_hard_v2", "messages model", arena_hard.answer_v2, unique_ids=True),
    AnswerFormat("lm_eval", "doc resps arguments", lm_eval_samples.answer, first_of="filter"),
)
"""The first that fits a row is taken."""

FORMATS = tuple(format.name for format in PAIR_FORMATS)
"""The names of the formats that `read_pairs` takes."""

TEXT_COLUMNS = frozenset(name for format in (*PAIR_FORMATS, *ANSWER_FORMATS) for name in format.texts.split())
NUMBER_COLUMNS = frozenset(name for format in PAIR_FORMATS for name in format.numbers.split())


def get_format(name: str) -> PairFormat:
    """The format of pairs of that name. Raises UsageError for an unknown one."""
    for format in PAIR_FORMATS:
        if format.name == name:
            return format
    raise UsageError(f"format {excerpt(name)} is unknown", f"formats known: {', '.join(FORMATS)}", "name one of them")


def detect_format(row: Mapping[str, Any]) -> str:
    """The name of the format of pairs whose columns the row has.

    Raises DataError, listing the columns found and the formats known, where no format or more than one fits, and where
    the row holds a single answer instead of a pair.
    """
    fitting = [format.name for format in PAIR_FORMATS if format.matches(row)]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting and any(format.matches(row) for format in ANSWER_FORMATS):
        raise DataError(
            "the file holds single answers of one model, not pairs",
            "there is nothing in it to compare",
            "judge them with `arena-rm judge` and another model's file, or put two models' answers side by side: one "
            "row with prompt, response_a and response_b each",
        )
    what = f"fit more than one format ({', '.join(fitting)})" if fitting else "fit no known format"
    raise DataError(
        f"the columns {what}; columns found: {_names(row)}",
        f"formats known: {', '.join(FORMATS)}",
        "name the format (--format), or name the columns of a canonical pair",
    )


def detect_answer_format(row: Mapping[str, Any]) -> AnswerFormat:
    """The format of answers whose columns the row has. Raises DataError, listing the columns found and those known."""
    for format in ANSWER_FORMATS:
        if format.matches(row):
            return format
    raise DataError(
        f"the columns fit no known format of answers; columns found: {_names(row)}",
        f"columns known: {'; '.join(' + '.join(sorted(format.columns.split())) for format in ANSWER_FORMATS)}",
        "name the columns that hold prompt and response",
    )


def _names(row: Mapping[str, Any]) -> str:
    return ", ".join(sorted(map(str, row))) or "none"
