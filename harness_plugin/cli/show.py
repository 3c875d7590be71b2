"""`arena-rm show`: one pair as the judge reads it."""

import json

import click

from harness_plugin.cli.options import log_to_stderr, model_options, pair_options
from harness_plugin.errors import UsageError


@click.command("show")
@click.argument("file", type=click.Path(allow_dash=True))
@model_options
@pair_options
@click.option("--id", "pair_id", metavar="ID", help="The id of the pair to show. [default: the first pair]")
@click.option("--swap", is_flag=True, help="Show response B first.")
@click.option("--json", "as_json", is_flag=True, help="Print text, numbers of tokens and token ids as JSON.")
def command(file, spec, read, pair_id, swap, as_json):
    """Show one pair of FILE (- for stdin) as the judge reads it: its text, how many tokens of each field were kept, and
    its token ids. No weights are loaded.

    \b
    Example: arena-rm show pairs.jsonl --id 17 --swap
    """
    log_to_stderr()
    pairs = read(file, limit=1) if pair_id is None else read(file, until=pair_id)
    pair = _find(pairs, pair_id, file)
    from harness_plugin.model import load_renderer

    renderer = load_renderer(spec)
    rendered = renderer.render(pair.swap() if swap else pair)
    text = renderer.tokenizer.decode(rendered.ids)
    kept = {name: getattr(rendered, name) for name in ("prompt", "response_a", "response_b")}
    if as_json:
        counts = {name: [k.kept, k.original] for name, k in kept.items()}
        click.echo(json.dumps({"id": pair.id, "text": text, "kept": counts, "ids": rendered.ids}, ensure_ascii=False))
        return
    click.echo(text)
    click.echo(
        f"\n-- pair {pair.id}: {len(rendered.ids)} of at most {renderer.max_length} tokens, "
        f"truncation {renderer.truncation}"
    )
    for name, k in kept.items():
        click.echo(f"-- {name}: {k.kept} of {k.original} tokens" + (" (cut)" if k.kept < k.original else ""))
    click.echo(f"-- ids: {' '.join(map(str, rendered.ids))}")


def _find(pairs, pair_id, file):
    """The pair with the id `pair_id`, or the first one. Raises UsageError if there is none."""
    if not pairs:
        raise UsageError(f"{file} holds no pairs", "there is no pair to show", "give a file with at least one pair")
    if pair_id is None:
        return pairs[0]
    pair = next((p for p in pairs if p.id == pair_id), None)
    if pair is None:
        raise UsageError(
            f"no pair in {file} has the id {pair_id!r}",
            f"the ids there look like {pairs[0].id!r}",
            "give the id of a pair in the file with --id",
        )
    return pair
