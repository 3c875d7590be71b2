"""Weights on disk become a reward model ready to score: base, adapter, tokenizer, manifest, dtype, device.

Knows nothing of pairs' files, batching or lm-eval. Heavy imports (torch, transformers, peft) happen inside functions of
`load`, so that asking for a manifest or a path stays cheap.
"""

from harness_plugin.model.manifest import MANIFEST_FILE, Manifest
from harness_plugin.model.spec import EMBEDDED, ModelSpec

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
