"""`arena-rm gate`: compares two stored runs and decides; each of its commands is a file here (`check`, `bless`,
`duel`, `power`, `simulate`), and `options` is what they share."""

from pathlib import Path

import click

from harness_plugin.cli import LazyGroup

COMMANDS = {
    "check": ("check", "Compare two runs. `arena-rm gate BASELINE CURRENT` is short for it."),
    "bless": ("bless", "Save a run as the baseline for later comparisons."),
    "duel": ("duel", "Judge new answers directly against old answers."),
    "power": ("power", "Compute how many prompts are needed to detect a drop."),
    "simulate": ("simulate", "Simulate how often the gate and simpler rules decide wrongly."),
}
DEFAULT = "check"


class DefaultGroup(LazyGroup):
    """Arguments that do not begin with the name of a command go to the default command, unless they begin with what
    looks like one and is no file."""

    def parse_args(self, ctx, args):
        misspelled = args and self.nearest(args[0]) and not Path(args[0]).exists()
        if args and args[0] not in (*self.catalogue, *ctx.help_option_names) and not misspelled:
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)


@click.command(
    "gate",
    cls=DefaultGroup,
    package=__name__,
    catalogue=COMMANDS,
    no_args_is_help=True,
    options_metavar="",
    subcommand_metavar="BASELINE CURRENT [OPTIONS] | COMMAND ...",
)
def command():
    """Check whether a chatbot or a judge got worse since a stored run, and fail only if it did.

    `arena-rm gate BASELINE CURRENT` compares two runs. Its options are listed by `arena-rm gate check --help`.

    \b
    Example: arena-rm gate tests/baseline.jsonl results/judged
    """
