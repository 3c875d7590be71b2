"""Who a judge is: the parts that decide its scores, in which of them two judges differ, and a short hash of them.

An identity is a flat dict that JSON can hold. It stands in leaderboards, in lm-eval's results and at the head of
journals.
"""

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from harness_plugin import __version__
from harness_plugin.errors import UsageError
from harness_plugin.model.calibration import Calibration
from harness_plugin.scoring.surface import surface_model

COMPUTES = ("torch", "transformers", "peft")
_BASE = ("base_sha256", "base_fingerprint")
NAMES = {"base": _BASE, "revision": _BASE, "adapter": ("adapter_sha256",)}  # each with the hashes that replace it
BESIDE = {"hash", "judge", "presentations", "cut"}
MEANINGS = {
    "kind": "what kind of judge it is",
    "num_labels": "how many logits its head gives",
    "base_sha256": "all weights of the base",
    "base_config": "the base's configuration, such as its sliding window",
    "tokenizer": "how a text becomes tokens: vocabulary, rules, special and added tokens",
    "adapter": "which adapter, where no hash says it: a whole model has none",
    "adapter_sha256": "all weights of the adapter, with its head",
    "adapter_config": "the adapter's configuration, such as lora_alpha",
    "prompt_version": "how a pair becomes tokens",
    "template": "the text around prompt and responses",
    "max_length": "tokens of one presentation at most",
    "truncation": "how longer texts are cut",
    "dtype": "the numbers it computes with",
    "merge": "whether the adapter is folded into the base",
    "deterministic": "whether each presentation is scored alone",
    "order": "the orders in which a pair is presented",
    "temperature": "what logits are divided by",
    "tie_nu": "the tie mass",
    "length_worth": "what is taken off for length, 0 without length_control",
    "surface_worth": "what is added for each unit of the surface's log odds",
    "surface_weights": "the weights of the surface's features, where they count",
}
MEANINGS_OF_SERVED = {
    "server": "the software that serves it, which decides how its logits are read",
    "served_model": "the name of the model on the server",
    "answering_model": "the name that the server gives to the model that answers, where it is another one",
    "judge_prompt": "the text around a pair that a chat model reads",
    "parameters": "the parameters of a request to a chat model",
    "reads": "whether log probabilities or only letters are read",
    "reading": "the rules by which an answer is read",
}
LOGIT_PARTS = ("kind", "num_labels", "base_sha256", "base_config", "adapter_sha256", "adapter_config", "dtype", "merge")


def judge_identity(model, order: str) -> dict:
    """The identity of a loaded model that scores in this order: its own (`RewardModel.identity`), with the order and
    the calibration in use."""
    return {**model.identity, "order": order, **calibration_identity(model.calibration)}


def calibration_identity(calibration: Calibration) -> dict[str, Any]:
    """What a calibration decides of a verdict. The surface is named only where it counts, so that a judge without it
    keeps the hash that it had before there was such a number."""
    c = calibration
    numbers = {"temperature": c.temperature, "tie_nu": c.tie_nu, "length_worth": c.length_worth}
    if not c.surface_worth:
        return numbers
    weights = json.dumps(surface_model().weights, sort_keys=True).encode()
    return numbers | {
        "surface_worth": c.surface_worth,
        "surface_weights": hashlib.sha256(weights).hexdigest()[:16],
    }


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
    """The names of the parts in which two identities differ; a part that one of them does not have is not compared,
    but for the worth of the surface, which is 0 where it is not named."""
    mine, theirs = ({"surface_worth": 0.0, **parts(identity)} for identity in (one, other))
    return [name for name in mine if name in theirs and mine[name] != theirs[name]]


def identity_hash(identity: Mapping[str, Any]) -> str:
    """A short hash of `parts`: 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(parts(identity), sort_keys=True).encode()).hexdigest()[:16]


def logit_identity(model, engine=None) -> dict[str, Any]:
    """Everything that decides a logit of given token ids, for the store of scores: the parts of the judge's identity
    that do (LOGIT_PARTS), and what computes with them, since an upgrade may move logits: device, versions of libraries
    and `engine.identity`, the engine's own arithmetic. Names, order, calibration, tokenizer and truncation are left
    out: they do not change what given ids score.

    It identifies a model as `load_model` made it. Whoever changes a network in memory must not use a store with it."""
    return {name: model.identity[name] for name in LOGIT_PARTS} | {
        "device": model.device.type,
        "engine": getattr(engine, "identity", None),
        "versions": {"arena-rm": __version__, **{name: version(name) for name in COMPUTES}},
    }


class Distinct:
    """Judges by the hashes of their identities, to notice one that is named in two ways."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def add(self, name: str, judge: str | None) -> None:
        """Raises UsageError for the hash of a judge that has been added under another name. None: nobody knows who
        judged."""
        other = name if judge is None else self._names.setdefault(judge, name)
        if other != name:
            raise UsageError(
                f"{other} and {name} are the same judge",
                "its vote would count twice, it cannot hand on to itself, and it does not differ from itself",
                "name different judges",
            )
