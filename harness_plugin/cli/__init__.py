"""`arena-rm`: options in, results on stdout or in files, notes on stderr, exit codes that mean one thing each.

Thin: every command lives in a file of its own here, imports its rooms when it runs, and decides nothing about scores.
Exit codes: 0 done, 1 regression, 2 usage, 3 could not be done, 4 inconclusive, 130 interrupted.
"""

import os
import sys
from importlib import import_module

import click

from harness_plugin import __version__
from harness_plugin.errors import ArenaError

COMMANDS = {  # name: (module, one line for --help); the module is imported only when its command runs
    "score": ("score", "Score every pair of a file: one JSON line each."),
    "judge": ("judge", "Judge chatbots' answers and rank them."),
    "gate": ("gate", "Say whether a chatbot or a judge got worse since a stored run."),
    "show": ("show", "Show one pair as the judge reads it: text, what was cut, token ids."),
    "train": ("train", "Train an adapter from a recipe."),
    "calibrate": ("calibrate", "Fit an adapter's temperature and tie mass on labelled pairs."),
    "doctor": ("doctor", "Say what is installed, which weights and devices are found, what is missing."),
    "lm-eval": ("lm_eval", "lm-eval's own command line, for places where the start-up hook cannot run."),
}


class LazyGroup(click.Group):
    """Commands named in a `catalogue` such as COMMANDS; their modules are in `package`."""

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
    """Which of two answers would people prefer? A reward model's verdicts, from a shell."""


def main(args: list[str] | None = None) -> None:
    """The console script. A user's mistake is one line on stderr and an exit code, never a traceback."""
    code = 0
    try:
        # not group.main: it turns a closed pipe into exit code 1, which means a regression here
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
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read stdout has left
        code = 141
    except (OSError, MemoryError) as e:
        click.echo(f"arena-rm: {e or 'out of memory'}", err=True)
        code = 3
    sys.exit(code)
