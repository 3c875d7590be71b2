"""`arena-rm gate`: two stored runs to a decision, and what goes with it, a file per command."""

import click

from harness_plugin.cli import LazyGroup

COMMANDS = {
    "check": ("check", "Compare two runs; what `arena-rm gate BASELINE CURRENT` does."),
    "bless": ("bless", "Write a run as the baseline that later ones are compared with."),
    "duel": ("duel", "Judge new answers against old ones directly."),
    "power": ("power", "Say how many prompts a margin needs."),
    "simulate": ("simulate", "Show how often a gate is wrong, beside simpler rules."),
}
DEFAULT = "check"


class DefaultGroup(LazyGroup):
    """Whatever is the name of no command goes to the default one."""

    def parse_args(self, ctx, args):
        if args and args[0] not in (*self.catalogue, *ctx.help_option_names):
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
    """Say whether a chatbot or a judge got worse since a stored run, and only then fail.

    `arena-rm gate BASELINE CURRENT` compares two runs; its options are listed by `arena-rm gate check --help`.
    """
