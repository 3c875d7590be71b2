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
@click.option(
    "--keep-out",
    multiple=True,
    type=click.Path(),
    help="A file of pairs or of chatbots' outputs whose prompts must not be trained on; repeatable.",
)
@click.option("--teacher", type=click.Path(), help="Labels from `arena-rm score` of another judge, joined by id.")
@click.option("--device", metavar="NAME", help="cpu, cuda ... [default: the best there is]")
@click.option("--report-to", default="none", show_default=True, metavar="NAME", help="tensorboard, trackio, wandb ...")
@click.option("--terms", metavar="TEXT", help="The data's licence and terms, for the adapter's model card.")
@click.option("--push-to-hub", metavar="ID", help="Upload the finished adapter to this hub repository, as private.")
@pair_options
def command(recipe, files, output, overrides, keep_out, teacher, device, report_to, terms, push_to_hub, read):
    """Train an adapter by RECIPE: a YAML file, or the name of a shipped one (card, default, distill, embedded, qlora,
    three_way). The same command after a kill goes on from the last checkpoint; on several devices: `accelerate launch
    -m harness_plugin.cli train ...`."""
    log_to_stderr()
    from harness_plugin.train.config import find_config, read_config

    config = read_config(find_config(recipe), overrides)
    from harness_plugin.train.loop import describe, train
    from harness_plugin.train.prepare import Request

    request = Request(list(files), keep_out, teacher, device, report_to, terms, read)
    manifest = train(config, request, output)
    if manifest is None:  # not the first of several processes
        return
    click.echo(describe(manifest))
    if push_to_hub:
        from harness_plugin.train.hub import push

        click.echo(push(output, push_to_hub))
