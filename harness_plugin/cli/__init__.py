"""The command `arena-rm`: results go to stdout or to files, notes and progress to stderr.

Each command is a file of its own here: `score`, `show`, `judge`, `compare`, `label`, `calibrate`, `train`, `doctor`,
`lm_eval`, and the folder `gate`. What several of them share: `model_options` choose a judge, `several_options` panels,
cascades and abstention, `data_options` what is read, `cache_options` the store of scores, `stop_options` when judging
ends early, `options` what is left; `label_plan` is a part of `label`, `streams` makes stdout and stderr safe,
`failures` says in one line what went wrong. A command reads its options and prints results; it decides nothing about
scores, and it imports the rest of the package only when it runs. Exit codes: 0 done, 1 regression, 2 wrong usage, 3
could not be done, 4 inconclusive, 130 interrupted, 141 the program that read stdout has ended.
"""

import atexit
import gc
import sys
import traceback
from difflib import get_close_matches
from importlib import import_module

import click

from harness_plugin import __version__
from harness_plugin.cli.failures import explained
from harness_plugin.cli.streams import safe_streams
from harness_plugin.errors import DONE, NOT_DONE, REGRESSION, ArenaError, UsageError
from harness_plugin.waiting import wait_briefly

COMMANDS = {  # name: (module, one line for --help); the module is imported only when its command runs
    "score": ("score", "Score every pair of a file, one JSON line for each pair."),
    "judge": ("judge", "Judge the answers of several chatbots, and rank the chatbots."),
    "compare": ("compare", "Compare several judges on the same votes of people."),
    "label": ("label", "Let people vote on battles: make a page for it, and merge the votes."),
    "gate": ("gate", "Check whether a chatbot or a judge got worse since a stored run."),
    "show": ("show", "Show one pair as the judge reads it: its text, what was cut, its token ids."),
    "train": ("train", "Train an adapter on labelled pairs."),
    "calibrate": ("calibrate", "Fit an adapter's temperature and tie mass to labelled pairs."),
    "doctor": ("doctor", "List what is installed, which weights and devices there are, and what is missing."),
    "lm-eval": ("lm_eval", "Run lm-eval with arena-rm's model and tasks."),
}


def _set_debug(ctx, param, value):
    if value:
        ctx.obj["debug"] = True


debug_option = click.Option(
    ["--debug"],
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_set_debug,
    help="If the command fails, print the Python traceback too.",
)


class LazyGroup(click.Group):
    """A group whose commands are listed in a `catalogue` such as COMMANDS; their modules are in `package`. Each command
    has the option --debug, unless it passes its arguments on."""

    def __init__(self, *args, package: str, catalogue: dict[str, tuple[str, str]], **settings):
        super().__init__(*args, **settings)
        self.package, self.catalogue = package, catalogue

    def list_commands(self, ctx):
        return list(self.catalogue)

    def get_command(self, ctx, name):
        if name not in self.catalogue:
            return None
        command = import_module(f"{self.package}.{self.catalogue[name][0]}").command
        passes_on = command.context_settings.get("ignore_unknown_options")
        if not isinstance(command, LazyGroup) and not passes_on and debug_option not in command.params:
            command.params.append(debug_option)
        return command

    def nearest(self, name: str) -> str | None:
        """The command that was probably meant by a misspelled name; None where no name is like it."""
        return next(iter(get_close_matches(name, self.catalogue, n=1)), None)

    def resolve_command(self, ctx, args):
        if args[0] not in self.catalogue and not args[0].startswith("-"):
            near = self.nearest(args[0])
            ctx.fail(f"No such command {args[0]!r}." + (f" Did you mean {near!r}?" if near else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx, formatter):
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.catalogue.items()])


@click.command(
    "arena-rm",
    cls=LazyGroup,
    package=__name__,
    catalogue=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="arena-rm")
def group():
    """Tell which of two answers people would prefer, with a reward model.

    `arena-rm COMMAND --help` explains a command and gives an example.

    \b
    Exit codes:
      0    done, or the gate passes
      1    the gate found a regression
      2    the command was given wrong options or arguments
      3    the work could not be done (bad data, missing weights, runs that cannot be compared)
      4    the gate is inconclusive, and --on-inconclusive fail was given or every prompt got worse
      130  interrupted with Ctrl-C
      141  the program that read stdout has ended
    """


group.params.append(debug_option)


def main(args: list[str] | None = None) -> None:
    """The console script. Whatever happens gives one line on stderr and an exit code, of which 1 means a regression and
    nothing else. With --debug the traceback is printed before the line."""
    wait_briefly()  # before a command imports torch
    atexit.register(gc.freeze)  # else Python looks for cycles among all objects before it ends: 0.4 s with torch
    with safe_streams():
        code = _run(sys.argv[1:] if args is None else list(args))
    sys.exit(code)


def _run(args: list[str]) -> int:
    """Runs a command; returns its exit code."""
    debug: dict = {}
    try:
        code = _invoked(args, debug)
        sys.stdout.flush()
        return code
    except BaseException as e:
        code, line = explained(e)
        if debug:
            click.echo("".join(traceback.format_exception(e)), err=True, nl=False)
        if isinstance(e, click.ClickException):
            e.show(sys.stderr)
        elif line:
            click.echo(f"arena-rm: {line}", err=True)
        return code


def _invoked(args: list[str], debug: dict) -> int:
    """The exit code of a command that ends. `debug` is filled if --debug is given."""
    if "" in args and args[0] != "lm-eval":  # an empty name of a file would be the current folder
        raise UsageError(
            f"argument {args.index('') + 1} is empty", "a variable of the shell may not be set", "give it a value"
        )
    try:
        # group.main is not used: it turns a closed pipe into exit code 1, which means a regression here.
        with group.make_context("arena-rm", args, obj=debug) as context:
            group.invoke(context)
        return DONE
    except click.exceptions.Exit as e:
        return e.exit_code
    except SystemExit as e:  # of a library: its 1 is no regression, and a text says what is wrong
        if isinstance(e.code, str):
            raise ArenaError(e.code) from e
        return NOT_DONE if e.code == REGRESSION else e.code or DONE
