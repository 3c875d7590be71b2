"""Weights on disk become a reward model ready to score: base, adapter, tokenizer, manifest, dtype, device.

`spec` is what a user asks for, with all defaults, and `naming` what one name of a judge stands for (`several`: that of
a panel or a cascade); `load` makes the reward model of it. `base` finds a base and `embedded` the one from the package
index, which is converted once and checked, from a `gguf_file`, with its `embedded_tokenizer`; `adapter` reads an
adapter's folder and `manifest` its arena_rm.json; `network` puts them together, `merge` folds the adapter in. `plain`
refuses models that are no plain classifier, `kind` says what the logits stand for, `reading` what the judge reads,
`calibration` what turns logits into probabilities, `device` chooses device and dtype. `bare_gemma3` has the parts of
the embedded base that the engine reads and `bare_config` its configuration, both without transformers; `plain_lora`
folds a plain LoRA in without PEFT, `lora_settings` has the settings of an adapter, `served_files` has what the folder
of a judge behind a server says. `part_hashes` is what identifies a judge's weights and settings, `file_hashes`
remembers hashes of files, `fingerprint` tells two bases apart by a sample. `quiet` keeps transformers' reports away.

Knows nothing of pairs' files, batching or lm-eval. Heavy imports (torch, transformers, peft) happen inside functions of
`load`, so that asking for a manifest or a path stays cheap.
"""

from harness_plugin.model.manifest import MANIFEST_FILE, Manifest
from harness_plugin.model.naming import EMBEDDED
from harness_plugin.model.spec import ModelSpec

__all__ = [
    "EMBEDDED",
    "MANIFEST_FILE",
    "Manifest",
    "ModelSpec",
    "RewardModel",
    "load_model",
    "load_renderer",
    "plan_model",
]


def __getattr__(name: str):
    if name in ("RewardModel", "load_model", "load_renderer", "plan_model"):
        from harness_plugin.model import load

        return getattr(load, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
