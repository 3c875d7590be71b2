"""The settings of an adapter, which are a part of what identifies a judge.

Those of a plain LoRA are read from its file: PEFT, whose import takes two seconds, is asked about all others only. An
adapter is plain if its configuration says no more than a rank, a scale and the names of linear layers.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness_plugin.errors import ModelError
from harness_plugin.files.rows import read_object
from harness_plugin.model.naming import ADAPTER_CONFIG
from harness_plugin.model.part_hashes import KINDS, NAMES, STAMPS, settings

# What a plain LoRA has, with PEFT's defaults: all of it belongs to the settings that identify a judge.
PLAIN = {
    "r": 8,
    "lora_alpha": 8,
    "lora_dropout": 0.0,
    "target_modules": None,
    "modules_to_save": None,
    "task_type": None,
}
# Every other field of PEFT's LoraConfig, with the value that changes nothing.
UNUSED: dict[str, Any] = {
    "alora_invocation_tokens": None,
    "alpha_pattern": {},
    "arrow_config": None,
    "bias": "none",
    "corda_config": None,
    "ensure_weight_tying": False,
    "eva_config": None,
    "exclude_modules": None,
    "fan_in_fan_out": False,
    "init_lora_weights": True,
    "kasa_config": None,
    "layer_replication": None,
    "layers_pattern": None,
    "layers_to_transform": None,
    "loftq_config": {},
    "lora_bias": False,
    "lora_ga_config": None,
    "megatron_config": None,
    "megatron_core": "megatron.core",
    "monteclora_config": None,
    "qalora_group_size": 16,
    "rank_pattern": {},
    "target_parameters": None,
    "trainable_token_indices": None,
    "use_bdlora": None,
    "use_dora": False,
    "use_qalora": False,
    "use_rslora": False,
    "velora_config": None,
}


def adapter_settings(folder: Path) -> dict[str, Any]:
    """The settings of the PEFT configuration in an adapter's folder: each field that differs from PEFT's default,
    without names, places and stamps (`part_hashes.settings`). Raises ModelError where PEFT cannot read it."""
    plain = plain_settings(read_object(folder / ADAPTER_CONFIG))
    if plain is not None:
        return plain
    from peft import PeftConfig

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about fields that this PEFT does not know; loading the adapter says it
        try:
            return settings(PeftConfig.from_pretrained(str(folder)))
        except Exception as e:  # whatever PEFT raises about fields that it did not write
            raise ModelError(
                f"{folder}: PEFT cannot read the adapter's configuration ({type(e).__name__}: {e})",
                "it says what the adapter is",
                "restore the file",
            ) from e


def plain_settings(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The settings of a plain LoRA from the fields of its adapter_config.json, as `part_hashes.settings` gives them for
    PEFT's own configuration; None for any other adapter."""
    fields = {name: value for name, value in config.items() if name not in NAMES | STAMPS | KINDS}
    others = {name: value for name, value in fields.items() if name not in PLAIN}
    if config.get("peft_type") != "LORA" or not isinstance(fields.get("target_modules"), list):
        return None
    if any(name not in UNUSED or value != UNUSED[name] for name, value in others.items()):
        return None
    chosen = {name: fields[name] for name in PLAIN if name in fields and fields[name] != PLAIN[name]}
    return chosen | {"peft_type": "LORA", "target_modules": sorted({*map(str, fields["target_modules"])})}
