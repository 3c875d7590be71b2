"""`arena-rm train`: from a recipe and labelled pairs to an adapter folder."""

from pathlib import Path

import click

from harness_plugin.cli.data_options import pair_options
from harness_plugin.cli.options import log_to_stderr


@click.command("train")
@click.argument("recipe")
@click.option(
    "--data",
    "files",
    multiple=True,
    required=True,
    type=click.Path(),
    metavar="FILE",
    help="A file of labelled pairs to train on. Can be given several times.",
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The adapter folder to make. It must not exist.",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="NAME=VALUE",
    help="Change a setting of the recipe, such as epochs=1 or lora.r=8. Can be given once for each setting.",
)
@click.option(
    "--keep-out",
    multiple=True,
    type=click.Path(),
    metavar="FILE",
    help="A file of pairs or answers whose prompts must not be in the data; if they are, training does not start. Can "
    "be given several times.",
)
@click.option(
    "--teacher",
    type=click.Path(),
    metavar="FILE",
    help="Scores of the data by another judge, from `arena-rm score`, to use as labels.",
)
@click.option("--device", metavar="NAME", help="The device: cpu or cuda. [default: a GPU if there is one]")
@click.option(
    "--report-to",
    default="none",
    show_default=True,
    metavar="NAME",
    help="Report the losses to a tracker that transformers knows, such as tensorboard, trackio or wandb.",
)
@click.option(
    "--terms", metavar="TEXT", help="One sentence on the licence of the data, for the adapter's README. [default: none]"
)
@click.option(
    "--push-to-hub", metavar="ID", help="Upload the finished adapter to this repository on the hub, made private."
)
@pair_options
def command(recipe, files, output, overrides, keep_out, teacher, device, report_to, terms, push_to_hub, read):
    """Train an adapter as RECIPE says: a YAML file, or the name of a recipe in the package (card, continue, default,
    distill, embedded, pointwise, qlora, three_way). The adapter is measured and calibrated on held-out pairs.

    If training is stopped, the same command goes on from the last checkpoint. To use several devices, start it with
    `accelerate launch -m harness_plugin.cli train ...`.

    \b
    Example: arena-rm train default --set base=embedded --data pairs.jsonl -o my-judge

    Exit codes: 0 done, 2 wrong usage or settings, 3 bad data, or training failed.
    """
    log_to_stderr()
    from harness_plugin.train.config import find_config, read_config

    config = read_config(find_config(recipe), overrides)
    if push_to_hub:
        from harness_plugin.train.hub import check

        check(push_to_hub)
    from harness_plugin.train.prepare import Request
    from harness_plugin.train.run import describe, train

    request = Request(list(files), keep_out, teacher, device, report_to, terms, read)
    manifest = train(config, request, output)
    if manifest is None:  # this is not the first of several processes
        return
    click.echo(describe(manifest))
    if push_to_hub:
        from harness_plugin.train.hub import push

        click.echo(push(output, push_to_hub))
