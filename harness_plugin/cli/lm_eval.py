"""`arena-rm lm-eval ...`: lm-eval's command line with our model and tasks, also where the start-up hook cannot run."""

import sys

import click


@click.command("lm-eval", context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def command(args):
    """Run lm-eval with the model arena_rm and the tasks arena_pairs*. All arguments are passed on to lm-eval.

    \b
    Example: arena-rm lm-eval --model arena_rm --tasks arena_pairs
    """
    from harness_plugin import _bridge

    _bridge.install(asked=True)
    from lm_eval.__main__ import cli_evaluate

    sys.argv = ["lm_eval", *args]
    cli_evaluate()
