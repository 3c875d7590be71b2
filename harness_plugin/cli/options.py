"""What options of every kind share, and the log of the package on stderr."""

import math

import click
from click.core import ParameterSource


class Number(click.FloatRange):
    """A range of numbers, without NaN and infinity, which click lets through."""

    def convert(self, value, param, ctx):
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number.", param, ctx)
        return number


def given(*names: str) -> list[str]:
    """Those of these parameters of the running command that the user gave, spelled as options."""
    context = click.get_current_context()
    return [
        option.opts[0]
        for option in context.command.params
        if option.name in names and context.get_parameter_source(option.name) is not ParameterSource.DEFAULT
    ]


plots_option = click.option(
    "--plots/--no-plots", default=True, show_default=True, help="Also draw pictures as PNG files (needs matplotlib)."
)


def log_to_stderr() -> None:
    """Prints the log of the package (device, dtype, settings) as plain lines on stderr."""
    import logging

    class Echo(logging.Handler):
        def emit(self, record):
            click.echo(self.format(record), err=True)  # to the stderr of this moment, which tests replace

    log = logging.getLogger("lm_eval.arena_rm")
    if not log.handlers:
        handler = Echo()
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        log.propagate = False
