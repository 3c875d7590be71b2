"""What a PEFT adapter folder holds, checked before anything is loaded from it."""

import re
from dataclasses import dataclass
from pathlib import Path

from harness_plugin.errors import DataError, ModelError
from harness_plugin.files.rows import read_object
from harness_plugin.model.manifest import MANIFEST_FILE, Manifest, read_manifest
from harness_plugin.model.naming import ADAPTER_CONFIG, adapters_in, hub_reason, refuse_file
from harness_plugin.model.plain import CONVERT, VALUE_HEADS

CONFIG, WEIGHTS, PICKLE = ADAPTER_CONFIG, "adapter_model.safetensors", "adapter_model.bin"
PREFIX = "base_model.model."  # PEFT puts it before the names of the base's weights
HEAD_NAMES = ("score", "classifier")
LAST_LAYERS = (".score.weight", ".classifier.weight", ".out_proj.weight")  # of a head; RoBERTa's has a layer before it
IN_MEMORY = re.compile(r"\.(modules_to_save|original_module)\.|\.lora_\w+\.default(\.|$)")  # names PEFT never writes
EMBEDDING = re.compile(
    r"\.(embed_tokens|word_embeddings|wte)(\.(token_adapter|base_layer|modules_to_save|original_module))*\.weight$"
)
SCALES = ("r", "lora_alpha", "use_rslora", "use_dora")  # settings that decide what the same tensors add to the base
HUB_ID = re.compile(r"[\w.-]*\w/[\w.-]+")  # not ./folder or /folder/of/another/machine


@dataclass(frozen=True)
class Adapter:
    """A checked adapter folder. `tensors` maps names to CPU tensors as stored in the file `weights`."""

    folder: Path
    config: dict
    manifest: Manifest
    tensors: dict
    weights: Path

    @property
    def base_name(self) -> str | None:
        """The base that adapter_config.json names."""
        return self.config.get("base_model_name_or_path")

    @property
    def num_labels(self) -> int:
        return int(self._head_item()[1].shape[0])

    def head(self):
        """The linear score as stored, shape (num_labels, hidden); None where the head is another module."""
        name, tensor = self._head_item()
        return tensor if name.endswith(".score.weight") else None

    @property
    def embedding(self):
        """The embedding stored beside the adapter, shape (tokens, hidden), or None. PEFT stores it where it was resized
        or trained."""
        names = [name for name, tensor in self.tensors.items() if is_embedding(name) and tensor.ndim == 2]
        return self.tensors[min(names, key=len)] if names else None  # PEFT may store copies under longer names

    def _head_item(self):
        names = _heads(self.tensors)
        name = next((name for last in LAST_LAYERS for name in names if name.endswith(last)), names[-1])
        return name, self.tensors[name]


def is_embedding(name: str) -> bool:
    """Whether an adapter's tensor is an embedding, not a change to one."""
    return EMBEDDING.search(name) is not None


def _heads(tensors: dict) -> list[str]:
    """The names of the matrices of a trained head; a LoRA on a head is none."""
    heads = [k for k in tensors if any(f".{name}." in k for name in HEAD_NAMES) and ".lora_" not in k]
    return [k for k in heads if k.endswith("weight") and tensors[k].ndim == 2]


def read_adapter(name: str, allow_pickle: bool = False) -> Adapter:
    """The adapter in a folder or on the hub. Raises ModelError for a missing file, a pickle, another kind of task, a
    head that is missing, a LoRA that was never trained, non-finite weights, or a manifest that contradicts them."""
    folder = _folder(name, allow_pickle)
    config = _config(folder / CONFIG)
    if config["peft_type"] != "LORA":
        raise ModelError(
            f"{name}: peft_type {config['peft_type']!r}", "arena-rm scores LoRA adapters only", "use a LoRA adapter"
        )
    if config.get("task_type") not in ("SEQ_CLS", None):  # without a task PEFT stores the head where it is asked to
        raise ModelError(
            f"{name}: task_type {config.get('task_type')!r}",
            "a judge is a sequence classifier, whose task_type is SEQ_CLS",
            _classifier_from(folder, config),
        )
    path, tensors = _tensors(folder, name, allow_pickle)
    _check_tensors(name, tensors)
    adapter = Adapter(folder, config, read_manifest(folder), tensors, path)
    _check_config(adapter)
    if adapter.num_labels not in (1, 3):
        raise ModelError(
            f"{name}: a head of {adapter.num_labels} logits",
            "a judge has one logit (positive: B) or three (A, B, tie)",
            "use such an adapter",
        )
    if adapter.manifest.found and adapter.manifest.num_labels != adapter.num_labels:
        raise ModelError(
            f"{name}: {adapter.num_labels} logits, and {MANIFEST_FILE} says {adapter.manifest.num_labels}",
            "the file is not the one that was saved with these weights",
            "restore it",
        )
    return adapter


def _classifier_from(folder: Path, config: dict) -> str:
    """How to get a sequence classifier from an adapter that says that it is something else."""
    if any((folder / name).is_file() for name in VALUE_HEADS):
        return f"merge it into its base, and {CONVERT}"
    if set(HEAD_NAMES) & set(config.get("modules_to_save") or ()):
        return f"if it was trained as one, with its head, write SEQ_CLS as the task_type into its {CONFIG}"
    return "use an adapter of a sequence classifier"


def _config(path: Path) -> dict:
    """The fields of adapter_config.json, of which those that this package reads have the right types."""
    try:
        config = read_object(path)
        modules, saved = config.get("target_modules"), config.get("modules_to_save")
        types = {
            "peft_type": isinstance(config["peft_type"], str),
            "base_model_name_or_path": isinstance(config.get("base_model_name_or_path"), str | None),
            "r": type(config.get("r", 8)) is int and config.get("r", 8) > 0,
            "lora_alpha": type(config.get("lora_alpha", 8)) in (int, float),
            "lora_dropout": type(config.get("lora_dropout", 0.0)) in (int, float),
            "target_modules": isinstance(modules, str | None) or _are_names(modules),
            "modules_to_save": saved is None or _are_names(saved),
        }
    except (DataError, KeyError) as e:
        reason = f"no field {e}" if isinstance(e, KeyError) else str(e)
        raise ModelError(f"{path} cannot be read ({reason})", "it says what the adapter is", "restore it") from e
    for field, fits in types.items():
        if not fits:
            raise ModelError(f"{path}: {field} is {config[field]!r}", "PEFT writes no such value", "restore the file")
    return config


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _check_config(adapter: Adapter) -> None:
    """Raises ModelError for a rank or scale in adapter_config.json that contradicts the weights or the recipe in the
    manifest: PEFT would load such an adapter as another one, or fail on its shapes."""
    path = adapter.folder / CONFIG
    ranks = {int(v.shape[0]) for k, v in adapter.tensors.items() if k.endswith(".lora_A.weight")}
    rank = adapter.config.get("r", 8)
    if not adapter.config.get("rank_pattern") and ranks and ranks != {rank}:
        raise ModelError(
            f"{path}: r is {rank}, and the matrices of the adapter have rank {', '.join(map(str, sorted(ranks)))}",
            "the file is not the one that was saved with these weights",
            "restore it",
        )
    recipe = adapter.manifest.training.get("recipe")
    lora = recipe.get("lora") if isinstance(recipe, dict) else None
    for field in SCALES:
        if isinstance(lora, dict) and field in lora and adapter.config.get(field, False) != lora[field]:
            raise ModelError(
                f"{path}: {field} is {adapter.config.get(field)!r}, and {MANIFEST_FILE} says that the adapter was "
                f"trained with {lora[field]!r}",
                "with another value the same weights give other scores",
                "restore the file that was changed",
            )


def _folder(name: str, allow_pickle: bool) -> Path:
    refuse_file(name)
    folder = Path(name) if Path(name).is_dir() else _from_hub(name, allow_pickle)
    if not (folder / CONFIG).is_file():
        inside = adapters_in(str(folder))
        other = "name the adapter, or a whole model with pretrained=... (--pretrained)"
        raise ModelError(
            f"{name} holds no {CONFIG}",
            "it is not a PEFT adapter",
            f"name one of the adapters in it: {inside}" if inside else other,
        )
    return folder


def _from_hub(name: str, allow_pickle: bool) -> Path:
    want = [
        CONFIG,
        WEIGHTS,
        *VALUE_HEADS,
        MANIFEST_FILE,
        "tokenizer*",
        "special_tokens_map.json",
        "chat_template.jinja",
        *([PICKLE] if allow_pickle else []),
    ]
    return from_hub(name, want, "adapter folder", "an adapter is a folder or a hub id")


def from_hub(name: str, patterns: list[str], what: str, why: str) -> Path:
    """The folder of a hub id's files that have one of the patterns. Raises ModelError, which says that no `what` of the
    name is here, and `why` it is needed."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except (OSError, ValueError, HFValidationError) as e:
        raise ModelError(
            f"no {what} {name!r} here, and the hub did not give it ({hub_reason(e)})",
            why,
            "check the name or the network",
        ) from e


def _tensors(folder: Path, name: str, allow_pickle: bool) -> tuple[Path, dict]:
    from pickle import UnpicklingError

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    safe, pickle = folder / WEIGHTS, folder / PICKLE
    try:
        if safe.is_file():
            return safe, load_file(safe)
        if pickle.is_file() and allow_pickle:
            found = torch.load(pickle, map_location="cpu", weights_only=True)
            if not isinstance(found, dict) or not all(isinstance(v, torch.Tensor) for v in found.values()):
                raise ValueError("it holds something else than tensors by name")
            return pickle, found
    except UnpicklingError as e:
        raise ModelError(
            f"{name}: {PICKLE} holds more than weights", "it was not read, since that could run code", "do not use it"
        ) from e
    except (OSError, SafetensorError, RuntimeError, EOFError, ValueError, ImportError) as e:
        raise ModelError(f"{name}: the weights cannot be read ({e})", "the file is damaged", "get it again") from e
    if pickle.is_file():
        raise ModelError(
            f"{name} holds a pickle ({PICKLE})",
            "unpickling can run code",
            "convert it to safetensors, or say allow_pickle=true to read it with weights_only",
        )
    raise ModelError(
        f"{name} holds no {WEIGHTS}",
        "there are no weights to load",
        f"name a complete adapter folder; if it has only {PICKLE}, say allow_pickle=true",
    )


def _check_tensors(name: str, tensors: dict) -> None:
    broken = [k for k, v in tensors.items() if not v.isfinite().all()]
    if broken:
        raise ModelError(
            f"{name}: NaN or infinity in {', '.join(broken[:3])}", "every score would be NaN", "train it again"
        )
    foreign = [k for k in tensors if not k.startswith(PREFIX) or (IN_MEMORY.search(k) and not is_embedding(k))]
    if foreign:
        raise ModelError(
            f"{name}: {len(foreign)} tensors do not have the names under which PEFT stores an adapter, such as "
            f"{min(foreign)}",
            "PEFT would not put them into the layers that were trained",
            "save the adapter again with save_pretrained of its PeftModel",
        )
    heads = _heads(tensors)
    if not heads:
        raise ModelError(
            f"{name}: no trained head (score or classifier) among its {len(tensors)} tensors",
            "a head drawn at random would make the scores noise",
            "train with modules_to_save=[classifier, score]",
        )
    grown = [v for k, v in tensors.items() if ".lora_B." in k or "lora_embedding_B" in k]
    if grown and not any(v.any() for v in grown):
        raise ModelError(f"{name}: every lora_B is zero", "the adapter was never trained", "train it first")
    if not any(tensors[k].any() for k in heads):
        raise ModelError(f"{name}: the head is all zeros", "every pair would score 0", "train it first")


def check_base(adapter: Adapter, name: str, base_print: str | None) -> None:
    """Refuses a base that is known to be another than the adapter's: by fingerprint where both are known, else by name
    where both are hub ids. What cannot be told apart so is let through to the check of shapes."""
    known, trained_on = adapter.manifest.base_fingerprint, adapter.manifest.base or adapter.base_name
    if known and base_print:
        same = known == base_print
    elif known and not Path(name).is_dir():
        same = name.lower() == str(adapter.manifest.base).lower()
    else:
        ids = [n.rstrip("/").lower() for n in (name, adapter.base_name or "")]
        same = ids[0] == ids[1] or Path(name).is_dir() or not all(HUB_ID.fullmatch(n) for n in ids)
    if same:
        return
    found = f"base {name!r} but the adapter was trained on {trained_on!r}"
    if known and base_print and name == trained_on:
        found = f"the weights of base {name!r} are not those that the adapter was trained on ({base_print} instead of "
        raise ModelError(
            found + f"{known} in {MANIFEST_FILE})",
            "on another base its scores mean nothing",
            "get the weights of that base again as they were",
        )
    if adapter.manifest.base and adapter.base_name != trained_on:
        found += f" (so says {MANIFEST_FILE}; {CONFIG} names {adapter.base_name!r})"
    elsewhere = "" if name == adapter.base_name else " or leave pretrained out"
    if not known:  # the names alone were compared
        elsewhere += f", or if {name!r} is a copy of that base, give its folder on this machine"
    raise ModelError(found, "on another base its scores mean nothing", f"use pretrained={trained_on}{elsewhere}")
