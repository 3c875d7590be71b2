"""`arena-rm show`: what the judge reads of one pair."""

import json

import click

from harness_plugin.cli.options import model_options, pair_options
from harness_plugin.errors import UsageError


@click.command("show")
@click.argument("file", type=click.Path(allow_dash=True))
@model_options
@pair_options
@click.option("--id", "wanted", metavar="ID", help="Which pair [default: the first].")
@click.option("--swap", is_flag=True, help="Present B first.")
@click.option("--json", "as_json", is_flag=True, help="As JSON: text, kept tokens, ids.")
def command(file, spec, read, wanted, swap, as_json):
    """Show one pair of FILE as the judge reads it: the text of its token ids, what was cut of each field, the ids."""
    pair = _find(read(file), wanted, file)
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


def _find(pairs, wanted, file):
    if not pairs:
        raise UsageError(f"{file} holds no pairs", "there is nothing to show", "give another file")
    if wanted is None:
        return pairs[0]
    found = [p for p in pairs if p.id == wanted]
    if not found:
        raise UsageError(f"no pair {wanted!r} in {file}", f"ids look like {pairs[0].id!r}", "give one of them")
    return found[0]
