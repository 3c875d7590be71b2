"""A recipe: one YAML file, every field documented here, unknown keys refused.

Knows nothing of torch, so that a recipe can be checked anywhere in an instant.
"""

import re
import types
import typing
from collections.abc import Hashable
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from harness_plugin.errors import UsageError
from harness_plugin.model.spec import KINDS, PAIR, POINTWISE
from harness_plugin.prompt import MAX_LENGTH, TRUNCATIONS

ORDERS = ("random", "ab")
PRECISIONS = ("float32", "bfloat16", "float16")
QUANTIZATIONS = ("4bit",)
# Those of transformers that need no setting of their own.
SCHEDULERS: tuple[str, ...] = "linear", "cosine", "cosine_with_restarts", "polynomial", "inverse_sqrt"
SCHEDULERS += "constant", "constant_with_warmup"
INFINITE = float("inf")
# Names of modules in a text, which PEFT would take for a regular expression of whole names.
NAMES = re.compile(r"\w+|[\w.]+(\s*,\s*[\w.]+)+")
SEEDS = 2**32  # NumPy takes no larger seed


def _refuse(settings: Any, checks: list[tuple[bool, str, str]], place: str = "") -> None:
    """Raises UsageError for the first setting, at `place` in the recipe, that is not as wanted: (it is, its name, what
    it must be)."""
    for good, name, want in checks:
        if not good:
            raise UsageError(f"{place}{name}: {getattr(settings, name)!r}", f"it must be {want}", "correct the recipe")


def _are_layers(numbers: list[int] | None) -> bool:
    return numbers is None or (bool(numbers) and min(numbers) >= 0)


@dataclass(frozen=True)
class LoraFields:
    """Passed to PEFT's LoraConfig; the defaults are the reference card's."""

    r: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.1
    target_modules: list[str] | str = field(default_factory=lambda: ["o_proj", "v_proj", "q_proj", "k_proj"])
    # names, a regular expression, or "all-linear"
    modules_to_save: list[str] = field(default_factory=lambda: ["classifier", "score"])
    use_rslora: bool = False  # divide by the root of r: Kalajdzievski (2023), arXiv:2312.03732
    use_dora: bool = False  # a magnitude of its own: Liu et al. (2024), arXiv:2402.09353
    layers_to_transform: list[int] | None = None  # only these layers; those below the first cost no backward pass

    def __post_init__(self):
        checks = [
            (self.r > 0, "r", "1 or more"),
            (self.lora_alpha > 0, "lora_alpha", "1 or more, since LoRA is multiplied by it"),
            (0 <= self.lora_dropout < 1, "lora_dropout", "a share from 0 to below 1"),
            (bool(self.target_modules), "target_modules", "names of modules"),
            (not NAMES.fullmatch(str(self.target_modules)), "target_modules", "a list in brackets for names"),
            (_are_layers(self.layers_to_transform), "layers_to_transform", "null, or numbers of layers, 0 or more"),
        ]
        _refuse(self, checks, "lora.")


@dataclass(frozen=True)
class Selection:
    """Which of the training pairs are used; the validation pairs are never selected, only split off first."""

    sources: dict[str, int] | None = None  # most pairs from each `source` (a field of the data); None: all pairs
    min_margin: float = 0.0  # drop pairs whose soft label is nearer to 0.5 than this
    max_tokens: int | None = None  # drop pairs whose full text is longer than this
    shorter_right: float | None = None  # share of pairs in which the shorter response is preferred; None: as found

    def __post_init__(self):
        checks = [
            (all(most >= 0 for most in (self.sources or {}).values()), "sources", "numbers of pairs, 0 or more"),
            (0 <= self.min_margin <= 0.5, "min_margin", "between 0 and 0.5"),
            (self.max_tokens is None or self.max_tokens > 0, "max_tokens", "1 or more"),
            (self.shorter_right is None or 0 <= self.shorter_right <= 1, "shorter_right", "a share between 0 and 1"),
        ]
        _refuse(self, checks, "select.")


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides an adapter, apart from the data files themselves."""

    # the model
    kind: str = PAIR  # "pair": it reads both responses; "pointwise": it reads one, and learns that the logit of the
    # preferred one is the larger (Bradley and Terry): the loss is on r(B) - r(A)
    base: str = "google/gemma-2b"  # folder, hub id, or "embedded"; any causal or sequence-classification model
    revision: str | None = None
    num_labels: int = 1  # 1: one logit, positive for B; 3: A, B, tie
    head_std: float | None = None  # spread of the fresh head's weights; None: as transformers draws them. A Gemma's
    # hidden states are so large that its own draw starts far from "no preference"
    init: str | None = None  # the adapter from whose LoRA and head the run starts: a folder, a hub id, or "embedded"
    # for the adapter in the package; None: from new ones. The base and the settings under `lora` must be those of the
    # adapter, and `head_std` has no effect
    frozen_layers: int = 0  # in so many of the lowest layers, LoRA keeps the weights of `init` and costs no backward
    # pass. (Without `init`, use lora.layers_to_transform to train upper layers only.)
    quantization: str | None = None  # "4bit": the frozen base in NF4 (extra `qlora`)
    lora: LoraFields = field(default_factory=LoraFields)
    precision: str = "float16"  # arithmetic; trainable weights are always float32
    save_precision: str = "float32"  # of the adapter's file
    # what it reads
    max_length: int = MAX_LENGTH  # tokens of a rendered pair, or of a rendered answer where kind is pointwise
    truncation: str = "card"  # "card" or "budget"; the adapter is later used with the same
    chat_template: str | None = None  # of kind pointwise: the Jinja text around a conversation; None: the tokenizer's
    orders: str = "random"  # how a pair is shown: "random" (drawn from its content, the epoch and the seed) or "ab"
    both_orders: float = 0.0  # share of the pairs that are shown in both orders, side by side in one batch
    mismatched: float = 0.0  # pairs added, as a share: an answer against another prompt's answer of the same length
    degraded: float = 0.0  # pairs added, as a share: an answer against itself cut off, repeating itself or straying
    select: Selection = field(default_factory=Selection)
    weights: dict[str, float] | None = None  # file name -> how often its pairs are seen in an epoch; None: once each
    teacher_share: float = 1.0  # with `--teacher`: how much of the label is the teacher's, the rest the data's own
    validation_share: float = 0.1  # of the connected components of prompts, drawn from their content
    validation_pairs: int | None = None  # at most so many of them are scored
    # what it minimises
    consistency: float = 0.0  # weight of the squared position bias of pairs shown in both orders
    length_debias: float = 0.0  # how much of what length says about the labels is explained away, 0 to 1
    # how
    epochs: float = 10.0
    learning_rate: float = 2e-4
    head_learning_rate: float | None = None  # of the score head alone; None: as the rest. One step of Adam moves the
    # logit of a Gemma by rate x |hidden|_1, about 1500 times the rate: a rate right for LoRA makes the head jump
    scheduler: str = "linear"  # how the rate changes after the warm-up: one of SCHEDULERS; "constant" has no warm-up
    warmup: float = 0.0  # share of the steps
    weight_decay: float = 0.0  # of trained matrices but the head; biases and DoRA's magnitudes have none
    batch_size: int = 4  # pairs per device and step
    accumulation: int = 4  # steps per update; every pair of an update counts alike, also where a batch is not full
    max_grad_norm: float = 1.0
    group_by_length: bool = True  # batches of similar length: less padding, where batches are padded
    gradient_checkpointing: bool = False  # less memory; the forward pass runs twice: half more time with LoRA
    compile: bool | None = None  # fuse each layer with torch.compile; None: where a run is long enough to gain
    evaluations: int = 10  # validation log loss is measured about so often, and at the end; the best weights are kept
    seed: int = 0

    def __post_init__(self):
        checks = [
            (self.truncation in TRUNCATIONS, "truncation", f"one of {', '.join(TRUNCATIONS)}"),
            (self.precision in PRECISIONS, "precision", f"one of {', '.join(PRECISIONS)}"),
            (self.orders in ORDERS, "orders", f"one of {', '.join(ORDERS)}"),
            (self.save_precision in PRECISIONS, "save_precision", f"one of {', '.join(PRECISIONS)}"),
            (self.quantization in (None, *QUANTIZATIONS), "quantization", f"null or {', '.join(QUANTIZATIONS)}"),
            (self.kind in KINDS, "kind", f"one of {', '.join(KINDS)}"),
            *self._pointwise_checks(),
            (self.num_labels in (1, 3), "num_labels", "1 or 3"),
            (self.head_std is None or 0 <= self.head_std < INFINITE, "head_std", "a number, 0 or more"),
            (self.frozen_layers >= 0, "frozen_layers", "0 or more"),
            (not self.frozen_layers or self.init is not None, "frozen_layers", "0 while init is null"),
            (0 <= self.both_orders <= 1, "both_orders", "a share between 0 and 1"),
            (0 <= self.mismatched <= 1, "mismatched", "a share between 0 and 1"),
            (0 <= self.degraded <= 1, "degraded", "a share between 0 and 1"),
            (0 <= self.teacher_share <= 1, "teacher_share", "a share between 0 and 1"),
            (0 <= self.consistency < INFINITE, "consistency", "a number, 0 or more"),
            (not self.consistency or self.both_orders > 0, "consistency", "0 while both_orders is 0"),
            (0 <= self.length_debias <= 1, "length_debias", "between 0 and 1"),
            (not self.length_debias or self.num_labels == 1, "length_debias", "0 for a head of three logits"),
            (all(0 < w < INFINITE for w in (self.weights or {}).values()), "weights", "numbers above 0"),
            (0 < self.epochs < INFINITE, "epochs", "a number above 0"),
            (0 < self.learning_rate < INFINITE, "learning_rate", "a number above 0"),
            (0 <= (self.head_learning_rate or 0) < INFINITE, "head_learning_rate", "a number, 0 or more"),
            (0 <= self.weight_decay < INFINITE, "weight_decay", "a number, 0 or more"),
            (self.scheduler in SCHEDULERS, "scheduler", f"one of {', '.join(SCHEDULERS)}"),
            (not self.warmup or self.scheduler != "constant", "warmup", "0 while scheduler is constant"),
            (self.max_grad_norm >= 0, "max_grad_norm", "0 (no limit) or more"),
            (0 < self.validation_share < 1, "validation_share", "between 0 and 1"),
            (self.validation_pairs is None or self.validation_pairs > 1, "validation_pairs", "2 or more"),
            (self.batch_size > 0, "batch_size", "1 or more"),
            (self.accumulation > 0, "accumulation", "1 or more"),
            (self.evaluations > 0, "evaluations", "1 or more"),
            (0 <= self.warmup < 1, "warmup", "a share between 0 and 1"),
            (0 <= self.seed < SEEDS, "seed", f"from 0 to {SEEDS - 1}"),
        ]
        _refuse(self, checks)

    def _pointwise_checks(self) -> list[tuple[bool, str, str]]:
        """What only one of the kinds can have."""
        if self.kind != POINTWISE:
            return [(self.chat_template is None, "chat_template", "null while kind is pair")]
        of_pairs = "for kind pointwise, which reads one response at a time"
        return [
            (self.num_labels == 1, "num_labels", f"1 {of_pairs}"),
            (self.truncation == "budget", "truncation", "budget for kind pointwise, whose head reads the last token"),
            (not self.both_orders, "both_orders", f"0 {of_pairs}"),
            (not self.consistency, "consistency", f"0 {of_pairs}"),
        ]

    def to_dict(self) -> dict:
        return asdict(self)


def read_config(path: str | Path, overrides: tuple[str, ...] = ()) -> TrainConfig:
    """The recipe in a YAML file, with `name=value` overrides (dots reach into lora and select). Raises UsageError, also
    where two overrides change one setting."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as e:
        raise UsageError(
            f"recipe {path} cannot be read ({e.strerror})", "", f"give a file, or one of {_shipped()}"
        ) from e
    except UnicodeDecodeError as e:
        raise UsageError(f"recipe {path} is not YAML ({e})", "", "correct it") from e
    data = parse_yaml(text, f"recipe {path}") or {}
    for item, (name, value) in _changes(overrides).items():
        place, dot, rest = name.partition(".")
        target = data.setdefault(place, {}) if dot and isinstance(data, dict) else data
        if not isinstance(target, dict):
            raise UsageError(
                f"{path}: {target!r} at --set {item}", "names and values were expected", "correct the recipe"
            )
        target[rest or place] = value
    return _build(TrainConfig, data, " ".join([str(path), *(f"--set {item}" for item in overrides)]))


def _changes(overrides: tuple[str, ...]) -> dict[str, tuple[str, Any]]:
    """Override -> (name, value). Raises UsageError for one without a value, and for two that change one setting, as
    those of `lora` and of `lora.r` do: the later one would replace the other."""
    changes: dict[str, tuple[str, Any]] = {}
    for item in overrides:
        name, equals, value = item.partition("=")
        if not equals:
            raise UsageError(f"--set {item}", "it has no value", "write --set name=value")
        for other, (changed, _) in changes.items():
            if f"{name}.".startswith(f"{changed}.") or f"{changed}.".startswith(f"{name}."):
                raise UsageError(f"--set {other} and --set {item}", "a setting has one value", "leave one out")
        changes[item] = name, parse_yaml(value, f"--set {item}")
    return changes


def find_config(name: str) -> Path:
    """A file by path, or one of the shipped recipes by its bare name."""
    shipped = Path(__file__).parent / "configs" / f"{name}.yaml"
    return shipped if not Path(name).is_file() and shipped.is_file() else Path(name)


def _shipped() -> str:
    return ", ".join(sorted(p.stem for p in (Path(__file__).parent / "configs").glob("*.yaml")))


PARTS = {"lora": LoraFields, "select": Selection}  # the settings of a recipe that have settings themselves
WORDS = {
    float: "a number",
    int: "a whole number",
    str: "a text",
    bool: "true or false",
    list: "a list",
    dict: "a mapping of names to values",
}


class _RepeatedKey(yaml.YAMLError):
    """A mapping that has one key twice."""


class _UniqueKeys(yaml.SafeLoader):
    """PyYAML's safe loader, which on its own takes the last of several values of one key without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        # before the parent's expansion of `<<`: a key of the mapping itself may override one that is merged in
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                name, line = (key.tag, key.value), key.start_mark.line + 1
                if name in lines:
                    raise _RepeatedKey(f"{key.value!r} is given twice (line {lines[name]} and line {line})")
                lines[name] = line
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, where: str) -> Any:
    """The value of a YAML text. Raises UsageError for what is not YAML and for a key that is given twice."""
    try:
        return yaml.load(text, Loader=_UniqueKeys)
    except _RepeatedKey as e:
        raise UsageError(f"{where}: {e}", "only one of the values can hold", "remove the other") from e
    except (yaml.YAMLError, ValueError, RecursionError) as e:  # dates that do not exist, nesting that is too deep
        raise UsageError(f"{where} is not YAML ({' '.join(str(e).split())[:120]})", "", "correct it") from e


def _build(kind, data, where: str):
    if not isinstance(data, dict):
        raise UsageError(f"{where}: {data!r}", "names and values were expected", "correct the recipe")
    known = {f.name: f for f in fields(kind)}
    hints = typing.get_type_hints(kind)
    unknown = sorted(str(k) for k in set(data) - set(known))
    if unknown:
        raise UsageError(
            f"{where}: unknown key {', '.join(unknown)}", f"known: {', '.join(known)}", _meant(unknown[0], kind)
        )
    return kind(**{k: _value(hints[k], v, f"{where}: {k}") for k, v in data.items()})


def _meant(name: str, kind) -> str:
    """What to do about a name that is no setting of the part `kind` of a recipe: a setting of a similar name there, or
    in another part."""
    known = {f.name: f.name for f in fields(kind)}
    for part, other in PARTS.items():
        known |= {f.name: f"{f.name} under {part}" for f in fields(other) if f.name not in known}
    known |= {f.name: f"{f.name} outside of {' and '.join(PARTS)}" for f in fields(TrainConfig) if f.name not in known}
    near = get_close_matches(name.rpartition(".")[2], known, 1, cutoff=0.75)
    return f"did you mean {known[near[0]]}?" if near else "remove or rename it"


def _value(hint, value, where: str):
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in options:
        return None
    kinds = [o for o in options if o is not type(None)]
    kind = next((k for k in kinds if type(value) is (typing.get_origin(k) or k)), kinds[0])
    origin = typing.get_origin(kind) or kind
    if is_dataclass(origin):
        return _build(origin, value, where)
    if origin is float and isinstance(value, str):  # YAML 1.1 reads 2e-4 as a string
        try:
            return float(value)
        except ValueError:
            pass
    if origin is float and type(value) is int:
        return float(value)
    if type(value) is not origin:
        do = "write it in quotes" if origin is str and isinstance(value, (int, float)) else "correct the recipe"
        raise UsageError(f"{where}: {value!r}", f"{WORDS[origin]} was expected", do)
    if origin is list:
        (item,) = typing.get_args(kind)
        return [_value(item, v, where) for v in value]
    if origin is dict:
        name, item = typing.get_args(kind)
        return {_value(name, k, where): _value(item, v, f"{where}.{k}") for k, v in value.items()}
    return value
