"""The adapter from whose LoRA and head a run starts, if its recipe names one. This module knows no pairs."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from harness_plugin.errors import ModelError, UsageError
from harness_plugin.model import EMBEDDED
from harness_plugin.model.adapter import SCALES, Adapter, check_base, read_adapter
from harness_plugin.model.embedded import embedded_adapter
from harness_plugin.model.file_hashes import file_sha256
from harness_plugin.model.fingerprint import fingerprint
from harness_plugin.train.config import TrainConfig

PATTERNS = ("rank_pattern", "alpha_pattern")  # settings by which modules differ, for which a recipe has no field
OTHER_START = "the run would not start with the scores of that adapter"


def read_init(config: TrainConfig, base: str) -> Adapter | None:
    """The adapter that the recipe's `init` names; None if it names none. `base` is what transformers loads.

    Raises ModelError for a folder that holds no complete adapter, and UsageError for an adapter that was trained on
    another base than `base` or with other settings of LoRA.
    """
    if config.init is None:
        return None
    adapter = read_adapter(str(embedded_adapter()) if config.init == EMBEDDED else config.init)
    try:
        check_base(adapter, base, fingerprint(base))
    except ModelError as e:
        raise UsageError(
            f"init: {config.init} was trained on {adapter.base_name!r}, and the recipe's base is {config.base!r}",
            "on another base the weights of an adapter mean nothing",
            "set base to the one that it was trained on, or name another adapter",
        ) from e
    if adapter.manifest.found and adapter.manifest.kind != config.kind:
        raise UsageError(
            f"init: {config.init} is of kind {adapter.manifest.kind}, and the recipe's kind is {config.kind}",
            OTHER_START,
            f"set kind to {adapter.manifest.kind}, or name another adapter",
        )
    if adapter.manifest.found and config.chat_template not in (None, adapter.manifest.template):
        raise UsageError(
            f"init: {config.init} reads its texts in another chat_template than the recipe's",
            OTHER_START,
            "leave chat_template out of the recipe, or set it to null; then it is the adapter's",
        )
    for name in SCALES:
        stored, wanted = adapter.config.get(name, False), getattr(config.lora, name)
        if stored != wanted:
            raise UsageError(
                f"init: {config.init} has {name} {stored!r}, and the recipe's lora.{name} is {wanted!r}",
                OTHER_START,
                f"set lora.{name} to {stored!r}",
            )
    for name in PATTERNS:
        if adapter.config.get(name):
            raise UsageError(
                f"init: {config.init} has a {name}",
                "a recipe has one rank and one alpha for all modules",
                "name an adapter whose modules have the same rank and the same alpha",
            )
    return adapter


def init_name(config: TrainConfig) -> str | None:
    """The recipe's `init` as the manifest names it: of a folder only the last part, because the manifest is published
    and the path says something about the machine."""
    if config.init is None or config.init == EMBEDDED or not Path(config.init).is_dir():
        return config.init
    return Path(config.init).resolve().name


def init_facts(config: TrainConfig, adapter: Adapter) -> dict:
    """What the manifest says of the adapter: its name, the SHA-256 of its weights' file, the data files that it was
    trained on, and under `init` the same of the adapter that it started from itself."""
    training = adapter.manifest.training
    facts = {"name": init_name(config), "sha256": file_sha256(adapter.weights), "files": training.get("files") or []}
    return facts | ({"init": training["init"]} if training.get("init") else {})


def earlier_adapters(training: Mapping) -> Iterator[Mapping]:
    """The facts of the adapter that a run started from, of the one that this one started from, and so on. `training`:
    that field of the manifest."""
    while training := training.get("init") or {}:
        yield training


def start_from(network, adapter: Adapter, name: str) -> None:
    """Copies the adapter's tensors into the network. Raises UsageError if their names or shapes are not the
    network's; `name` is the adapter's in the error."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    fresh = get_peft_model_state_dict(network, save_embedding_layers=False)
    differ = sorted(set(fresh) ^ set(adapter.tensors))
    if differ:
        problem = "the adapter lacks" if differ[0] in fresh else "the recipe has no place for"
        raise UsageError(
            f"init: {name}: {problem} {differ[0]} ({len(differ)} tensors differ)",
            OTHER_START,
            "set lora.target_modules, layers_to_transform and modules_to_save to those of that adapter",
        )
    for key in sorted(fresh):
        stored, wanted = tuple(adapter.tensors[key].shape), tuple(fresh[key].shape)
        if stored != wanted:
            raise UsageError(
                f"init: {name}: {key} has the shape {stored}, and the recipe's network needs {wanted}",
                "the adapter was trained on a base of another size or with another num_labels",
                "set base and num_labels to those of that adapter",
            )
    set_peft_model_state_dict(network, adapter.tensors)
