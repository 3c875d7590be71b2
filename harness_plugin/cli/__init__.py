"""The command `arena-rm`: results go to stdout or to files, notes and progress to stderr.

Each command is a file of its own here. It reads its options and prints results; it decides nothing about scores, and it
imports the rest of the package only when it runs. Exit codes: 0 done, 1 regression, 2 wrong usage, 3 could not be done,
4 inconclusive, 130 interrupted, 141 stdout was closed.
"""

import os
import sys
from importlib import import_module

import click

from harness_plugin import __version__
from harness_plugin.errors import ArenaError

COMMANDS = {  # name: (module, one line for --help); the module is imported only when its command runs
    "score": ("score", "Score every pair of a file, one JSON line for each pair."),
    "judge": ("judge", "Judge the answers of several chatbots, and rank the chatbots."),
    "gate": ("gate", "Check whether a chatbot or a judge got worse since a stored run."),
    "show": ("show", "Show one pair as the judge reads it: its text, what was cut, its token ids."),
    "train": ("train", "Train an adapter on labelled pairs."),
    "calibrate": ("calibrate", "Fit an adapter's temperature and tie mass to labelled pairs."),
    "doctor": ("doctor", "List what is installed, which weights and devices there are, and what is missing."),
    "lm-eval": ("lm_eval", "Run lm-eval with arena-rm's model and tasks."),
}


class LazyGroup(click.Group):
    """A group whose commands are listed in a `catalogue` such as COMMANDS; their modules are in `package`."""

    def __init__(self, *args, package: str, catalogue: dict[str, tuple[str, str]], **settings):
        super().__init__(*args, **settings)
        self.package, self.catalogue = package, catalogue

    def list_commands(self, ctx):
        return list(self.catalogue)

    def get_command(self, ctx, name):
        if name not in self.catalogue:
            return None
        return import_module(f"{self.package}.{self.catalogue[name][0]}").command

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
      2    the command was used wrongly
      3    the work could not be done (bad data, missing weights, runs that cannot be compared)
      4    the gate is inconclusive, with --on-inconclusive fail
      130  interrupted with Ctrl-C
    """


def main(args: list[str] | None = None) -> None:
    """The console script. A mistake of the user gives one line on stderr and an exit code, never a traceback."""
    code = 0
    try:
        # group.main is not used: it turns a closed pipe into exit code 1, which means a regression here.
        with group.make_context("arena-rm", sys.argv[1:] if args is None else list(args)) as context:
            group.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as e:
        code = e.exit_code
    except click.UsageError as e:
        e.show()
        code = 2
    except click.ClickException as e:
        e.show()
        code = 3
    except (click.Abort, KeyboardInterrupt):
        click.echo("arena-rm: interrupted", err=True)
        code = 130
    except ArenaError as e:
        click.echo(f"arena-rm: {e}", err=True)
        code = e.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the program that read stdout has ended
        code = 141
    except (OSError, MemoryError) as e:
        click.echo(f"arena-rm: {e or 'out of memory'}", err=True)
        code = 3
    sys.exit(code)
