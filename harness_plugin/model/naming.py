"""What one name of a judge stands for: a judge behind a server, an adapter, or a whole model."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from harness_plugin.errors import ModelError, UsageError

# As `pretrained`: the Gemma 3 270M of the extra `embedded`; as `peft`: the adapter in the package.
EMBEDDED = "embedded"
ADAPTER_CONFIG, MODEL_CONFIG = "adapter_config.json", "config.json"
NAMED = 5  # adapters in an error
SCORES, CHAT, DECISIONS = ("vllm", "sglang"), "openai", "systemone"
SERVERS = (*SCORES, CHAT, DECISIONS)
PANEL, CASCADE = "panel", "cascade"  # judges that are made of others: `several` reads their names
FORMS = "vllm:URL, sglang:URL, openai:URL#MODEL or systemone:URL#MODEL"
HUB_REASONS = {  # the errors of huggingface_hub by name, so that it need not be imported
    "LocalEntryNotFoundError": "it was not downloaded before, and there is no network or HF_HUB_OFFLINE is set",
    "OfflineModeIsEnabled": "it was not downloaded before, and HF_HUB_OFFLINE is set",
    "HFValidationError": "this is no hub id, which looks like OWNER/NAME",
    "RepositoryNotFoundError": "the hub has no model of this name, or shows it only after `hf auth login`",
    "GatedRepoError": "its terms must be accepted on its page there, and then `hf auth login` be run",
}


@dataclass(frozen=True)
class Address:
    """Where a judge is served. `server`: one of SERVERS, which protocol it speaks; `url`: without a slash at the end,
    and for all but CHAT without the /v1 that addresses of such servers often have; `model`: its name there, None where
    the server is to be asked for it."""

    server: str
    url: str
    model: str | None

    @property
    def scores(self) -> bool:
        """Whether the server gives the logits of a classifier for our own token ids."""
        return self.server in SCORES


def without_secrets(judge: str) -> str:
    """The name of a judge without what in its URLs may be a key: user, password and query."""
    return re.sub(r"\?[^#+;,]*", "", re.sub(r"://[^\s/#]*@(?=[^/\s]*[/:#])", "://", judge))


def is_several(judge: str) -> bool:
    """Whether the name is that of a panel or a cascade."""
    return judge.partition(":")[0] in (PANEL, CASCADE) and ":" in judge


def served_at(judge: str) -> Address | None:
    """The address in the name of a served judge; None for any other name. Raises UsageError for an address that cannot
    be used. The error does not quote what may be a key."""
    server, colon, rest = judge.partition(":")
    if not colon or is_several(judge):
        return None
    if server not in SERVERS:  # decided by the name alone: a long URL is no name of a file
        if "://" in judge:
            raise UsageError(
                "judge is a URL without the kind of its server",
                "each kind of server is asked in another way",
                f"write {FORMS}",
            )
        return None
    try:
        url = urlsplit(rest)
        sound = url.scheme in ("http", "https") and bool(url.hostname) and (url.port is None or url.port > 0)
    except ValueError:
        sound = False
    if not sound:
        raise UsageError(
            f"judge={server}: without a usable URL",
            "a URL begins with http:// or https:// and names a host",
            f"write {FORMS}",
        )
    if url.username is not None or url.password is not None or url.query:
        raise UsageError(
            f"judge={server}: a URL with a user, a password or a query",
            "keys in URLs end up in logs and files",
            "leave it out of the URL, and put the key into the environment variable ARENA_RM_API_KEY",
        )
    if server == CHAT and not url.fragment:
        raise UsageError(
            f"judge={server}:{rest} names no model", "such a server may have several", f"write {server}:URL#MODEL"
        )
    place = url._replace(fragment="").geturl().rstrip("/")
    if server != CHAT:  # whose address is what stands before /chat/completions, with a path that differs by server
        place = place.removesuffix("/v1")
    return Address(server, place, url.fragment or None)


def is_path(name: str) -> bool:
    """Whether a name can be that of a folder only, not of a model on the hub."""
    return name.startswith(("/", ".", "~")) or "\\" in name or name.count("/") > 1


def adapters_in(folder: str, config: str = ADAPTER_CONFIG) -> str:
    """The adapters in the folders inside a folder, such as the checkpoints of a training; "" where there are none. With
    MODEL_CONFIG: the whole models in them."""
    inside = sorted((str(file.parent) for file in Path(folder).glob(f"*/{config}")), key=lambda x: (len(x), x))
    return ", ".join(inside[-NAMED:])


def refuse_file(name: str) -> None:
    """Raises ModelError for the name of a file, which would otherwise be looked for on the hub."""
    if Path(name).is_file():
        raise ModelError(
            f"{name} is a file", "a model or an adapter is a folder with several files", f"name {Path(name).parent}"
        )


def is_adapter(judge: str) -> bool:
    """Whether a folder or a hub id is an adapter's (it has an adapter_config.json), not a whole model's. Raises
    ModelError for a folder that is neither, and for a name that is neither here nor on the hub."""
    refuse_file(judge)
    if Path(judge).is_dir():
        here = [name for name in (ADAPTER_CONFIG, MODEL_CONFIG) if (Path(judge) / name).is_file()]
        if not here:
            inside = adapters_in(judge) or adapters_in(judge, MODEL_CONFIG)
            raise ModelError(
                f"{judge} has neither {ADAPTER_CONFIG} nor {MODEL_CONFIG}",
                "it is neither an adapter nor a model",
                f"name one of those in it: {inside}" if inside else "name the folder of the one or the other",
            )
        return here[0] == ADAPTER_CONFIG
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        hf_hub_download(judge, ADAPTER_CONFIG)
    except LocalEntryNotFoundError as e:  # no network: what was downloaded before says what it is
        return _whole_model_here(judge, e)
    except EntryNotFoundError:
        return False
    except (OSError, ValueError) as e:
        raise _nowhere(judge, e) from e
    return True


def _whole_model_here(judge: str, error: Exception) -> bool:
    from huggingface_hub import try_to_load_from_cache

    if isinstance(try_to_load_from_cache(judge, MODEL_CONFIG), str):
        return False
    raise _nowhere(judge, error) from error


def _nowhere(judge: str, error: Exception) -> ModelError:
    return ModelError(
        f"no folder {judge!r} here, and the hub did not give it ({hub_reason(error)})",
        f"a judge is {EMBEDDED}, a folder, a hub id, or {FORMS}",
        "check the name or the network",
    )


def hub_reason(error: Exception) -> str:
    """Why the hub did not give a file, in words; for errors without words of ours the name of their class."""
    return HUB_REASONS.get(type(error).__name__, type(error).__name__)
