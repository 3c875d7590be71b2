"""A chatbot's answers -> verdicts against the baseline's, by a reward model: lm-eval's filter of `arena_judge`.

lm-eval calls a filter once per task and process, with all of that process's answers, when everything is generated. The
chatbot may still be in memory then, so the judge is loaded there and let go at the end. Only judging imports torch.
"""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from harness_plugin.errors import HarnessError, UsageError
from harness_plugin.harness.documents import refuse_unknown
from harness_plugin.model import ModelSpec
from harness_plugin.pairs import Pair, content_id

if TYPE_CHECKING:
    from harness_plugin.scoring import Judgement

OPTION, VARIABLE = "judge_", "ARENA_RM_JUDGE_"
NAMES = ("judge", "pretrained", "peft", "revision")  # together they name one judge
SETTINGS = (*(f.name for f in fields(ModelSpec)), "batch_size", "cache")


def judge_settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """What was said of the judge, by setting: `--metadata judge_NAME=...`, else the variable ARENA_RM_JUDGE_NAME, else
    nothing, which means the embedded judge and its defaults.

    Settings: those of `ModelSpec`, `batch_size` (most sequences at once) and `cache` (a file of scores to use and add
    to). judge, pretrained, peft and revision name one judge: where `--metadata` has one of them, the variables for them
    do not count. Raises HarnessError for unknown ones.
    """
    if options.get("judge") is not None:
        raise HarnessError(
            f"--metadata judge={options['judge']} would not be read",
            "the names of the judge's settings begin with judge_ here, apart from those of the chatbot",
            "write judge_judge=NAME, judge_peft=NAME or judge_pretrained=NAME",
        )
    refuse_unknown(options, OPTION, [OPTION + name for name in SETTINGS])
    variables = {name: value for name, value in os.environ.items() if name.startswith(VARIABLE) and value}
    known = {VARIABLE + name.upper(): name for name in SETTINGS}
    for name in sorted(variables.keys() - known):
        raise HarnessError(
            f"the environment variable {name} is unknown",
            "a variable with a typing error would be ignored without a word",
            f"known: {', '.join(known)}",
        )
    around = {known[name]: value for name, value in variables.items()}
    said = {name: options[OPTION + name] for name in SETTINGS if options.get(OPTION + name) is not None}
    if said.keys() & set(NAMES):
        around = {name: value for name, value in around.items() if name not in NAMES}
    return around | said


def ready_judge(options: Mapping[str, Any]) -> dict[str, Any]:
    """`judge_settings`, after a look at whether such a judge can be had: everything but its weights is read. Raises
    ModelError or UsageError where not."""
    from harness_plugin.model import load_renderer
    from harness_plugin.model.device import choose_device
    from harness_plugin.model.several import check_effect, members_of

    settings = judge_settings(options)
    spec, batch_size, _ = _parsed(settings)
    judges = members_of(spec)
    check_effect(spec, judges, batch_size)
    # A served judge is met when it is opened: a chatbot may answer for hours before it is needed.
    for judge in (judge for judge in judges if not judge.served):
        load_renderer(judge)
        if judge.device:  # without one the choice would touch CUDA, which a chatbot's own processes may not survive
            choose_device(judge.device)
    return settings


def _parsed(settings: Mapping[str, Any]) -> tuple[ModelSpec, int | None, str | None]:
    """(the judge, batch size, cache file)"""
    size, cache = settings.get("batch_size"), settings.get("cache")
    if size is not None and not str(size).isdecimal():
        raise UsageError(
            f"{OPTION}batch_size={size!r}",
            "it is the largest number of sequences that are scored together",
            "give a whole number, or leave it out",
        )
    spec = ModelSpec.from_args({name: value for name, value in settings.items() if name not in ("batch_size", "cache")})
    return spec, None if size is None else int(size), cache and str(cache)


def judged_pairs(pairs: Sequence[Pair], settings: Mapping[str, Any]) -> tuple[list[Judgement], dict[str, Any]]:
    """(a verdict per pair, who judged): loads the judge, has it judge in both orders, and gives its memory back."""
    import torch

    try:
        return _judged(pairs, *_parsed(settings))
    finally:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _judged(pairs, spec, batch_size, store):
    from tqdm import tqdm

    from harness_plugin.judges import open_judge
    from harness_plugin.scoring.judgement import judged_identical

    with open_judge(spec, batch_size=batch_size, store=store) as judge:
        different = list({p.key: p for p in pairs if p.response_a != p.response_b}.values())
        quiet = os.environ.get("RANK", "0") != "0"
        with tqdm(total=len(different), desc="Judging answers", unit="answer", disable=quiet) as bar:
            judgements = {judgement.key: judgement for judgement in judge.judge(different, bar.update)}
        verdicts = [
            judgements[p.key].of_pair(p) if p.key in judgements else judged_identical(p, judge.calibration, judge.hash)
            for p in pairs
        ]
        return verdicts, {"judge": judge.hash, **judge.identity}


class Judge(dict):
    """The filter: answers in, verdicts out. lm-eval calls it to make a filter, which is itself.

    A dict, because it stands in the task's configuration: with it the results file holds who judged (`judge`, the hash,
    and all of `scoring.identity.judge_identity`), once something was judged.
    """

    def __call__(self) -> Judge:
        return self

    def apply(self, resps: Iterable[str], docs: Sequence[Mapping[str, Any]]) -> list[str]:
        """One verdict per document, as JSON, since lm-eval logs a filter's results as text: a line of verdicts.jsonl, A
        being the baseline, with `win` (P(the answer is preferred), a tie half), `empty` and `document`. Identical
        answers count as a tie and are not judged. Raises HarnessError for answers that are not text, ModelError and
        ScoreError as judging does."""
        answers = list(resps)
        pairs = [_pair(doc, answer) for doc, answer in zip(docs, answers, strict=True)]
        (settings,) = {doc["judge"] for doc in docs}
        verdicts, identity = judged_pairs(pairs, json.loads(settings))
        self.update(identity)
        more = (
            {"win": v.win_b, "empty": not answer.strip(), "document": document_id(doc)}
            for v, answer, doc in zip(verdicts, answers, docs, strict=True)
        )
        return [json.dumps(v.to_row() | m, ensure_ascii=False) for v, m in zip(verdicts, more, strict=True)]


JUDGE = Judge()


def document_id(doc: Mapping[str, Any]) -> str:
    """Tells documents apart by all that a verdict on them rests on, except the answer."""
    return content_id(doc["prompt"], doc["baseline"], doc["judge"])


def _pair(doc: Mapping[str, Any], answer: Any) -> Pair:
    if not isinstance(answer, str):
        raise HarnessError(
            f"the answer to {doc['answer_id']} is {type(answer).__name__}",
            "the judge can only read text",
            "use a model that generates text, and the task's own filters",
        )
    # An answer that was cut inside a character may end in half a surrogate pair, which no tokenizer reads.
    answer = answer.encode("utf-8", "replace").decode("utf-8")
    return Pair(doc["prompt"], doc["baseline"], answer, id=doc["answer_id"], category=doc["category"])
