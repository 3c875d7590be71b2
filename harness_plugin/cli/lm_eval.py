"""`arena-rm lm-eval ...`: the host's command line with the plug-in in place, whatever the start-up hook does."""

import sys

import click


@click.command("lm-eval", context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def command(args):
    """Everything after `lm-eval` goes to lm-eval as it is."""
    from harness_plugin import _bridge

    _bridge.install(asked=True)
    from lm_eval.__main__ import cli_evaluate

    sys.argv = ["lm_eval", *args]
    cli_evaluate()
