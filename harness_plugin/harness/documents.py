"""Pairs as lm-eval documents: where a task's pairs come from, and how each is presented in both orders.

A document is one presentation. Texts are lists of turns, since a column of an Arrow table has one type, and a list of
one is a plain text again in `document_pair`. Both orders are laid out once, in `load`: the host asks a task for its
documents several times, and then only gets them. Knows pairs and `datasets`; must not know metrics or models.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness_plugin.errors import DataError, HarnessError
from harness_plugin.harness.categories import is_reported
from harness_plugin.harness.task_file import check_task_file
from harness_plugin.pairs import MARKS, Pair, PairFile, Text, Winner, pairs_from_rows, read_pairs, text_length
from harness_plugin.pairs.formats.columns import check_pair
from harness_plugin.pairs.formats.prompt_columns import prompt_of

log = logging.getLogger("lm_eval.arena_rm")

TEXTS = ("prompt", "response_a", "response_b")
_OF_THE_TASK = ("arena_bundled", "arena_hub", "arena_split", "arena_files", "arena_reader")
_NAMING = {"arena_fields": "fields", "arena_winner_map": "winner_map", "arena_ignore": "ignore"}
_OF_THE_USER = ("arena_data", "arena_format", "arena_skip_bad_rows", *_NAMING)


def load(**options: Any) -> dict[str, Any]:
    """The documents of a task as {"test": datasets.Dataset}; the host calls it as the task's `custom_dataset`.

    The task file says where its pairs are: `arena_bundled` (a file beside the task files), or `arena_hub` and
    `arena_split` (a dataset on the hub), or `arena_files` (a category to the address of its file), and `arena_reader`,
    the format of the rows. The user's `--metadata arena_data=FILE` puts a file in their place, with `arena_format` if
    it cannot be told from the columns, and what `named_columns` reads; `arena_skip_bad_rows=true` leaves out bad rows
    and says how many. The host passes model arguments and the task's own metadata too; they are ignored. Raises
    DataError, UsageError or HarnessError in one sentence.
    """
    check_task_file(options.get("config_source"))
    refuse_unknown(options, "arena_", _OF_THE_USER, _OF_THE_TASK)
    pairs, source = _pairs(options)
    return {"test": to_dataset(pair_documents(pairs, source))}


def refuse_unknown(options: Iterable[str], prefix: str, known: Sequence[str], hidden: Sequence[str] = ()) -> None:
    """Raises HarnessError for an option of ours (they share a prefix) that is not known; `hidden` ones are the task
    file's and are not offered."""
    for name in sorted(name for name in options if name.startswith(prefix) and name not in {*known, *hidden}):
        raise HarnessError(
            f"--metadata {name} is unknown",
            "an option with a typing error would be ignored without a word",
            f"known: {', '.join(known)}",
        )


def named_columns(options: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """What the user says of the columns of a file, as `read_pairs` and `read_outputs` take it, from those of these
    options that are given: `arena_fields` and `arena_winner_map`, each an object, and `arena_ignore`, a list of columns
    or one. Raises HarnessError for anything else."""
    found = {}
    for name in names:
        value = options.get(name)
        if value is not None:
            found[_NAMING[name]] = _columns(name, [value] if isinstance(value, str) else value)
    return found


def _columns(name: str, value: Any) -> Any:
    listed = name == "arena_ignore"
    texts = list(value.values()) if isinstance(value, Mapping) else value
    if not isinstance(value, (list, tuple) if listed else Mapping) or not all(isinstance(t, str) for t in texts):
        raise HarnessError(
            f"--metadata {name} is {value!r}",
            "it is a list of columns" if listed else "it is an object with texts",
            'write the metadata as JSON, such as {"arena_data": "votes.csv", "arena_fields": {"winner": "label"}}',
        )
    return value


def _pairs(options: Mapping[str, Any]) -> tuple[list[Pair], str]:
    skip = options.get("arena_skip_bad_rows") in (True, 1, "true", "True")
    reader = options.get("arena_reader")
    if options.get("arena_data") is not None:
        source = str(options["arena_data"])
        own = named_columns(options, *_NAMING)
        found = read_pairs(source, format=options.get("arena_format") or reader, skip_bad_rows=skip, **own)
    elif "arena_hub" in options:
        source = f"{options['arena_hub']} (split {options['arena_split']})"
        rows = _hub_rows(options["arena_hub"], options["arena_split"])
        found = pairs_from_rows(rows, reader, skip_bad_rows=skip, source=source)
    elif "arena_files" in options:
        source = ", ".join(options["arena_files"].values())
        found = _of_categories(options["arena_files"], reader, skip)
    else:
        source = str(bundled_file(options.get("arena_bundled")))
        found = read_pairs(source)
    if found.skipped:
        log.warning("%s: %d bad row(s) left out; the first: %s", source, len(found.skipped), found.skipped[0])
    return found.pairs, source


def _of_categories(files: Mapping[str, str], reader: str | None, skip: bool) -> PairFile:
    """The pairs of several files, each of which is a category; ids begin with it."""
    read = {category: read_pairs(place, format=reader, skip_bad_rows=skip) for category, place in files.items()}
    pairs = [
        replace(pair, id=f"{category}:{pair.id}", category=category)
        for category, found in read.items()
        for pair in found.pairs
    ]
    skipped = [error for found in read.values() for error in found.skipped]
    return PairFile(pairs, reader or "", skipped, ", ".join(files.values()))


def bundled_file(name: str | None) -> Path:
    """A file beside the task files: in the installed package, or in the repository's `tasks` folder."""
    if not name:
        raise HarnessError(
            "the task names no pairs",
            "there is nothing to measure with",
            "name them: --metadata arena_data=FILE, or arena_data: FILE in the metadata of the task file",
        )
    package = Path(__file__).resolve().parents[1]
    places = [folder / "tasks" / name for folder in (package, package.parent)]
    for place in places:
        if place.is_file():
            return place
    raise HarnessError(
        f"the task's own pairs, {name}, are not at {places[0]} or {places[1]}",
        "the installation is incomplete",
        "install again, or name a file of pairs: --metadata arena_data=FILE",
    )


def _hub_rows(dataset: str, split: str) -> Iterable[Mapping[str, Any]]:
    import datasets

    try:
        return datasets.load_dataset(dataset, split=split)
    except Exception as error:  # the hub client, its transports and its readers share no base class
        raise HarnessError(
            f"{dataset} (split {split}) cannot be loaded: {type(error).__name__}: {error}",
            "its pairs come from the Hugging Face hub",
            "check the network, `hf auth login` if it is gated, or give a copy of it: --metadata arena_data=FILE",
        ) from error


def pair_documents(pairs: Iterable[Pair], source: str) -> list[dict[str, Any]]:
    """Two adjacent documents for each pair, as it stands and with the sides exchanged.

    Fields: pair_id, swapped, prompt, response_a, response_b (lists of turns), winner ("model_a", "model_b", "tie", of
    the sides as presented), category, difficulty, decides (or None), prompt_key, length_a, length_b (characters), p_b
    (or None), reported (those of `pairs.MARKS` of which some pair has a value that a task reports). Where the winner is
    unknown it follows from p_b: above one half B, below A, else a tie. The ids are unique, as the readers give them.
    Raises DataError where neither is known, HarnessError for no pairs at all.
    """
    pairs = list(pairs)
    if not pairs:
        raise HarnessError(
            f"{source} holds no pairs", "there is nothing to judge", "give a file with at least one pair"
        )
    unknown = [pair.id for pair in pairs if pair.winner is None and pair.p_b is None]
    if unknown:
        raise DataError(
            f"{len(unknown)} of {len(pairs)} rows of {source} have no known winner (the first: id {unknown[0]!r})",
            "a judge can only be measured where it is known who won",
            "fill in winner or p_b, or judge these rows with `arena-rm score`",
        )
    rows: list[dict[str, Any]] = []
    reported = [name for name in MARKS if any(is_reported(name, pair.mark(name)) for pair in pairs)]
    for pair in pairs:
        rows.append(_document(pair, False, reported))
        rows.append(_document(pair.swap(), True, reported))
    return rows


def _document(pair: Pair, swapped: bool, reported: list[str]) -> dict[str, Any]:
    return {
        "pair_id": pair.id,
        "swapped": swapped,
        **{name: _turns(getattr(pair, name)) for name in TEXTS},
        "winner": None if pair.verdict is None else pair.verdict.value,
        **{name: pair.mark(name) for name in MARKS},
        "prompt_key": pair.prompt_key,
        "length_a": text_length(pair.response_a),
        "length_b": text_length(pair.response_b),
        "p_b": pair.p_b,
        "reported": reported,
    }


def _turns(text: Text) -> list[str]:
    return [text] if isinstance(text, str) else list(text)


def to_dataset(rows: list[dict[str, Any]]) -> Any:
    """Documents as a `datasets.Dataset` with one type per column, whatever the first rows leave empty."""
    from datasets import Dataset, Features, Value

    texts = {name: [Value("string")] for name in (*TEXTS, "reported")}
    words = {name: Value("string") for name in ("pair_id", "winner", *MARKS, "prompt_key")}
    numbers = {"length_a": Value("int64"), "length_b": Value("int64"), "p_b": Value("float64")}
    flags = {"swapped": Value("bool")}
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    types = {**texts, **words, **numbers, **flags}
    return Dataset.from_dict(columns, features=Features({name: types[name] for name in columns}))


def document_pair(doc: Mapping[str, Any], task: str = "") -> Pair:
    """The pair of a document, in the order in which the document presents it.

    Any task whose documents have `prompt`, `response_a` and `response_b`, each a string or a list of turns, can be
    judged; the other parts of a prompt, such as `system`, are read as from a file. Raises HarnessError that names the
    missing or wrong fields, and the task if given.
    """
    missing = [name for name in TEXTS if not isinstance(doc, Mapping) or doc.get(name) is None]
    of_task = f" of task {task}" if task else ""
    if missing:
        raise HarnessError(
            f"the documents{of_task} have no field {', '.join(missing)}",
            "this model judges pairs of responses and nothing else",
            "use arena_pairs, an arena_pairs_* task, or a task whose documents have " + ", ".join(TEXTS),
        )
    extra = {}
    if doc.get("winner") in {str(winner) for winner in Winner}:
        extra["winner"] = doc["winner"]
    if isinstance(doc.get("category"), str):
        extra["category"] = doc["category"]
    if isinstance(doc.get("p_b"), float):
        extra["p_b"] = doc["p_b"]
    try:
        answers = doc["response_a"], doc["response_b"]
        pair = Pair(prompt_of(doc, "prompt", answers), *answers, id=str(doc.get("pair_id") or ""), **extra)
        check_pair(pair)
    except DataError as error:
        raise HarnessError(f"a document{of_task} is no pair: {error}") from error
    return pair
