"""`arena-rm show`: one pair as the judge reads it."""

import json

import click

from harness_plugin.cli.data_options import pair_options
from harness_plugin.cli.model_options import model_options
from harness_plugin.cli.options import log_to_stderr
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
    its token ids. A pointwise reward model reads each answer apart, so both of its texts are shown. No weights are
    loaded.

    \b
    Example: arena-rm show pairs.jsonl --id 17 --swap

    Exit codes: 0 done, 2 wrong usage, 3 bad data, or files of the judge are missing.
    """
    log_to_stderr()
    pairs = read(file, limit=1) if pair_id is None else read(file, until=pair_id)
    pair = _find(pairs, pair_id, file)
    from harness_plugin.model import load_renderer
    from harness_plugin.model.several import check_effect, members_of

    check_effect(spec, members_of(spec))
    if spec.served and not spec.served.scores:
        raise UsageError(
            f"--judge {spec.judge}", "its server reads texts and makes the token ids itself", "name another judge"
        )
    renderer = load_renderer(spec)
    shown = _shown(renderer, pair.swap() if swap else pair)
    if as_json:
        views = [_as_json(renderer, rendered) for rendered in shown.values()]
        of_answers = dict(zip(shown, views, strict=True)) if len(shown) > 1 else views[0]
        click.echo(json.dumps({"id": pair.id, **of_answers}, ensure_ascii=False))
        return
    for part, rendered in shown.items():
        click.echo(renderer.decode(rendered.ids))
        most = f"of at most {renderer.max_length} tokens"
        click.echo(f"\n-- {part}: {len(rendered.ids)} {most}, truncation {renderer.truncation}")
        for name, k in _kept(rendered).items():
            click.echo(f"-- {name}: {k.kept} of {k.original} tokens" + (" (cut)" if k.is_cut else ""))
        click.echo(f"-- ids: {' '.join(map(str, rendered.ids))}")


def _shown(renderer, pair):
    """What the judge reads of the pair, by name: the pair, or each response."""
    from harness_plugin.prompt import AnswerRenderer

    if isinstance(renderer, AnswerRenderer):
        return dict(zip(("response_a", "response_b"), renderer.render_answers(pair), strict=True))
    return {f"pair {pair.id}": renderer.render(pair)}


def _kept(rendered):
    """How much was kept of each field, by its name."""
    names = ("prompt", "response", "response_a", "response_b")
    return {name: getattr(rendered, name) for name in names if hasattr(rendered, name)}


def _as_json(renderer, rendered):
    kept = {name: [k.kept, k.original] for name, k in _kept(rendered).items()}
    return {"text": renderer.decode(rendered.ids), "kept": kept, "ids": rendered.ids}


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
