"""Who a judge is: the parts that decide its scores, in which of them two judges differ, and a short hash of them.

An identity is a flat dict that JSON can hold. It stands in leaderboards, in lm-eval's results and at the head of
journals.
"""

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any

from harness_plugin import __version__

COMPUTES = ("torch", "transformers", "peft")
_BASE = ("base_sha256", "base_fingerprint")
NAMES = {"base": _BASE, "revision": _BASE, "adapter": ("adapter_sha256",)}  # each with the hashes that replace it
BESIDE = {"hash", "judge", "presentations", "cut"}
UNSTABLE = {"_name_or_path", "base_model_name_or_path", "revision", "transformers_version", "peft_version"}


def judge_identity(model, order: str) -> dict:
    """The identity of a loaded model that scores in this order: its own (`RewardModel.identity`), with the order and
    the calibration in use."""
    c = model.calibration
    return {**model.identity, "order": order, "temperature": c.temperature, "tie_nu": c.tie_nu}


def parts(identity: Mapping[str, Any]) -> dict[str, Any]:
    """What counts of an identity. This is the one definition of "the same judge".

    Everything in an identity decides a score and counts, with two exceptions. Names (`base`, `revision`, `adapter`) do
    not count where a hash says which weights are behind them: a judge is the same in another folder. And what a file
    writes beside the parts (BESIDE) is no part. Two judges are the same if no part that both identities have differs;
    identities that older versions stored have fewer parts.
    """
    return {
        name: value
        for name, value in identity.items()
        if name not in BESIDE
        and not any(identity.get(by) for by in NAMES.get(name, ()))
        and (name, value) != ("base_fingerprint", None)  # older versions wrote this for a base from the hub
    }


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The names of the parts in which two identities differ; a part that one of them does not have is not compared."""
    mine, theirs = parts(one), parts(other)
    return [name for name in mine if name in theirs and mine[name] != theirs[name]]


def same_judge(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two identities are of the same judge, as `parts` defines it."""
    return not differences(one, other)


def identity_hash(identity: Mapping[str, Any]) -> str:
    """A short hash of `parts`: 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(parts(identity), sort_keys=True).encode()).hexdigest()[:16]


def logit_identity(model, engine=None) -> dict:
    """Everything that decides a logit of given token ids, JSON-able, for a cache: the weights and settings as they are
    in memory, so that no name, path or revision has to be trusted; what computes with them, since an upgrade may move
    logits; and `engine.identity`, where an engine has arithmetic of its own (a reduced format). Order, calibration and
    truncation are not here: they do not change what given ids score. 500 MB of weights take 0.5 s of CPU."""
    network = model.network
    adapters = getattr(network, "peft_config", None) or {}
    return {
        "weights": _weights_digest(model),
        "config": _settings(network.config),
        "adapters": {name: _settings(config) for name, config in adapters.items()},
        **{k: model.identity.get(k) for k in ("merge", "prompt_version", "base_fingerprint", "adapter_sha256")},
        "dtype": str(model.dtype),
        "device": model.device.type,
        "num_labels": model.num_labels,
        "engine": getattr(engine, "identity", None),
        "versions": {"arena-rm": __version__, **{name: version(name) for name in COMPUTES}},
    }


def _settings(config) -> dict:
    """A transformers or PEFT configuration without its names, JSON-able: unlike weights, settings such as lora_alpha
    or a sliding window stand nowhere else."""
    known = {k: v for k, v in config.to_dict().items() if k not in UNSTABLE}
    return json.loads(json.dumps(known, default=lambda v: sorted(map(str, v)) if isinstance(v, set) else str(v)))


def _weights_digest(model) -> str:
    """SHA-256 over every stored tensor's name, dtype, shape and bytes, the fp32 head included; PEFT's unused copy of
    the head, drawn at random on each load, is not."""
    unused = ".original_module." if hasattr(model.network, "peft_config") else "\0"
    tensors = {k: v for k, v in model.network.state_dict().items() if unused not in k}
    tensors |= {} if model.head is None else {"head": model.head}
    with ThreadPoolExecutor(4) as pool:
        digests = pool.map(_tensor_digest, tensors.values())
    named = [[name, str(t.dtype), list(t.shape), d] for (name, t), d in zip(tensors.items(), digests, strict=True)]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()


def _tensor_digest(tensor) -> str:
    flat = tensor.detach().cpu().contiguous().flatten()
    return hashlib.sha256(flat.view(flat[:0].byte().dtype).numpy()).hexdigest()  # as bytes: numpy knows no bfloat16
