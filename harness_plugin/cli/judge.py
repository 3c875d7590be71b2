"""`arena-rm judge`: files of chatbots' answers to a leaderboard."""

from contextlib import contextmanager
from pathlib import Path

import click

from harness_plugin.cli.options import cache_options, log_to_stderr, model_options, opened_cache
from harness_plugin.errors import UsageError

RAY_OR_COPY = "use --engine ray, or copy the files here"


@click.command("judge")
@click.argument("files", nargs=-1, required=True, type=click.Path())
@model_options
@click.option("--baseline", metavar="MODEL", help="Judge every model against this one [default: all against all].")
@click.option("--round-robin", is_flag=True, help="Judge every model against every other (the default).")
@click.option("--prompts", type=click.IntRange(min=1), metavar="N", help="Only N prompts, drawn by their content.")
@click.option("--questions", type=click.Path(), help="Arena-Hard's question.jsonl, where answers come without prompts.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Most sequences in a batch [default: a token budget].")
@cache_options(default=True)
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True,
              help="ray: one worker per device of a Ray cluster; FILES and DIR may be URIs (s3://...).")  # fmt: skip
@click.option("-o", "--output", type=click.Path(), default="judged", show_default=True, metavar="DIR",
              help="Folder for verdicts.jsonl, leaderboard.json, leaderboard.csv and report.md.")  # fmt: skip
def command(files, spec, baseline, round_robin, prompts, questions, batch_size, cache_file, engine, output):
    """Judge the answers of several chatbots to the same prompts and rank them.

    FILES, or folders of them: AlpacaEval's model_outputs.json, Arena-Hard's answers, lm-eval's samples_*.jsonl of
    generation tasks. Every battle is judged in both orders; a killed run continues when the command is repeated, and
    adding a chatbot later costs only its own battles.
    """
    log_to_stderr()
    from harness_plugin.judge import battles, collect_verdicts, find_files, gather, leaderboard, write_run
    from harness_plugin.judge.files import counts, table_markdown
    from harness_plugin.judge.places import local

    if baseline is not None and round_robin:
        raise UsageError("--baseline and --round-robin", "they say different battles", "choose one")
    _check_places(engine, [*files, output])
    with local(files, output) as place:
        meetings = battles(gather(find_files(place.files), questions), baseline, prompts)
        place.folder.mkdir(parents=True, exist_ok=True)
        click.echo(
            f"{len(meetings.models)} models, {len(meetings.prompts)} prompts: {len(meetings.pairs)} battles to judge, "
            f"{len(meetings.identical)} of identical answers", err=True,
        )  # fmt: skip
        with _judge(engine, spec, batch_size, cache_file, output) as judge, _progress(len(meetings.pairs)) as bar:
            verdicts, hash = collect_verdicts(judge, meetings, place.folder, bar.update)
        board = leaderboard(verdicts, baseline, meetings.models, counts(meetings))
        write_run(place.folder, board, meetings, {"hash": hash, **judge.identity})
    click.echo(table_markdown(board))
    click.echo(f"{len(verdicts)} verdicts, the leaderboard and the report are in {output}", err=True)


def _check_places(engine, names) -> None:
    from harness_plugin.judge.places import is_remote

    *_, output = names
    if engine == "local" and any(map(is_remote, names)):
        raise UsageError(f"{next(filter(is_remote, names))} is a URI", "a run here reads and writes files", RAY_OR_COPY)
    if not is_remote(output) and Path(output).exists() and not Path(output).is_dir():
        raise UsageError(f"-o {output} is a file", "a run leaves several", "name a folder")
    source = click.get_current_context().get_parameter_source
    asked = {source(name).name for name in ("cache", "cache_file")}
    if engine == "ray" and asked - {"DEFAULT"}:
        raise UsageError("a score cache with --engine ray", "its scores are kept in DIR/scores", "leave the cache out")


def _progress(total):
    from tqdm import tqdm

    return tqdm(total=total, desc="Judging battles", unit="battle", disable=None)


@contextmanager
def _judge(engine, spec, batch_size, cache_file, output):
    """Who judges (`judge.verdicts.EngineJudge`, or a cluster in its place), loaded."""
    if engine == "ray":
        from harness_plugin.judge.ray_engine import on_ray

        with on_ray(spec, batch_size, output) as judge:
            yield judge
        return
    from harness_plugin.engine import Engine
    from harness_plugin.judge.verdicts import EngineJudge
    from harness_plugin.model import load_model
    from harness_plugin.scoring import logit_identity

    with opened_cache(cache_file) as cache:
        model = load_model(spec)
        engine = Engine(model, batch_size)
        if cache:
            cache.bind(logit_identity(model, engine), model.num_labels)
        yield EngineJudge(engine, cache)
