"""`arena-rm judge`: files of chatbots' answers to a leaderboard."""

from pathlib import Path

import click

from harness_plugin.cli.options import cache_options, log_to_stderr, model_options, opened_cache
from harness_plugin.errors import UsageError


@click.command("judge")
@click.argument("files", nargs=-1, required=True, type=click.Path())
@model_options
@click.option("--baseline", metavar="MODEL", help="Judge every model against this one [default: all against all].")
@click.option("--round-robin", is_flag=True, help="Judge every model against every other (the default).")
@click.option("--prompts", type=click.IntRange(min=1), metavar="N", help="Only N prompts, drawn by their content.")
@click.option("--questions", type=click.Path(), help="Arena-Hard's question.jsonl, where answers come without prompts.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Most sequences in a batch [default: a token budget].")
@cache_options(default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), default="judged", show_default=True, metavar="DIR",
              help="Folder for verdicts, the answers judged, leaderboard and report.")  # fmt: skip
def command(files, spec, baseline, round_robin, prompts, questions, batch_size, cache_file, output):
    """Judge the answers of several chatbots to the same prompts and rank them.

    FILES, or folders of them: AlpacaEval's model_outputs.json, Arena-Hard's answers, lm-eval's samples_*.jsonl of
    generation tasks. Every battle is judged in both orders; a killed run continues when the command is repeated, and
    adding a chatbot later costs only its own battles.
    """
    log_to_stderr()
    from harness_plugin.judge import battles, find_files, gather, leaderboard, write_answers, write_run
    from harness_plugin.judge.files import counts, table_markdown

    if baseline is not None and round_robin:
        raise UsageError("--baseline and --round-robin", "they say different battles", "choose one")
    if output.exists() and not output.is_dir():
        raise UsageError(f"-o {output} is a file", "a run leaves several", "name a folder")
    meetings = battles(gather(find_files(list(files)), questions), baseline, prompts)
    output.mkdir(parents=True, exist_ok=True)
    click.echo(
        f"{len(meetings.models)} models, {len(meetings.prompts)} prompts: {len(meetings.pairs)} battles to judge, "
        f"{len(meetings.identical)} of identical answers", err=True,
    )  # fmt: skip
    with opened_cache(cache_file) as cache:
        verdicts, judge = judged(meetings, spec, batch_size, cache, output)
    board = leaderboard(verdicts, baseline, meetings.models, counts(meetings))
    write_answers(output, meetings)
    write_run(output, board, meetings, judge)
    click.echo(table_markdown(board))
    click.echo(f"{len(verdicts)} verdicts, the leaderboard and the report are in {output}", err=True)


def judged(meetings, spec, batch_size, cache, output):
    """(verdicts, who judged): loads the judge and has it judge."""
    from tqdm import tqdm

    from harness_plugin.engine import Engine
    from harness_plugin.judge import judge_battles
    from harness_plugin.model import load_model
    from harness_plugin.scoring import judge_identity, logit_identity

    model = load_model(spec)
    engine = Engine(model, batch_size)
    if cache:
        cache.bind(logit_identity(model, engine), model.num_labels)
    with tqdm(total=len(meetings.pairs), desc="Judging battles", unit="battle", disable=None) as bar:
        verdicts, judge = judge_battles(engine, meetings, output, bar.update, cache)
    return verdicts, {"hash": judge, **judge_identity(model, "both")}
