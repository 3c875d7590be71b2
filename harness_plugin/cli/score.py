"""`arena-rm score`: a file of pairs to one JSON line per pair."""

import json
from dataclasses import replace
from pathlib import Path

import click

from harness_plugin.cli.options import (
    cache_options,
    default_cache,
    log_to_stderr,
    model_options,
    opened_cache,
    pair_options,
)
from harness_plugin.errors import UsageError


@click.command("score")
@click.argument("file", type=click.Path(allow_dash=True))
@model_options
@pair_options
@click.option(
    "--order",
    type=click.Choice(["ab", "both"]),
    default="both",
    show_default=True,
    help="Present A first only, or both orders and average.",
)
@click.option("--batch-size", type=click.IntRange(min=1), help="Most sequences in a batch [default: a token budget].")
@cache_options(default=False)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Write here; a killed run continues [default: stdout]."
)
def command(file, spec, read, order, batch_size, cache_file, output):
    """Score every pair of FILE (- for stdin) and write one JSON line each, in input order.

    Fields: id, z_ab, z_ba (logits, positive: B; null with --order ab), score, p_a, p_b, p_tie, tokens, truncated, and
    winner and category where FILE has them. Where it has winners, the judge's metrics go to stderr.
    """
    from harness_plugin.engine.processes import accelerator

    log_to_stderr()
    _check_output(output, file)
    several = accelerator(on_cpu=spec.device == "cpu")
    if several:
        spec, cache_file = _of_several(several, file, spec, cache_file)
    pairs = read(file)
    with opened_cache(cache_file) as cache:
        rows, model = _scored(pairs, spec, order, batch_size, cache, output, several)
    if rows is not None:
        summarize(pairs, [rows[p.key] for p in pairs], model)


def _of_several(several, file, spec, cache_file):
    """(spec, cache file) of one of several processes: its own device, and the cache through which the first collects
    what the others score."""
    if file == "-":
        raise UsageError("pairs from stdin in several processes", "only one can read it", "name a file")
    device = str(several.device) if spec.device is None else spec.device
    return replace(spec, device=device), cache_file or default_cache()


def _scored(pairs, spec, order, batch_size, cache, output, several):
    """Scores the pairs and writes them; returns (rows by the pairs' keys, the model). Of several processes each scores
    its share into the cache, and the first then finds all of them there; the others return (None, None)."""
    from harness_plugin.engine import Engine
    from harness_plugin.engine.processes import first_in_turn, own_share
    from harness_plugin.files.journal import Journal
    from harness_plugin.model import load_model
    from harness_plugin.scoring.identity import identity_hash, judge_identity, logit_identity
    from harness_plugin.scoring.presentations import output_row, score_pairs, score_row

    with first_in_turn(several):
        model = load_model(spec)
    engine = Engine(model, batch_size)
    if cache:
        cache.bind(logit_identity(model, engine), model.num_labels)
    identity = judge_identity(model, order)
    judge = identity_hash(identity)
    rows: dict[str, dict] = {}

    def run(todo, keep):
        from tqdm import tqdm

        with tqdm(total=len(todo), desc="Scoring pairs", unit="pair", disable=None) as bar:
            for scored in score_pairs(engine, model.renderer, todo, order, bar.update, cache):
                keep(score_row(scored, model.calibration))

    if several:
        run(own_share(_missing(pairs, {}), several), lambda row: None)
        several.wait_for_everyone()
        if not several.is_main_process:
            return None, None
    if output is None:
        stream = iter(pairs)

        def keep(row):
            rows[row["key"]] = row
            click.echo(json.dumps(output_row(next(stream), row, judge), ensure_ascii=False))

        run(pairs, keep)
        return rows, model
    with Journal(output, identity) as journal:
        if journal.rows:
            click.echo(f"continuing: {len(journal.rows)} pairs were scored before", err=True)
        run(_missing(pairs, journal.rows), journal.add)
        journal.finish(output_row(p, journal.rows[p.key], judge) for p in pairs)
        return journal.rows, model


def _check_output(output: Path | None, file: str) -> None:
    """Refuses, before anything is paid for, a place that could not take the scores."""
    if output is None:
        return
    if output.exists() and Path(file).exists() and output.samefile(file):
        raise UsageError(f"-o {output} is the input", "it would be replaced by its scores", "choose another place")
    if output.is_dir():
        raise UsageError(f"-o {output} is a folder", "the scores are one file", "name a file in it")
    if output.suffix in (".gz", ".zst"):
        raise UsageError(f"-o {output}", "scores are written as plain JSON lines", "name it without the suffix")


def _missing(pairs, done):
    """Each distinct pair that has no row yet."""
    return list({p.key: p for p in pairs if p.key not in done}.values())


def summarize(pairs, rows, model) -> None:
    """Truncation, and metrics where winners are known, to stderr."""
    cut = sum(row["truncated"] for row in rows)
    click.echo(
        f"{len(rows)} pairs, {cut} cut to {model.renderer.max_length} tokens ({model.renderer.truncation})", err=True
    )
    known = [i for i, p in enumerate(pairs) if p.verdict is not None]
    if not known:
        return
    click.echo(table(*metrics(pairs, rows, known)), err=True)
    whole = [i for i in known if not rows[i]["truncated"]]
    if cut and whole:
        click.echo(f"without the pairs that were cut ({len(whole)} left):", err=True)
        click.echo(table(*metrics(pairs, rows, whole), brief=True), err=True)


def metrics(pairs, rows, where):
    """(`stats.preference_metrics`, accuracies by category) of the rows at `where`."""
    import numpy as np

    from harness_plugin.pairs import text_length
    from harness_plugin.stats import category_accuracies, preference_metrics

    chosen, scored = [pairs[i] for i in where], [rows[i] for i in where]
    s = np.array([r["score"] for r in scored])
    winners = [p.verdict.class_index for p in chosen]
    clusters = [p.prompt_key for p in chosen]
    both = scored[0]["position_bias"] is not None
    bias = np.array([r["position_bias"] for r in scored]) if both else None
    found = preference_metrics(
        s,
        winners,
        bias=bias,
        probabilities=np.array([(r["p_a"], r["p_b"], r["p_tie"]) for r in scored]),
        lengths_a=[text_length(p.response_a) for p in chosen],
        lengths_b=[text_length(p.response_b) for p in chosen],
        clusters=clusters,
    )
    return found, category_accuracies(s, winners, [p.category for p in chosen], clusters)


def table(found, by_category, brief: bool = False) -> str:
    """Metrics as aligned lines: value, 95% interval, n."""
    names = ("acc", "longer_wins", "acc_length_balanced", "log_loss") if brief else list(found)
    lines = [_line(name, found[name]) for name in names if not name.startswith("n_")]
    if not brief and len(by_category) <= 20:
        lines += [_line(f"acc {name}", e) for name, e in by_category.items()]
    return "\n".join(lines)


def _line(name, e) -> str:
    if e.value != e.value:
        reason = " (no calibration: run with --tie-nu)" if name in ("acc_3way", "log_loss", "brier") else ""
        return f"  {name:<22} -{reason}"
    return f"  {name:<22} {e.value:7.4f}  [{e.low:.4f}, {e.high:.4f}]  n={e.n}"
