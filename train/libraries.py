"""Whether the libraries and tools that a run asks for are installed, so that it stops before a base is downloaded."""

import shutil
from importlib.util import find_spec

from harness_plugin.errors import UsageError
from harness_plugin.train.config import TrainConfig


def check_libraries(config: TrainConfig, report_to: str, device: str) -> None:
    """Raises UsageError where the recipe or `report_to` (a tracker that transformers knows) needs what is not installed
    here. `device`: the type of the device, "cpu" or "cuda"."""
    if config.quantization is not None and find_spec("bitsandbytes") is None:
        raise UsageError(
            f"quantization: {config.quantization}",
            "bitsandbytes is not installed",
            "run: pip install 'lm-eval-arena-rm[qlora]'",
        )
    if config.compile and not has_compiler(device):
        raise UsageError(
            "compile: true", "torch.compile finds no C++ compiler", "install g++, or use --set compile=null"
        )
    _check_tracker(report_to)


def has_compiler(device: str) -> bool:
    """Whether torch.compile can compile for a device of this type: for a CPU it needs a C++ compiler."""
    return device != "cpu" or bool(shutil.which("g++") or shutil.which("clang++"))


def _check_tracker(report_to: str) -> None:
    if report_to == "none":
        return
    from transformers.integrations import get_reporting_integration_callbacks

    try:
        for callback in get_reporting_integration_callbacks(report_to):
            callback()
    except (ValueError, ImportError, RuntimeError) as e:  # transformers raises the last one for a missing package
        raise UsageError(
            f"--report-to {report_to} ({' '.join(str(e).split())[:200]})",
            "the losses could not be reported",
            "install the package of that tracker, or leave the option out",
        ) from e
