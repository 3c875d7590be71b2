"""Prompts for a chatbot with stored answers to be measured against, as lm-eval documents.

The chatbot under test writes its own answer to each prompt; `judge_filter` has a reward model compare the two. Knows
files of pairs and of answers; must not know models or metrics.
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness_plugin.errors import HarnessError
from harness_plugin.harness.documents import bundled_file, named_columns, refuse_unknown
from harness_plugin.harness.judge_filter import ready_judge
from harness_plugin.harness.task_file import check_task_file
from harness_plugin.pairs import Answer, Winner, content_id, read_outputs, read_pairs

log = logging.getLogger("lm_eval.arena_rm")

_NAMING = ("arena_fields", "arena_ignore")
_OF_THE_USER = ("arena_data", "arena_baseline", "arena_questions", *_NAMING)


def load_answers(**options: Any) -> dict[str, Any]:
    """The documents of `arena_judge` as {"test": datasets.Dataset}; the host calls it as the task's `custom_dataset`.

    Baseline answers are those of the user's file (`--metadata arena_data=FILE`, in any format of answers;
    `arena_baseline=MODEL` where it holds several models', `arena_questions=FILE` where prompts stand in another, and
    what `named_columns` reads), else the better answers of the bundled battles. The judge's settings
    (`judge_filter.judge_settings`) travel in each document, since nothing else of the host's reaches a filter; a judge
    that cannot be had is refused here, before anything is generated. Raises DataError, ModelError, UsageError or
    HarnessError in one sentence.
    """
    from datasets import Dataset

    check_task_file(options.get("config_source"))
    refuse_unknown(options, "arena_", _OF_THE_USER, ("arena_bundled",))
    found, source = _answers(options)
    found = [a for a in found if a.response is not None]  # the reader has said which answers are missing
    single = [a for a in found if isinstance(a.prompt, str) and isinstance(a.response, str)]
    if len(single) < len(found):
        log.warning(
            "%s: %d prompt(s) of several turns left out: a chatbot writes one answer here",
            source,
            len(found) - len(single),
        )
    if not single:
        raise HarnessError(
            f"{source} has no prompt of one turn", "there is nothing to answer", "give a file with such prompts"
        )
    rows = answer_documents(single, ready_judge(options))
    return {"test": Dataset.from_list(rows)}


def _answers(options: Mapping[str, Any]) -> tuple[list[Answer], str]:
    if options.get("arena_data") is None:
        file = bundled_file(options.get("arena_bundled"))
        return _better_answers(file), str(file)
    source, wanted = str(options["arena_data"]), options.get("arena_baseline")
    found = read_outputs(source, options.get("arena_questions"), **named_columns(options, *_NAMING))
    models = sorted({a.model for a in found if a.model is not None})
    if wanted is not None:
        found = [a for a in found if a.model == str(wanted)]
    if not found or (wanted is None and len(models) > 1):
        raise HarnessError(
            f"{source} holds answers of {', '.join(models) or 'no named model'}",
            "the chatbot is compared with one baseline model" if wanted is None else f"none of them is {wanted!r}",
            "name it with --metadata arena_baseline=MODEL",
        )
    return found, source


def _better_answers(file: Path) -> list[Answer]:
    """The answer that won each decisive battle of one turn in a file of pairs."""
    decisive = [p for p in read_pairs(file).pairs if p.verdict not in (None, Winner.TIE)]
    return [
        Answer(p.prompt, p.response_a if p.verdict is Winner.MODEL_A else p.response_b, None, p.category, p.id)
        for p in decisive
        if isinstance(p.prompt, str)
    ]


def answer_documents(answers: list[Answer], settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One document per answer: answer_id, prompt, baseline (the stored answer), baseline_model, category, prompt_key,
    judge (the settings as JSON); all of them text or None."""
    judge = json.dumps(settings, sort_keys=True)
    return [
        {
            "answer_id": a.id,
            "prompt": a.prompt,
            "baseline": a.response,
            "baseline_model": a.model,
            "category": a.category,
            "prompt_key": content_id(a.prompt),
            "judge": judge,
        }
        for a in answers
    ]
