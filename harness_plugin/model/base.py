"""The base of a judge: which folder or hub id it is, its configuration, its tokenizer, and its network with a head."""

from pathlib import Path

import torch

from harness_plugin.errors import ModelError
from harness_plugin.model.adapter import Adapter
from harness_plugin.model.bare_config import read_bare_config
from harness_plugin.model.embedded import BASE_NAME, base_folder, embedded_base
from harness_plugin.model.embedded_tokenizer import load_embedded_tokenizer
from harness_plugin.model.naming import EMBEDDED
from harness_plugin.model.part_hashes import TOKENIZER_CONFIG
from harness_plugin.model.plain import refuse_marked
from harness_plugin.model.quiet import quiet_transformers


def find_base(name: str) -> tuple[str, str]:
    """(the base's name to show and to store, what transformers loads). The embedded base is converted on first use;
    any other name is a folder or a hub id already."""
    if name in (EMBEDDED, BASE_NAME):
        return BASE_NAME, str(embedded_base())
    return name, name


def base_config(base: str, revision: str | None, whole: bool = False):
    """The base's transformers configuration; that of the embedded base comes without transformers. Raises ModelError
    for a `whole` model (one with its own head) that is no plain sequence classifier."""
    if Path(base) == base_folder():
        return from_hub(base, lambda: read_bare_config(Path(base)))
    from transformers import AutoConfig, PretrainedConfig

    if whole:
        refuse_marked(base, from_hub(base, lambda: PretrainedConfig.get_config_dict(base, revision=revision)[0]))
    return from_hub(base, lambda: AutoConfig.from_pretrained(base, revision=revision))


def local_folder(base: str, revision: str | None) -> Path:
    """The folder in which the files of a base lie: the base itself, or where the hub's files were put on this machine.
    Looks at no network. Raises ModelError for a base from the hub that is not here yet."""
    if Path(base).is_dir():
        return Path(base)
    from transformers.utils import cached_file

    try:
        file = cached_file(base, "config.json", revision=revision, local_files_only=True)
    except OSError as e:
        raise ModelError(
            f"{base!r} is not on this machine",
            "a judge is identified by its files",
            "score something with it once, or download it, or give a local folder",
        ) from e
    return Path(str(file)).parent


def has_tokenizer(adapter: Adapter | None) -> bool:
    """Whether the adapter's folder has a tokenizer of its own, which is then used instead of the base's."""
    return adapter is not None and (adapter.folder / TOKENIZER_CONFIG).is_file()


def load_tokenizer(base: str, adapter: Adapter | None = None, revision: str | None = None, bare: bool = False):
    """The adapter folder's own tokenizer where it has one, else the base's, as transformers loads it. `bare`: only its
    `backend_tokenizer` is used, so the embedded base's comes without transformers."""
    own = adapter.folder if adapter is not None and has_tokenizer(adapter) else None
    place = base if own is None else str(own)
    if bare and Path(place) == base_folder():
        return from_hub(place, lambda: load_embedded_tokenizer(Path(place)))
    from transformers import AutoTokenizer

    with quiet_transformers():
        return from_hub(place, lambda: AutoTokenizer.from_pretrained(place, revision=revision if own is None else None))


def load_base(
    base: str,
    num_labels: int,
    dtype: torch.dtype,
    revision: str | None = None,
    allow_pickle: bool = False,
    quantization=None,
):
    """The base as a sequence classifier with a fresh head of `num_labels` logits; returns (model, missing keys).
    `quantization`: a transformers quantization config, or None."""
    from transformers import AutoModelForSequenceClassification

    def load():
        return AutoModelForSequenceClassification.from_pretrained(
            base,
            num_labels=num_labels,
            dtype=dtype,
            revision=revision,
            output_loading_info=True,
            use_safetensors=None if allow_pickle else True,
            weights_only=True,
            **({} if quantization is None else {"quantization_config": quantization}),
        )

    with quiet_transformers():
        model, info = from_hub(base, load)
    if model.config.get_text_config().pad_token_id is None:
        model.config.get_text_config().pad_token_id = 0
    if getattr(model.config.get_text_config(), "attn_logit_softcapping", None):
        # Up to transformers 5.20 the default attention of Gemma 2 (sdpa) leaves the cap out of the scores.
        model.set_attn_implementation("eager")
    return model, set(info["missing_keys"])


def from_hub(name: str, load):
    """What `load()` returns. Raises ModelError, with the reason in one line, where it cannot load `name`."""
    try:
        return load()
    except MemoryError:
        raise
    except Exception as e:  # whatever these libraries raise about files that others made
        first = f"{type(e).__name__}: {e}".strip().split("\n")[0][:200]
        raise ModelError(
            f"cannot load {name!r} ({first})",
            "no such folder here, and it could not be had from the hub or is not a safetensors model",
            "check the name, the network or a gated model's licence, or give a local folder",
        ) from e
