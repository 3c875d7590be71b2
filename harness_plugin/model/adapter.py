"""What a PEFT adapter folder holds, checked before anything is loaded from it."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from harness_plugin.errors import ModelError
from harness_plugin.model.manifest import MANIFEST_FILE, Manifest, read_manifest

CONFIG, WEIGHTS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
HEAD_NAMES = ("score", "classifier")
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
        return self.config.get("base_model_name_or_path")

    @property
    def num_labels(self) -> int:
        return int(self._head_item()[1].shape[0])

    def head(self):
        """The linear score as stored, shape (num_labels, hidden); None where the head is another module."""
        name, tensor = self._head_item()
        return tensor if name.endswith("score.weight") and tensor.ndim == 2 else None

    def _head_item(self):
        return next((k, v) for k, v in self.tensors.items() if _is_head(k) and k.endswith("weight"))


def _is_head(key: str) -> bool:
    return any(f".{name}." in key for name in HEAD_NAMES)


def read_adapter(name: str, allow_pickle: bool = False) -> Adapter:
    """The adapter in a folder or on the hub. Raises ModelError for a missing file, a pickle, another kind of task, a
    head that is missing, a LoRA that was never trained, non-finite weights, or a manifest that contradicts them."""
    folder = _folder(name, allow_pickle)
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        kind = config["peft_type"], config.get("task_type")
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise ModelError(f"{folder / CONFIG} cannot be read ({e})", "it says what the adapter is", "restore it") from e
    if kind[0] != "LORA":
        raise ModelError(f"{name}: peft_type {kind[0]!r}", "only LoRA is scored faithfully here", "use a LoRA adapter")
    if kind[1] != "SEQ_CLS":
        raise ModelError(
            f"{name}: task_type {kind[1]!r}", "a reward adapter is SEQ_CLS", "use an adapter trained for it"
        )
    path, tensors = _tensors(folder, name, allow_pickle)
    _check_tensors(name, tensors)
    adapter = Adapter(folder, config, read_manifest(folder), tensors, path)
    if adapter.num_labels not in (1, 3) or (
        adapter.manifest.found and adapter.manifest.num_labels != adapter.num_labels
    ):
        raise ModelError(
            f"{name}: a head of {adapter.num_labels} logits (manifest: {adapter.manifest.num_labels})",
            "a judge has one logit (positive: B) or three (A, B, tie)",
            "use such an adapter",
        )
    return adapter


def _folder(name: str, allow_pickle: bool) -> Path:
    if Path(name).is_dir():
        if not (Path(name) / CONFIG).is_file():
            raise ModelError(f"{name} holds no {CONFIG}", "it is not a PEFT adapter", "name the adapter's folder")
        return Path(name)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    want = [
        CONFIG,
        WEIGHTS,
        MANIFEST_FILE,
        "tokenizer*",
        "special_tokens_map.json",
        *([PICKLE] if allow_pickle else []),
    ]
    try:
        return Path(snapshot_download(name, allow_patterns=want))
    except (OSError, ValueError, HFValidationError) as e:
        raise ModelError(
            f"no adapter folder {name!r} here, and the hub did not give it ({type(e).__name__})",
            "an adapter is a folder or a hub id",
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
            f"{name}: NaN or infinity in {', '.join(broken[:3])}", "no score could come of it", "retrain it"
        )
    heads = [k for k in tensors if _is_head(k) and k.endswith("weight")]
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
    known = adapter.manifest.base_fingerprint
    if known and base_print:
        same = known == base_print
    elif known and not Path(name).is_dir():
        same = name.lower() == str(adapter.manifest.base).lower()
    else:
        ids = [n.rstrip("/").lower() for n in (name, adapter.base_name or "")]
        same = ids[0] == ids[1] or Path(name).is_dir() or not all(HUB_ID.fullmatch(n) for n in ids)
    if not same:
        raise ModelError(
            f"base {name!r} but the adapter was trained on {adapter.base_name!r}",
            "on another base its scores mean nothing",
            f"use pretrained={adapter.base_name} or leave pretrained out",
        )
