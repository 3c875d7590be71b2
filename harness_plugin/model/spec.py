"""What a user asks for when naming a judge; every default of model arguments is here."""

from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any

from harness_plugin.errors import UsageError
from harness_plugin.model.calibration import Calibration
from harness_plugin.model.naming import CHAT, DECISIONS, EMBEDDED, Address, is_adapter, is_several, served_at

FORMATS = ("int8", "int16")  # of matrix products only
PAIR, POINTWISE = "pair", "pointwise"
KINDS = (PAIR, POINTWISE)
OF_SERVED = ("judge_prompt", "answer_tokens", "concurrency", "calls_per_minute", "max_calls", "max_tokens", "timeout")
OF_CHAT = ("judge_prompt", "answer_tokens")
# Of a judge that computes in this process: its weights, and what computes with them.
OF_WEIGHTS = ("revision", "allow_pickle", "dtype", "merge", "deterministic", "device", "threads")
OF_IDS = ("max_length", "truncation", "kind", "length_control")  # of a judge that reads token ids
# What holds of a served judge where the user does not say it.
ANSWER_TOKENS = 4096  # enough for the reasoning of most models; a model that answers with a letter stops after it
CONCURRENCY = {"vllm": 16, "sglang": 16, CHAT: 8, DECISIONS: 8}
TIMEOUT = 120.0  # seconds for one answer
DTYPES = ("auto", "float32", "bfloat16", "float16", *FORMATS)


@dataclass(frozen=True)
class ModelSpec:
    """A judge by name. None means: what the adapter's manifest says, else the card's setting.

    `judge` is one name for any judge: "embedded"; a folder or hub id of an adapter or a whole model, in the place of
    `peft` or `pretrained` (`resolved` says which); or a served judge, such as vllm:URL (`naming.FORMS`). A server that
    takes token ids needs `peft` or `pretrained` too: a folder or hub id of which only tokenizer and manifest are read.
    Of a served judge: `judge_prompt`, the file of a chat model's prompt; `answer_tokens`, its longest answer;
    `concurrency`, questions under way at once; `calls_per_minute`; `max_calls` and `max_tokens`, the budget of a run;
    `timeout`, seconds for one answer.

    `pretrained`: folder or hub id of the base, or of a whole model with a trained head when `peft` is None.
    `peft`: folder or hub id of the adapter. Neither: the embedded base with the embedded adapter. `merge=False`
    computes with PEFT's own layers and transformers' padded forward, as the card's snippet does. `deterministic` scores
    each sequence alone, so that its logit has the same bits whatever is scored beside it. `length_control` takes off
    the logit what length alone is worth to the judge (its manifest's `length_worth`). `kind` says what a model of one
    logit without a manifest reads: "pair", two responses at once, or "pointwise", one response (`model.kind`).
    `threads`: how many CPU threads compute; None: OMP_NUM_THREADS, else as many as there are CPUs that the process may
    use. They change no score.
    """

    pretrained: str | None = None
    peft: str | None = None
    revision: str | None = None
    dtype: str = "auto"
    device: str | None = None
    max_length: int | None = None
    truncation: str | None = None
    temperature: float | None = None
    tie_nu: float | None = None
    merge: bool = True
    deterministic: bool = False
    length_control: bool = False
    allow_pickle: bool = False
    kind: str | None = None
    judge: str | None = None
    judge_prompt: str | None = None
    answer_tokens: int | None = None
    concurrency: int | None = None
    calls_per_minute: float | None = None
    max_calls: int | None = None
    max_tokens: int | None = None
    timeout: float | None = None
    threads: int | None = None

    def __post_init__(self):
        self._check_names()
        Calibration(1.0 if self.temperature is None else self.temperature, self.tie_nu or 0.0)  # checks both
        if self.max_length is not None and self.max_length < 1:
            raise UsageError(f"max_length={self.max_length}", "a presentation has tokens", "give a number above 0")
        if self.kind not in (None, *KINDS):
            raise UsageError(f"kind={self.kind!r}", "no such kind of judge", f"use one of {', '.join(KINDS)}")
        for name in OF_SERVED[1:]:
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise UsageError(f"{name}={value}", "it must be above 0", "correct the number or leave it out")
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"threads={self.threads}", "at least one thread has to compute", "give a number above 0")
        if self.dtype not in DTYPES:
            raise UsageError(f"dtype={self.dtype!r}", "no such choice", f"use one of {', '.join(DTYPES)}")

    def _check_names(self) -> None:
        """Raises UsageError for names that are empty, such as those of a variable that is not set, or contradict each
        other, and for settings that a served judge cannot have."""
        for name in ("judge", "pretrained", "peft"):
            value = getattr(self, name)
            if value is not None and not value.strip():
                raise UsageError(f"{name} is empty", "it names a judge", "give a name, or leave it out")
        served = self.served
        beside = [name for name in ("pretrained", "peft") if getattr(self, name) is not None]
        if self.judge is None:
            return
        if served is None or not served.scores:
            if beside:
                raise UsageError(
                    f"judge={self.judge} with {' and '.join(beside)}",
                    "each of them names a judge"
                    if served is None
                    else "this server reads texts and needs no tokenizer",
                    f"leave {' and '.join(beside)} out",
                )
            return
        if not beside:
            raise UsageError(
                f"judge={self.judge} without peft or pretrained",
                "the server gets token ids, which need the tokenizer and the settings of the model that it serves",
                "name that model's folder or hub id too; its weights are not loaded",
            )

    @property
    def said(self) -> set[str]:
        """The settings that are not at their defaults, without the names of the judge."""
        names = ("judge", "pretrained", "peft")
        return {f.name for f in fields(self) if f.name not in names and getattr(self, f.name) != f.default}

    def takes(self, setting: str) -> bool:
        """Whether a setting has an effect on this kind of judge: one in this process, or the one behind its server."""
        served = self.served
        if served is None:
            return setting not in OF_SERVED
        if setting in OF_CHAT:
            return served.server == CHAT
        return setting not in (OF_WEIGHTS if served.scores else (*OF_WEIGHTS, *OF_IDS))

    @property
    def served(self) -> Address | None:
        """Where the judge is served; None for one in this process. Raises UsageError for an unusable address."""
        return None if self.judge is None else served_at(self.judge)

    def resolved(self) -> "ModelSpec":
        """The same judge with `judge` in the place that it names: `peft` for an adapter, `pretrained` for a whole
        model. Without its `judge`, the spec of a served one names the files of its tokenizer. Raises ModelError for a
        name that is neither a folder nor on the hub, UsageError for a panel or a cascade, which has several."""
        if self.judge is not None and is_several(self.judge):
            raise UsageError(
                f"judge={self.judge}", "one model is needed here, and this judge has several", "name one of them"
            )
        if self.judge is None or self.judge == EMBEDDED or self.served:
            return replace(self, judge=None)
        if is_adapter(self.judge):
            return replace(self, judge=None, peft=self.judge)
        return replace(self, judge=None, pretrained=self.judge)

    @classmethod
    def from_args(cls, args: dict[str, Any]) -> "ModelSpec":
        """From loosely typed arguments (lm-eval parses `1_000` as a float and `2024` as an int): each is cast, unknown
        ones are refused by name."""
        known = {f.name: f.type for f in fields(cls)}
        unknown = sorted(set(args) - set(known))
        if unknown:
            near = get_close_matches(unknown[0], known, 1)
            raise UsageError(
                f"unknown model argument {', '.join(unknown)}",
                f"known ones: {', '.join(known)}",
                f"did you mean {near[0]}?" if near else "remove it",
            )
        return cls(**{k: cast(k, v, str(known[k])) for k, v in args.items() if v is not None})


def cast(name: str, value: Any, kind: str) -> Any:
    """One argument as the type its field names, or UsageError."""
    try:
        if "bool" in kind:
            if str(value).lower() in ("true", "1", "false", "0"):
                return str(value).lower() in ("true", "1")
            raise ValueError(value)
        if "int" in kind:
            if float(value) != int(float(value)):
                raise ValueError(value)
            return int(float(value))
        return float(value) if "float" in kind else str(value)
    except (TypeError, ValueError, OverflowError) as e:
        want = next(w for k, w in (("bool", "true or false"), ("int", "a whole number"), ("", "a number")) if k in kind)
        raise UsageError(f"{name}={value!r}", f"it must be {want}", "correct the value") from e
