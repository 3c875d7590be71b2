"""`arena-rm train`: a recipe and data to an adapter folder."""

from pathlib import Path

import click

from harness_plugin.cli.options import log_to_stderr, pair_options


@click.command("train")
@click.argument("recipe")
@click.option(
    "--data", "files", multiple=True, required=True, type=click.Path(), help="A file of labelled pairs; repeatable."
)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The adapter folder to make.")
@click.option(
    "--set", "overrides", multiple=True, metavar="NAME=VALUE", help="Change a field of the recipe; repeatable."
)
@click.option("--device", metavar="NAME", help="cpu, cuda ... [default: the best there is]")
@pair_options
def command(recipe, files, output, overrides, device, read):
    """Train an adapter by RECIPE: a YAML file, or the name of a shipped one (card, embedded)."""
    log_to_stderr()
    from harness_plugin.train.config import find_config, read_config

    config = read_config(find_config(recipe), overrides)
    from harness_plugin.train.loop import describe, train

    click.echo(describe(train(config, list(files), output, device, read)))
