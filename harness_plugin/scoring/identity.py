"""Who a judge is: everything that decides its scores, and short hashes of it."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version

from harness_plugin import __version__

COMPUTES = ("torch", "transformers", "peft")
NAMES = {"_name_or_path", "base_model_name_or_path", "revision", "transformers_version", "peft_version"}


def judge_identity(model, order: str) -> dict:
    """Everything that decides a score: the model's own identity, the order and the calibration in use."""
    c = model.calibration
    return {**model.identity, "order": order, "temperature": c.temperature, "tie_nu": c.tie_nu}


def identity_hash(identity: dict) -> str:
    """A short hash of what decides a score; names do not count where the weights themselves are identified."""
    known = {"base": "base_fingerprint", "adapter": "adapter_sha256"}
    identity = {k: v for k, v in identity.items() if not identity.get(known.get(k, ""))}
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


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
    known = {k: v for k, v in config.to_dict().items() if k not in NAMES}
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
