"""Reads files that hold one model's answers to many prompts; two of them make the pairs of a judgement.

AlpacaEval's `model_outputs.json`, Arena-Hard's `model_answer/*.jsonl` (both generations; the first keeps its prompts in
`question.jsonl`), lm-eval's `samples_*.jsonl` of generation tasks, and any other file whose columns are named. This
file knows columns; it must not know how two answers are matched or judged.
"""

import functools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from harness_plugin.errors import DataError, UsageError
from harness_plugin.files.checked import (
    excerpt,
    missing_field,
    optional_id,
    optional_text,
    placed,
    required,
    required_texts,
    text_value,
    wrong_value,
)
from harness_plugin.files.opening import display
from harness_plugin.files.rows import parse_json, read_rows
from harness_plugin.pairs.formats import chat
from harness_plugin.pairs.formats.columns import Fields, from_text_cells
from harness_plugin.pairs.pair import Text, checked_text, content_id


@dataclass(frozen=True)
class Output:
    """One model's answer. `id` is the file's own name for the prompt, or the prompt's content id; unique in a file."""

    prompt: Text
    response: Text
    model: str | None = None
    category: str | None = None
    id: str = ""


@dataclass(frozen=True)
class _Question:
    prompt: Text
    category: str | None


_Questions = Mapping[str, _Question]
_Reader = Callable[[Fields, _Questions], Output]
COLUMNS = ("prompt", "response", "model", "category")
"""Of a file that follows no tool: a row's prompt and response, and where it has them its model and category."""


def read_outputs(
    path: str | os.PathLike[str],
    questions: str | os.PathLike[str] | None = None,
    model: str | None = None,
    fields: Mapping[str, str] | None = None,
) -> list[Output]:
    """The answers of a file, in its order; `.gz`, `.zst` and "-" as in `read_pairs`.

    `questions` is Arena-Hard's `question.jsonl`, needed where the answers come without prompts. `model` is taken where
    the rows do not name one. `fields` maps names of `COLUMNS` to the file's own; then no other format is looked for.
    Of several samples of one answer the first counts, of several lm-eval filters too. Raises DataError with file, row,
    field, value and what was allowed for a bad row, and for a file of another kind; UsageError for an unknown field.
    """
    name = display(path)
    asked = _read_questions(questions) if questions is not None else {}
    read = _columns_reader(fields) if fields else None
    filters: set[Any] = set()
    answers: list[tuple[str, Output]] = []
    for place, row in _rows(path, fields or {}):
        try:
            read = read or _reader(row)
            if read is _lm_eval_sample:
                filters = filters or {str(row.get("filter"))}
                if str(row.get("filter")) not in filters:
                    continue
            answer = read(row, asked)
        except DataError as error:
            raise placed(error, f"{name} {place}") from error
        answers.append((place, replace(answer, model=answer.model or model)))
    if not answers:
        raise DataError(f"{name} has no answers", "there is nothing to judge", "check how the file was made")
    return _unrepeated(answers, name) if read in _NAMED_PROMPTS else _numbered([answer for _, answer in answers])


def _rows(path: str | os.PathLike[str], fields: Mapping[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    prose = {fields.get(name, name) for name in COLUMNS[:2]}
    for row in read_rows(path):
        if isinstance(row.value, DataError):
            raise row.value
        yield row.place, from_text_cells(row.value, prose) if row.container == "csv" else row.value


def _numbered(answers: list[Output]) -> list[Output]:
    """Answers to prompts known by their content: a benchmark may repeat one, in the same order in each file."""
    count: Counter[str] = Counter()
    numbered = []
    for answer in answers:
        count[answer.id] += 1
        again = count[answer.id]
        numbered.append(replace(answer, id=f"{answer.id}-{again}") if again > 1 else answer)
    return numbered


def _unrepeated(answers: list[tuple[str, Output]], name: str) -> list[Output]:
    first: dict[str, str] = {}
    for place, answer in answers:
        earlier = first.setdefault(answer.id, place)
        if earlier != place:
            raise DataError(
                f"{name} {place}: question {excerpt(answer.id)} was answered in {earlier} already",
                "which answer counts is unknown",
                "leave one of them out",
            )
    return [answer for _, answer in answers]


def _reader(row: Fields) -> _Reader:
    columns = set(row)
    for needs, read in _READERS:
        if needs <= columns:
            return read
    known = "; ".join(" + ".join(sorted(needs)) for needs, _ in _READERS)
    raise DataError(
        f"the columns fit no known format of answers; columns found: {', '.join(sorted(map(str, columns))) or 'none'}",
        f"columns known: {known}",
        "name the columns that hold prompt and response",
    )


def _columns_reader(fields: Mapping[str, str]) -> _Reader:
    for name in sorted(set(fields) - set(COLUMNS)):
        raise UsageError(
            f"field {excerpt(name)} is unknown", f"fields of an answer: {', '.join(COLUMNS)}", "name those"
        )
    return functools.partial(_own_columns, fields)


def _own_columns(fields: Mapping[str, str], row: Fields, asked: _Questions) -> Output:
    """A row of a file that follows no tool: texts are strings or lists of turns, the prompt also a list of messages.
    Model and category may be missing unless their columns were named."""
    prompt_column, response_column, model_column, category_column = (fields.get(name, name) for name in COLUMNS)
    named = [fields[name] for name in COLUMNS[2:] if name in fields]
    prompt, response, *_ = required(row, prompt_column, response_column, *named)
    if isinstance(prompt, list) and prompt and all(map(_is_object, prompt)):
        prompt = chat.history(chat.messages(prompt_column, prompt))
    prompt, response = checked_text(prompt_column, prompt), checked_text(response_column, response)
    model = optional_text(row, model_column)
    if not model and "model" in fields:
        raise wrong_value(model_column, model, "the name of the model that answered")
    return Output(prompt, response, model, optional_id(row, category_column) or None, content_id(prompt))


def _alpaca_output(row: Fields, asked: _Questions) -> Output:
    prompt, response = required_texts(row, "instruction", "output")
    model, category = optional_text(row, "generator"), optional_text(row, "dataset")
    return Output(prompt, response, model, category, content_id(prompt))


def _arena_hard_choices(row: Fields, asked: _Questions) -> Output:
    """Arena-Hard v0.1 and FastChat: `choices[0].turns`, each a string or {content}; the prompt is in the questions."""
    id = _question_id(row)
    question = _asked(id, asked)
    (choices,) = required(row, "choices")
    turns = choices[0].get("turns") if isinstance(choices, list) and choices and _is_object(choices[0]) else None
    if not isinstance(turns, list):
        raise wrong_value("choices", choices, "a list of at least one object with a list of turns")
    response = [_turn(f"choices[0].turns[{at}]", turn) for at, turn in enumerate(turns)]
    text = checked_text("choices[0].turns", response)
    return Output(question.prompt, text, optional_text(row, "model_id"), question.category, id)


def _arena_hard_messages(row: Fields, asked: _Questions) -> Output:
    """Arena-Hard v2: `messages`, the last of them the answer, whose content may be {answer}."""
    id = _question_id(row)
    (value,) = required(row, "messages")
    if not isinstance(value, list) or not all(_is_object(entry) for entry in value):
        raise wrong_value("messages", value, "a list of messages, each with role and content")
    opened = [{**entry, "content": _opened(entry.get("content"))} for entry in value]
    turns = chat.messages("messages", opened)
    if len(turns) < 2 or turns[-1].role != "assistant":
        raise wrong_value("messages", [turn.role for turn in turns], "a user's message first and the answer last")
    category = asked[id].category if id in asked else None
    return Output(chat.history(turns[:-1]), turns[-1].text, optional_text(row, "model"), category, id)


def _opened(content: Any) -> Any:
    return content["answer"] if _is_object(content) and "answer" in content else content


def _lm_eval_sample(row: Fields, asked: _Questions) -> Output:
    """A generation task's sample: the prompt is what the model was given, the response its first raw answer."""
    prompt = _lm_eval_prompt(row)
    id = optional_id(row, "doc_hash") or optional_id(row, "doc_id") or content_id(prompt)
    answer = row.get("resps") or row.get("filtered_resps")
    while isinstance(answer, list) and answer:
        answer = answer[0]
    if not isinstance(answer, str):
        shape = row.get("resps")
        raise wrong_value("resps", shape, "the answers of a generation task (a list of lists of strings)")
    return Output(prompt, text_value("resps", answer), None, None, id)


def _lm_eval_prompt(row: Fields) -> Text:
    (arguments,) = required(row, "arguments")
    first = arguments.get("gen_args_0") if _is_object(arguments) else None
    given = first.get("arg_0") if _is_object(first) and _is_object(first.get("arg_1")) else None
    if isinstance(given, str):
        return text_value("arguments.gen_args_0.arg_0", given)
    if isinstance(given, list) and len(given) == 1 and isinstance(given[0], str):  # how lm-eval logs chat messages
        try:
            value = parse_json(given[0])
        except ValueError:
            value = given
        return chat.history(chat.messages("arguments.gen_args_0.arg_0", value))
    allowed = "gen_args_0 of a generation task: the prompt in arg_0, the settings in arg_1"
    raise wrong_value("arguments", arguments, allowed)


def _question_id(row: Fields) -> str:
    id = optional_id(row, "question_id") or optional_id(row, "uid")
    if not id:
        raise missing_field("question_id", row)
    return id


def _asked(id: str, asked: _Questions) -> _Question:
    if not asked:
        raise DataError(
            f"the answer to question {id} comes without its prompt",
            "a judge must see it",
            "read it with the question.jsonl of the same benchmark",
        )
    if id not in asked:
        raise wrong_value("question_id", id, f"one of the {len(asked)} ids in the questions file")
    return asked[id]


def _read_questions(path: str | os.PathLike[str]) -> dict[str, _Question]:
    questions: dict[str, _Question] = {}
    for place, row in _rows(path, {}):
        try:
            questions[_question_id(row)] = _Question(_question_text(row), optional_text(row, "category"))
        except DataError as error:
            raise placed(error, f"{display(path)} {place}") from error
    return questions


def _question_text(row: Fields) -> Text:
    if "prompt" in row:
        return text_value("prompt", row["prompt"])
    (turns,) = required(row, "turns")
    if not isinstance(turns, list):
        raise wrong_value("turns", turns, "a list of turns")
    return checked_text("turns", [_turn(f"turns[{at}]", turn) for at, turn in enumerate(turns)])


def _turn(name: str, turn: Any) -> str:
    return chat.content_text(name, _content(name, turn))


def _content(name: str, turn: Any) -> Any:
    if isinstance(turn, str):
        return turn
    if not _is_object(turn) or "content" not in turn:
        raise wrong_value(name, turn, "a string, or an object with content")
    return _opened(turn["content"])


def _is_object(value: Any) -> bool:
    return isinstance(value, Mapping)


_NAMED_PROMPTS = (_arena_hard_choices, _arena_hard_messages)
_READERS: tuple[tuple[frozenset[str], _Reader], ...] = (
    (frozenset({"instruction", "output"}), _alpaca_output),
    (frozenset({"choices", "model_id"}), _arena_hard_choices),
    (frozenset({"messages", "model"}), _arena_hard_messages),
    (frozenset({"doc", "resps", "arguments"}), _lm_eval_sample),
    (frozenset({"prompt", "response"}), functools.partial(_own_columns, {})),
)
