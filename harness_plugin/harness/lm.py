"""lm-eval's model class `arena_rm`: translation between the host's requests and the scorer, nothing else.

A request's document holds the pair; its continuation names a choice (A, B or C for a tie). The context text is for
other judges and is not read here. The rules of scoring are in `scoring` and `engine`.
"""

import logging
from dataclasses import replace
from typing import Any

import lm_eval.models  # noqa: F401 - registers the built-in models first: a registry that is not empty hides them
import torch
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from lm_eval.utils import simple_parse_args_string

from harness_plugin.engine.processes import accelerator, first_in_turn
from harness_plugin.errors import HarnessError, UsageError
from harness_plugin.harness import document_pair
from harness_plugin.harness.task_file import CHOICES
from harness_plugin.harness.zero_shot import has_more_text
from harness_plugin.judges import open_judge
from harness_plugin.judges.local import LocalJudge
from harness_plugin.judges.opening import refuse_served
from harness_plugin.judges.presentations import check_order
from harness_plugin.model import EMBEDDED, ModelSpec
from harness_plugin.model.naming import served_at
from harness_plugin.model.several import computes_here, settings_in
from harness_plugin.scoring import Judgement
from harness_plugin.scoring.probabilities import IMPOSSIBLE

log = logging.getLogger("lm_eval.arena_rm")  # only lm_eval's own tree of loggers has a handler

HOST_DEVICE = "cuda:0"  # what lm-eval asks for where nobody said anything
IDENTITY_KEY = "arena_rm:identity"  # in lm-eval's cache file, beside the cached responses


@register_model("arena_rm")
class ArenaRM(LM):
    """A pairwise reward model as an lm-eval model. Arguments are `ModelSpec`'s, and:

    `batch_size`: most sequences in a batch; "auto", and lm-eval's own default of 1, leave it to the token budget, since
    scores do not depend on it. `order`: "ab" scores each document as it is presented (arena_pairs presents both
    orders), "both" averages the two orders within every document. `model`: the name of the folder of results where
    neither peft nor pretrained gives it. Unknown arguments are refused by name.
    """

    def __init__(
        self,
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
        order: str = "ab",
        model: str | None = None,
        **args: Any,
    ):
        super().__init__()
        if str(args.pop("trust_remote_code", False)).lower() not in ("false", "0", "none"):
            raise UsageError("trust_remote_code=true", "arena_rm runs no code from model folders", "remove it")
        check_order(order)
        self.accelerator = accelerator(on_cpu=str(args.get("device")) == "cpu")
        self.counts = {"presentations": 0, "cut": 0}  # of this process
        self._rank = self.accelerator.process_index if self.accelerator else 0
        self._world_size = self.accelerator.num_processes if self.accelerator else 1
        if self._rank:
            log.setLevel(logging.WARNING)
        spec, size = ModelSpec.from_args(args), _batch_size(batch_size, max_batch_size)
        spec = replace(spec, device=self._own_device(spec))
        if self.accelerator:
            refuse_served(spec)
        with first_in_turn(self.accelerator):
            self.judge = open_judge(spec, order=order, batch_size=size)
        # lm-eval puts the tensors there with which several processes exchange their results
        self._device = self.judge.model.device if isinstance(self.judge, LocalJudge) else torch.device("cpu")
        self.batch_sizes = {0: size or "auto"}

    @classmethod
    def create_from_arg_obj(cls, arg_dict: dict[str, Any], additional_config: dict[str, Any] | None = None):
        """As the host makes models; naming the default judge here names the results folder after it too."""
        if judge := arg_dict.get("judge"):
            served = served_at(str(judge))
            arg_dict.setdefault("model", (served and served.model) or str(judge))
        elif not arg_dict.get("peft"):
            arg_dict.setdefault("pretrained", EMBEDDED)
        return super().create_from_arg_obj(arg_dict, _not_said(arg_dict, additional_config))

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict[str, Any] | None = None):
        if said := arg_string.strip(" ,"):
            settings_in(said, ",")  # of an argument that is there twice, lm-eval would take the last value
        return cls.create_from_arg_obj(simple_parse_args_string(arg_string), additional_config)

    def _own_device(self, spec: ModelSpec) -> str | None:
        asked = spec.device
        if asked == HOST_DEVICE and not computes_here(spec):
            return None
        if not torch.cuda.is_available():
            if str(asked or "").startswith("cuda"):
                log.info("arena_rm: no CUDA here, so the CPU instead of %s", asked)
                return "cpu"
            return asked
        if self.accelerator and asked != "cpu":
            return f"cuda:{self.accelerator.local_process_index}"
        return asked

    # -- the host's requests ---------------------------------------------------------------------------------------

    def loglikelihood(self, requests: list, disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """ln P(choice) and whether it is the likeliest choice, one per request; each distinct presentation of a pair is
        scored once, whatever the number of choices and repeats."""
        choices = [_choice(r) for r in requests]
        pairs = [document_pair(r.doc, r.task_name or "") for r in requests]
        self._tell_unread(requests)
        wanted: dict[str, list[int]] = {}
        for i, pair in enumerate(pairs):
            wanted.setdefault(pair.key, []).append(i)
        self._check_cacheable(requests, pairs)
        out: dict[int, tuple[float, bool]] = {}
        distinct = [pairs[places[0]] for places in wanted.values()]
        cut = 0
        with self._progress(len(distinct), disable_tqdm) as bar:
            for judgement in self.judge.judge(distinct, bar.update):
                cut += judgement.truncated
                row = _log_likelihoods(judgement)
                for i in wanted[judgement.key]:
                    out[i] = row[choices[i]]
                    self.cache_hook.add_partial("loglikelihood", requests[i].args, out[i])
        self.counts = {"presentations": self.counts["presentations"] + len(distinct), "cut": self.counts["cut"] + cut}
        if cut:
            log.warning("arena_rm: %d of %d presentations were cut to %s", cut, len(distinct), self.judge.limit)
        return [out[i] for i in range(len(requests))]

    def _tell_unread(self, requests: list) -> None:
        """Warns, for each task, of text beside the pairs, since the judge reads the pair from the document."""
        first = {request.task_name: request for request in reversed(requests)}
        for task, request in first.items():
            if has_more_text(request.args[0], request.doc):
                log.warning(
                    "arena_rm: the requests of task %s hold more than the pair (a system instruction, the description "
                    "of the task, or few-shot examples); this judge reads the pair only",
                    task,
                )

    def _check_cacheable(self, requests: list, pairs: list) -> None:
        """The host's cache knows a request by its context only: it must tell the pairs apart."""
        if self.cache_hook.dbdict is None:
            return
        for request, pair in zip(requests, pairs, strict=True):
            texts = (pair.prompt, pair.response_a, pair.response_b)
            turns = [t for text in texts for t in ((text,) if isinstance(text, str) else text)]
            if not all(turn in request.args[0] for turn in turns):
                raise HarnessError(
                    f"--use_cache with task {request.task_name}, whose context does not hold the pair",
                    "lm-eval's cache would return the score of another pair",
                    "leave --use_cache out",
                )

    def _progress(self, total: int, disable: bool):
        from tqdm import tqdm

        return tqdm(total=total, desc="Scoring pairs", unit="pair", disable=disable or self._rank != 0)

    def loglikelihood_rolling(self, requests: list, disable_tqdm: bool = False) -> list[float]:
        raise HarnessError(
            "a task asks for the likelihood of a text",
            "arena_rm compares two responses and cannot rate one text",
            "use arena_pairs",
        )

    def generate_until(self, requests: list, disable_tqdm: bool = False) -> list[str]:
        raise HarnessError(
            "a task asks for generated text", "arena_rm compares two responses and writes none", "use arena_pairs"
        )

    # -- chat templates: the judge has a text of its own ------------------------------------------------------------

    def chat_template(self, chat_template: bool | str = False) -> str:
        if chat_template:
            self._no_chat()
        return ""

    def apply_chat_template(self, chat_history: list, add_generation_prompt: bool = True) -> str:
        return self._no_chat()

    @property
    def tokenizer_name(self) -> str:
        return ""

    def _no_chat(self) -> str:
        raise HarnessError(
            "a chat template was asked for",
            "the judge was trained on a fixed prompt, which a chat template would change",
            "drop --apply_chat_template",
        )

    # -- identity: results files and caches -------------------------------------------------------------------------

    def get_model_info(self) -> dict[str, Any]:
        """What the host writes into the results' config: everything that decides a score, and how much was cut."""
        return {"arena_rm": {**self.identity, **self.counts}}

    @property
    def identity(self) -> dict[str, Any]:
        return self.judge.identity

    def set_cache_hook(self, cache_hook: Any) -> None:
        """Lets --use_cache work with this very judge's file only: the host's keys name neither model nor settings."""
        db = cache_hook.dbdict
        if db is not None:
            mine = self.judge.hash
            found = db.get(IDENTITY_KEY)
            if found is None and len(db) == 0:
                db[IDENTITY_KEY] = mine
            elif found != mine:
                raise HarnessError(
                    f"the cache {db.filename} holds another judge's scores",
                    "they would be returned as this one's",
                    "give --use_cache another path for each judge and setting",
                )
        super().set_cache_hook(cache_hook)

    # -- several processes ------------------------------------------------------------------------------------------

    def all_gather(self, tensor: torch.Tensor) -> torch.Tensor:
        return self.accelerator.gather(tensor) if self.accelerator else tensor

    def gather_object(self, obj: Any, dst: int = 0) -> list | None:
        if not self.accelerator:
            return [obj]
        out = [None] * self.world_size if self.rank == dst else None
        torch.distributed.gather_object(obj, out, dst=dst)
        return out

    def barrier(self) -> None:
        if self.accelerator:
            self.accelerator.wait_for_everyone()


def _log_likelihoods(judgement: Judgement) -> list[tuple[float, bool]]:
    """For each choice ln P, and whether it is the only likeliest one."""
    logp = judgement.log_p
    best = logp == logp.max()
    return [(max(float(v), IMPOSSIBLE), bool(b and best.sum() == 1)) for v, b in zip(logp, best, strict=True)]


def _not_said(args: dict[str, Any], added: dict[str, Any] | None) -> dict[str, Any]:
    """What the host adds (its command line: always a device and a batch size) less what the user said."""
    return {name: value for name, value in (added or {}).items() if name not in args}


def _choice(request: Any) -> int:
    args = request.args
    word = str(args[1]).strip() if len(args) == 2 else None
    if word not in CHOICES:
        raise HarnessError(
            f"a request of task {request.task_name!r} for {word!r}",
            "the choices of a pair are A, B and C (tie)",
            "use arena_pairs, an arena_pairs_* task, or a task with these choices",
        )
    return CHOICES[word]


def _batch_size(asked: int | str, most: int | str | None) -> int | None:
    """The largest number of sequences in a batch, as `open_judge` takes it: None leaves it to the token budget. With
    `asked` "auto", or "auto:N", it is `most`."""
    name, value = ("max_batch_size", most) if str(asked).split(":")[0] == "auto" else ("batch_size", asked)
    try:
        size = None if value is None else int(value)
    except ValueError as e:
        raise UsageError(
            f"{name}={value!r}",
            "it is the largest number of sequences that are scored together",
            "use auto or a whole number",
        ) from e
    return None if size == 1 else size
