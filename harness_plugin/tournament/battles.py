"""Chatbots' answers -> battles: who answered what, which answers meet, what is missing.

Prompts are joined by their exact text, lm-eval's samples by the document that they belong to. An answer that is missing
on one side makes no battle and is never a loss. Knows no model and no score.
"""

import logging
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np

from harness_plugin.errors import DataError, UsageError
from harness_plugin.files.printable import counted
from harness_plugin.pairs import Answer, Text, content_id, flat_text, turn_count
from harness_plugin.tournament.answer_files import model_of, read_files, say_shared_names
from harness_plugin.tournament.lookalikes import say_lookalikes
from harness_plugin.tournament.meetings import Meetings
from harness_plugin.tournament.same_documents import Document, agreed_prompts, document_of

log = logging.getLogger("lm_eval.arena_rm")

# The openings of a declined request; a heuristic, used only for a count in the report.
REFUSAL = re.compile(
    r"\s*(i['\u2019]?m sorry|i am sorry|sorry,|i can(['\u2019]t|not) |i am unable|i['\u2019]m unable|"
    r"i won['\u2019]t|as an ai\b)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Answers:
    """Who answered what. `prompts`: prompt key -> prompt, sorted by key; `categories`: prompt key -> category where one
    is known; `by_model`: model -> prompt key -> response, models sorted by name. The key is the prompt's content id;
    where a file repeats a prompt, the id with -2, -3 ... for the later answers."""

    prompts: dict[str, Text]
    categories: dict[str, str]
    by_model: dict[str, dict[str, Text]]


@dataclass(frozen=True)
class Battles:
    """`pairs`: what is to be judged, model_a and model_b named; `identical`: pairs with one text on both sides, which
    need no judge. The rest is for the report: `models` and `prompts` that take part, `missing`: model -> keys of the
    prompts that others answered and it did not, `empty` and `refusals`: model -> number of such answers."""

    models: list[str]
    prompts: dict[str, Text]
    pairs: Meetings
    identical: Meetings
    missing: dict[str, list[str]]
    empty: dict[str, int]
    refusals: dict[str, int]

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """What is counted apart, for `leaderboard`: column -> model -> number."""
        missing = {model: len(keys) for model, keys in self.missing.items()}
        return {"missing": missing, "empty": self.empty, "refusals": self.refusals}

    @cached_property
    def met(self) -> dict[str, dict[str, Text]]:
        """The answers that met another one: prompt id -> model -> answer, both sorted."""
        sides: dict[str, dict[str, Text]] = {}
        for meetings in (self.pairs, self.identical):
            for who, prompt in meetings.sides():
                id = meetings.prompt_ids[prompt]
                sides.setdefault(id, {})[meetings.names[who]] = meetings.answers[who][id]
        return {id: dict(sorted(given.items())) for id, given in sorted(sides.items())}

    @property
    def who_met(self) -> set[str]:
        """The models that have a battle."""
        return {model for given in self.met.values() for model in given}


def gather(
    files: list[str],
    questions: str | None = None,
    fields: Mapping[str, str] | None = None,
    ignore: Collection[str] = (),
) -> Answers:
    """The answers of all files; the order of the files does not matter. A file whose rows name no model is named by its
    own name, or by its folder's where lm-eval or AlpacaEval chose the file's. The rest is as for `read_files` and
    `joined`.
    """
    return joined(read_files(files, questions, fields, ignore))


def joined(read: Mapping[str, list[Answer]], names: Mapping[str, str] | None = None) -> Answers:
    """The answers of files as `read_files` gives them. `names`: file -> what its one model is called here, whatever
    the file says.

    Raises DataError where a model answers a prompt twice, differently, unless other files repeat that prompt too, and
    UsageError for fewer than two models.
    """
    prompts: dict[str, Text] = {}
    categories: dict[str, set[str]] = {}
    by_model: dict[str, dict[str, Text]] = {}
    repeats: dict[str, str] = {}
    say_shared_names(read, names or {})
    agreed = _agreed(read, names or {})
    for file, outputs in read.items():
        count: Counter[tuple[str, str]] = Counter()
        for output in outputs:
            model, prompt = model_of(file, output, names or {}), _prompt_of(file, output, agreed)
            key = content_id(prompt)
            count[model, key] += 1
            if count[model, key] > 1:
                key, first = f"{key}-{count[model, key]}", key
                repeats[key] = first
            prompts[key] = prompt
            if output.category:
                categories.setdefault(key, set()).add(output.category)
            given = by_model.setdefault(model, {})
            if output.response is not None and given.setdefault(key, output.response) != output.response:
                raise _answered_twice(model, prompt, f"{file} and an earlier file")
    if len(by_model) < 2:
        raise UsageError(
            f"answers of {', '.join(by_model) or 'nobody'} only", "a battle needs two models", "name more files"
        )
    by_model = dict(sorted(by_model.items()))
    _settle_repeats(prompts, by_model, repeats)
    _leave_out_short(prompts, by_model)
    _say_categories(categories)
    chosen = {key: min(categories[key]) for key in prompts if key in categories}
    found = Answers(dict(sorted(prompts.items())), chosen, by_model)
    say_lookalikes(found.prompts, found.by_model)
    return found


def _say_categories(categories: Mapping[str, Collection[str]]) -> None:
    """Warns of prompts to which the files give several categories."""
    several = [names for names in categories.values() if len(names) > 1]
    if several:
        log.warning(
            "the files give several categories to %s, of which the first by alphabet counts (such as %s)",
            counted(len(several), "prompt"),
            " or ".join(sorted(several[0])),
        )


def _agreed(read: Mapping[str, list[Answer]], names: Mapping[str, str]) -> dict[Document, Text]:
    asked = [
        (model_of(file, output, names), document, output)
        for file, outputs in read.items()
        for output in outputs
        if (document := document_of(file, output)) is not None
    ]
    return agreed_prompts(asked)


def _prompt_of(file: str, output: Answer, agreed: Mapping[Document, Text]) -> Text:
    document = document_of(file, output)
    return output.prompt if document is None else agreed.get(document, output.prompt)


def _settle_repeats(prompts: dict[str, Text], by_model: dict[str, dict[str, Text]], repeats: dict[str, str]) -> None:
    """A benchmark may repeat a prompt: then several models have its later answers, and those meet in their order. Of
    one model alone they are a file's own repeats: the same answer again is dropped, another one is refused, and one
    that follows a missing answer takes its place. `repeats`: key of a later answer -> key of the prompt."""
    owners: dict[str, list[str]] = {}
    for model, given in by_model.items():
        for key in given:
            owners.setdefault(key, []).append(model)
    for key in sorted(key for key, models in owners.items() if key in repeats and len(models) == 1):
        model = owners[key][0]
        later = by_model[model].pop(key)
        if by_model[model].setdefault(repeats[key], later) != later:
            raise _answered_twice(model, prompts[key], "one file")
        del prompts[key]


def _leave_out_short(prompts: dict[str, Text], by_model: dict[str, dict[str, Text]]) -> None:
    """Removes answers with fewer turns than another model's to the same prompt: what they lack was asked too, and a
    missing turn is a missing answer."""
    for key in prompts:
        turns = {model: turn_count(given[key]) for model, given in by_model.items() if key in given}
        for model in [model for model, count in turns.items() if count < max(turns.values())]:
            del by_model[model][key]
            log.warning(
                "%s: the answer to %r is missing a turn (%d of %d) and is left out",
                model,
                flat_text(prompts[key])[:60],
                turns[model],
                max(turns.values()),
            )


def _answered_twice(model: str, prompt: Text, where: str) -> DataError:
    return DataError(
        f"{model} answers one prompt twice, differently, in {where} ({flat_text(prompt)[:60]!r})",
        "it is not clear which of the two answers to judge",
        "leave one of them out",
    )


def battles(answers: Answers, baseline: str | None = None, prompts: int | None = None) -> Battles:
    """Every model against `baseline`, or without one every model against every other, on the prompts that both have
    answered. `prompts`: only so many of those with a battle, drawn by their content, so that one more model with
    answers to the same prompts leaves the draw as it is. Warns of models that meet nobody. Raises UsageError for an
    unknown baseline and DataError without a battle."""
    found = some_battles(answers, baseline, prompts)
    _warn_of_lonely(answers, found.who_met)
    return found


def some_battles(answers: Answers, baseline: str | None, prompts: int | None) -> Battles:
    """As `battles`, without the warning: for a part of what is judged."""
    if baseline is not None and baseline not in answers.by_model:
        raise UsageError(
            f"baseline {baseline!r} has no answers here",
            "every other model is compared with the answers of the baseline",
            f"it is one of {', '.join(answers.by_model)}",
        )
    chosen = _chosen(answers, baseline, prompts)
    judged, identical = _meeting(answers, baseline, chosen)
    given = answers.by_model.items()
    missing = {
        m: [key for key in chosen if key not in own] for m, own in given if any(key not in own for key in chosen)
    }
    return Battles(
        list(answers.by_model),
        {key: answers.prompts[key] for key in chosen},
        judged,
        identical,
        missing,
        _count(answers, chosen, lambda text: not flat_text(text).strip()),
        _count(answers, chosen, lambda text: bool(REFUSAL.match(flat_text(text)))),
    )


def _meeting(answers: Answers, baseline: str | None, chosen: list[str]) -> tuple[Meetings, Meetings]:
    """(those that the judge must see, those with one text on both sides), by the models' names, then by the prompt."""
    texts: dict[Text, int] = {}
    numbers = {key: number for number, key in enumerate(answers.prompts)}
    places = np.array([numbers[key] for key in chosen], dtype=np.int32)
    said = {  # for each model the numbers of its answers' texts, -1 for a missing one
        model: np.array([texts.setdefault(given[key], len(texts)) if key in given else -1 for key in chosen], dtype=int)
        for model, given in answers.by_model.items()
    }
    index = {model: number for number, model in enumerate(answers.by_model)}
    rows: dict[bool, list[np.ndarray]] = {False: [], True: []}
    for a, b in _meetings(answers, baseline):
        both, same = (said[a] >= 0) & (said[b] >= 0), said[a] == said[b]
        for alike in rows:
            prompts = places[both & (same == alike)]
            rows[alike].append(np.column_stack([np.full_like(prompts, index[model]) for model in (a, b)] + [prompts]))
    known = list(answers.by_model), list(answers.by_model.values()), answers.prompts, answers.categories
    judged, identical = (Meetings(*known, np.concatenate(rows[alike])) for alike in (False, True))
    return judged, identical


def _warn_of_lonely(answers: Answers, met: Collection[str]) -> None:
    """Says aloud which models have no battle: the leaderboard says nothing of them."""
    for model, given in answers.by_model.items():
        if model not in met:
            log.warning(
                "WARNING: %s meets nobody: of its %d answers none is to a prompt that a model it is compared with has "
                "answered too; check that its file answers the same prompts, or leave it out",
                model,
                len(given),
            )


def _meetings(answers: Answers, baseline: str | None) -> Iterator[tuple[str, str]]:
    if baseline is None:
        return combinations(answers.by_model, 2)
    return ((baseline, model) for model in answers.by_model if model != baseline)


def _chosen(answers: Answers, baseline: str | None, prompts: int | None) -> list[str]:
    """Keys of the prompts that count, sorted: all, or so many of those that make a battle. The first ones are a draw,
    since keys are hashes."""
    answered = Counter(key for given in answers.by_model.values() for key in given)
    needed = answered if baseline is None else answers.by_model[baseline]
    possible = [key for key in answers.prompts if answered[key] > 1 and key in needed]
    if not possible:
        raise DataError(
            "no prompt was answered by both sides of any battle",
            "prompts are joined by their exact text (system prompt, input and earlier turns belong to it), and "
            "lm-eval's samples by doc_hash or doc_id",
            "check that the files answer the same prompts",
        )
    return list(answers.prompts) if prompts is None else possible[:prompts]


def _count(answers: Answers, chosen: list[str], holds) -> dict[str, int]:
    found = {m: sum(key in own and holds(own[key]) for key in chosen) for m, own in answers.by_model.items()}
    return {model: count for model, count in found.items() if count}
