"""What kind of judge some weights are: what their logits stand for, and whether they read one response or two."""

import re
from pathlib import Path
from typing import Any

from harness_plugin.errors import DataError, ModelError
from harness_plugin.files.rows import read_object
from harness_plugin.model.adapter import Adapter
from harness_plugin.model.base import CHAT_TEMPLATE
from harness_plugin.model.manifest import Manifest
from harness_plugin.model.part_hashes import TOKENIZER_CONFIG
from harness_plugin.model.spec import PAIR, POINTWISE

CLASSES = ("a", "b", "tie")  # of a head of three logits, in the order of everything that is computed from them
# Words that may stand around a class in `id2label`, such as winner_model_a, "Response B is better", TIE.
AROUND = {"winner", "wins", "win", "model", "response", "answer", "assistant", "is", "better", "preferred", "label"}
CARD = {  # settings of the reference card's adapter
    "r": 16,
    "lora_alpha": 32,
    "lora_dropout": 0.1,
    "target_modules": {"q_proj", "k_proj", "v_proj", "o_proj"},
    "modules_to_save": {"classifier", "score"},
}


def judge_kind(name: str, said: str | None, num_labels: int, manifest: Manifest, adapter: Adapter | None) -> str:
    """PAIR or POINTWISE: what the weights read. `said`: what the user says of them.

    A head of one logit looks the same in a judge of pairs and in a pointwise reward model, whose logit says how good
    one response is. So the kind is what the manifest says, else what the user says; an adapter with all settings of the
    reference card and no chat template is a judge of pairs. Raises ModelError where nobody says it, and where two say
    different things.
    """
    if manifest.found:
        if said not in (None, manifest.kind):
            raise ModelError(
                f"kind={said}, and the arena_rm.json of {name} says {manifest.kind}",
                "a judge of the one kind gives meaningless scores if it is read as the other",
                f"leave kind out, or say kind={manifest.kind} (--kind {manifest.kind})",
            )
        return manifest.kind
    if num_labels != 1:
        if said == POINTWISE:
            raise ModelError(
                f"kind=pointwise, and {name} has {num_labels} logits",
                "a pointwise reward model has one logit for one response",
                "use a model with one logit, or leave kind out if the three logits are A, B and a tie",
            )
        return PAIR
    if said is not None:
        return said
    unlike = [] if adapter is None else unlike_card(adapter)
    if adapter is not None and not unlike:
        return PAIR
    detail = f", and its settings are not the reference card's ({', '.join(unlike)})" if unlike else ""
    raise ModelError(
        f"{name} has one logit and no arena_rm.json{detail}",
        "it may be a pointwise reward model, whose logit says how good one response is, or a judge of pairs, which "
        "reads two responses in the card's text",
        "say which it is: kind=pointwise (--kind pointwise) or kind=pair (--kind pair)",
    )


def unlike_card(adapter: Adapter) -> list[str]:
    """The adapter's settings that differ from the reference card's, as "r is 8 instead of 16", and a chat template: TRL
    saves it with every reward model that it trained on conversations, and the card's rank and scale are its defaults.
    """
    unlike = []
    for name, wanted in CARD.items():
        value = adapter.config.get(name)
        same = set(value) == wanted if isinstance(wanted, set) and isinstance(value, list) else value == wanted
        if not same:
            given, card = (sorted(v) if isinstance(v, set | list) else v for v in (value, wanted))
            unlike.append(f"{name} is {given} instead of {card}")
    return [*unlike, "its tokenizer has a chat template"] if _has_chat_template(adapter.folder) else unlike


def _has_chat_template(folder: Path) -> bool:
    """Whether a tokenizer with a chat template lies in an adapter's folder."""
    config = folder / TOKENIZER_CONFIG
    try:
        named = config.is_file() and bool(read_object(config).get("chat_template"))
    except DataError:  # loading the tokenizer says what is wrong with the file
        named = False
    return named or (folder / CHAT_TEMPLATE).is_file()


def class_order(name: str, num_labels: int, config: Any, manifest: Manifest, adapter: Adapter | None) -> list[int]:
    """The positions of A, B and tie among the logits of a head of three, by the configuration's `id2label`; [0] for a
    head of one.

    An adapter stores no names of classes. With a manifest its classes are CLASSES, since this package trained it; else
    its base's names count if the base has three, and CLASSES if it does not. LABEL_0, LABEL_1, LABEL_2 are no names:
    transformers writes them where nobody gave any. Raises ModelError for other names.
    """
    if num_labels == 1:
        return [0]
    usual = list(range(len(CLASSES)))
    names = getattr(config, "id2label", None) or {}
    if adapter is not None and (manifest.found or len(names) != len(CLASSES)):
        return usual
    labels = [str(names.get(i)) for i in usual]
    if labels == [f"LABEL_{i}" for i in usual]:
        return usual
    meant = [_class_named(label) for label in labels]
    if sorted(meant) != sorted(CLASSES):
        raise ModelError(
            f"{name}: the classes of its three logits are {', '.join(map(repr, labels))} (id2label in config.json)",
            "a judge's classes are A, B and a tie",
            "use a judge of pairs, or correct id2label, for example to winner_model_a, winner_model_b, winner_tie",
        )
    return [meant.index(wanted) for wanted in CLASSES]


def _class_named(label: str) -> str:
    """The class that a label names, in lower case; any other label gives something that is no class."""
    words = [word for word in re.split(r"[^a-z0-9]+", label.lower()) if word and word not in AROUND]
    return "tie" if words in (["tie"], ["tied"], ["draw"]) else " ".join(words)
