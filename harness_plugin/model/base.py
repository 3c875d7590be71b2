"""The base of a judge: which folder or hub id it is, its configuration, its tokenizer, and its network with a head."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from harness_plugin.errors import ModelError
from harness_plugin.model.adapter import HEAD_NAMES, Adapter
from harness_plugin.model.bare_config import read_bare_config
from harness_plugin.model.embedded import BASE_NAME, base_folder, embedded_base
from harness_plugin.model.embedded_tokenizer import load_embedded_tokenizer
from harness_plugin.model.naming import ADAPTER_CONFIG, EMBEDDED, is_path, refuse_file
from harness_plugin.model.part_hashes import TOKENIZER_CONFIG, TOKENIZER_FILES
from harness_plugin.model.plain import refuse_marked
from harness_plugin.model.quiet import quiet_transformers

CHAT_TEMPLATE = "chat_template.jinja"
NO_CODE = {"trust_remote_code": False}  # without it, transformers asks on the terminal whether to run a folder's code


def find_base(name: str) -> tuple[str, str]:
    """(the base's name to show and to store, what transformers loads). The embedded base is converted on first use;
    any other name is a folder or a hub id already. Raises ModelError for the name of a file, and for the folder of an
    adapter, of which transformers would load the base that it names."""
    if name in (EMBEDDED, BASE_NAME):
        return BASE_NAME, str(embedded_base())
    refuse_file(name)
    if (Path(name) / ADAPTER_CONFIG).is_file():
        raise ModelError(
            f"{name} holds an adapter ({ADAPTER_CONFIG})",
            "a base or a whole model is named with pretrained",
            "name the adapter with peft=... (--peft), or take that file out of the folder of a whole model",
        )
    return name, name


def base_of(adapter: Adapter | None, asked: str | None) -> tuple[str, str]:
    """As `find_base`, of the base that the user `asked` for, else of the one that the adapter names. Raises ModelError
    for an adapter that names none, or a folder of another machine."""
    name = asked or (adapter.base_name if adapter else None)
    if not name:
        raise ModelError(
            f"{adapter.folder if adapter else 'the adapter'} names no base model",
            "an adapter needs its base",
            "add pretrained=...",
        )
    if not asked and is_path(name) and not Path(name).exists():
        raise ModelError(
            f"{adapter.folder if adapter else 'the adapter'} names the base {name!r}, and no such folder is here",
            "an adapter needs its base",
            "say where it is with pretrained=..., a folder or a hub id",
        )
    return find_base(name)


def base_config(base: str, revision: str | None, whole: bool = False):
    """The base's transformers configuration; that of the embedded base comes without transformers. Raises ModelError
    for a `whole` model (one with its own head) that is no plain sequence classifier."""
    if Path(base) == base_folder():
        return from_hub(base, lambda: read_bare_config(Path(base)))
    from transformers import AutoConfig, PretrainedConfig

    if whole:
        refuse_marked(base, from_hub(base, lambda: PretrainedConfig.get_config_dict(base, revision=revision)[0]))
    return from_hub(base, lambda: AutoConfig.from_pretrained(base, revision=revision, **NO_CODE))


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


def tokenizer_files(adapter: Adapter) -> list[Path]:
    """The files of the adapter's own tokenizer (`has_tokenizer`), with its chat template."""
    names = (TOKENIZER_CONFIG, *TOKENIZER_FILES, CHAT_TEMPLATE)
    return [adapter.folder / name for name in names if (adapter.folder / name).is_file()]


def load_tokenizer(base: str, adapter: Adapter | None = None, revision: str | None = None, bare: bool = False):
    """The adapter folder's own tokenizer where it has one, else the base's, as transformers loads it. `bare`: only its
    `backend_tokenizer` is used, so the embedded base's comes without transformers. Raises ModelError where there is
    none."""
    own = adapter.folder if adapter is not None and has_tokenizer(adapter) else None
    place = base if own is None else str(own)
    if bare and Path(place) == base_folder():
        return from_hub(place, lambda: load_embedded_tokenizer(Path(place)))
    from transformers import AutoTokenizer

    with quiet_transformers():
        chosen = revision if own is None else None
        tokenizer = from_hub(place, lambda: AutoTokenizer.from_pretrained(place, revision=chosen, **NO_CODE))
    backend = getattr(tokenizer, "backend_tokenizer", None)
    # Where there is no file of a vocabulary, transformers makes a tokenizer of special tokens alone.
    if backend is not None and backend.get_vocab_size(with_added_tokens=False) <= len(tokenizer.all_special_tokens):
        raise ModelError(
            f"{place} has no vocabulary of a tokenizer",
            "every text would be read as the same few tokens",
            "put the tokenizer.json and the tokenizer_config.json of the model there",
        )
    return tokenizer


def load_base(
    base: str,
    num_labels: int,
    dtype: torch.dtype,
    revision: str | None = None,
    allow_pickle: bool = False,
    quantization=None,
):
    """The base as a sequence classifier with a head of `num_labels` logits; returns (model, the names of its fresh
    weights). A head of another size, such as an entailment model's, is replaced by a fresh one. `quantization`: a
    transformers quantization config, or None. Raises ModelError for weights that do not load, for those of another
    shape than the configuration's, and for those of a head that the classifier has no place for."""
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
            ignore_mismatched_sizes=True,  # else the error does not say which they are
            **NO_CODE,
            **({} if quantization is None else {"quantization_config": quantization}),
        )

    with quiet_transformers():
        model, info = from_hub(base, load)
    text = model.config.get_text_config()
    padding = getattr(text, "pad_token_id", None)
    if padding is None or not 0 <= padding < text.vocab_size:
        text.pad_token_id = text.vocab_size - 1  # hardly ever in a text: the network takes it for no token of one
    if getattr(text, "attn_logit_softcapping", None):
        # Up to transformers 5.20 the default attention of Gemma 2 (sdpa) leaves the cap out of the scores.
        model.set_attn_implementation("eager")
    return model, {*info["missing_keys"], *_other_shapes(base, model, info)}


def _other_shapes(base: str, model, info: Mapping[str, Any]) -> set[str]:
    """The names of the weights that are stored in another shape than the model's, those of a head. `info`: as
    transformers gives it. Raises ModelError for other weights than a head's, and for a head without a place."""
    other = {name: shapes for name, *shapes in info["mismatched_keys"]}
    for name, (stored, wanted) in sorted(other.items()):
        if not _of_head(name):
            raise ModelError(
                f"{base}: {name} has the shape {tuple(stored)}, and by config.json it has {tuple(wanted)}",
                "the weights and the configuration do not belong together",
                "get both again",
            )
    left = sorted(filter(_of_head, info["unexpected_keys"]))
    if left:
        raise ModelError(
            f"{base} holds {', '.join(left[:3])}, for which {type(model).__name__} has no place",
            "without a part of its head its scores would not be those that were trained",
            "use a model with one linear head without a bias, or let a server run this one (--judge)",
        )
    return set(other)


def _of_head(name: str) -> bool:
    return name.partition(".")[0] in HEAD_NAMES


def from_hub(name: str, load):
    """What `load()` returns. Raises ModelError, with the reason in one line, where it cannot load `name`."""
    try:
        return load()
    except MemoryError:
        raise
    except Exception as e:  # whatever these libraries raise about files that others made
        first = f"{type(e).__name__}: {e}".strip().split("\n")[0][:200]
        why = "no such folder here, and it could not be had from the hub or is not a safetensors model"
        do = "check the name, the network or a gated model's licence, or give a local folder"
        if isinstance(e, ImportError):
            why, do = "the model needs a library that is not installed", "install it, or use the model in another form"
        elif Path(name).is_dir():
            why = "the folder is here, and its files are incomplete, damaged or not a safetensors model"
            do = "get its files again, name another model, or allow pickles with allow_pickle=true"
        raise ModelError(f"cannot load {name!r} ({first})", why, do) from e
