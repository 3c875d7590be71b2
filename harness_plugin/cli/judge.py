"""`arena-rm judge`: from files of chatbots' answers to a leaderboard."""

import functools
import itertools
from contextlib import contextmanager
from pathlib import Path

import click

from harness_plugin.cli.cache_options import cache_options, opened_cache
from harness_plugin.cli.data_options import answer_options, prompts_option, winner_map_option, winner_words
from harness_plugin.cli.model_options import batch_size_option, model_options
from harness_plugin.cli.options import given, log_to_stderr, plots_option
from harness_plugin.cli.several_options import several_options
from harness_plugin.cli.stop_options import judge_parts, stop_options
from harness_plugin.errors import UsageError
from harness_plugin.files.printable import counted, log_line

RAY_OR_HERE = "use --engine ray, or name a folder here"


@click.command("judge")
@click.argument("files", nargs=-1, required=True, type=click.Path())
@model_options
@several_options
@click.option(
    "--baseline", metavar="MODEL", help="Judge every model against this one. [default: every model against every other]"
)
@click.option(
    "--round-robin",
    is_flag=True,
    expose_value=False,
    help="Judge every model against every other. This is the default.",
)
@prompts_option
@answer_options
@click.option(
    "--labels",
    type=click.Path(),
    metavar="FILE",
    help="A file of pairs that people judged. The leaderboard then has win rates and ratings for people, too, and says "
    "how well the judge agrees with them. Fields of pairs, such as winner, that --field names are of this file.",
)
@winner_map_option
@click.option(
    "--red-team", is_flag=True, help="Also attack the judge: change one model's answers to mislead it, and judge those."
)
@click.option(
    "--red-team-model",
    metavar="MODEL",
    help="The model whose answers are changed; turns --red-team on. [default: the baseline, or the median model]",
)
@stop_options(
    "every comparison is clear: the models' win rates against the baseline differ from one half, or without one the "
    "win rates of any two models differ"
)
@batch_size_option
@cache_options(default=True)
@plots_option
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Where to judge. local: on this machine; ray: with a worker for each device of a Ray cluster, where "
    "DIR may be a URI such as s3://...",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    default="judged",
    show_default=True,
    metavar="DIR",
    help="The folder for the verdicts, the leaderboard and the report.",
)
def command(
    files,
    spec,
    baseline,
    prompts,
    gather,
    labels,
    winner_maps,
    red_team,
    red_team_model,
    stopping,
    batch_size,
    cache_file,
    plots,
    engine,
    output,
    label_fields=None,
):
    """Judge the answers of several chatbots to the same prompts, and rank the chatbots.

    FILES are files of answers, or folders of such files: AlpacaEval's model_outputs.json, Arena-Hard's answers, results
    of a batch of OpenAI's API, lm-eval's samples_*.jsonl of generation tasks, and any JSONL, JSON, CSV or parquet file
    with the columns prompt and response (other names: --prompt-field and so on). They may be URIs such as hf://, s3://
    or https://.

    Every battle is judged in both orders. The same command continues a run that was stopped, and a chatbot that is
    added later costs only its own battles. The result to look at is DIR/report.html.

    \b
    Example: arena-rm judge answers/*.jsonl --baseline gpt-4 -o judged

    Exit codes: 0 done, 2 wrong usage, 3 bad data, or the judge could not be loaded.
    """
    log_to_stderr()
    from harness_plugin import tournament
    from harness_plugin.files.remote import local
    from harness_plugin.report.judge_folder import write_run

    _check(baseline, engine, output, labels)
    with local(files, output) as place:
        answers = gather(place.files)
        meetings = tournament.battles(answers, baseline, prompts)
        if red_team_model is not None:
            tournament.red_team_battles(answers, meetings.prompts, red_team_model)  # refuses a name here, not later
        by_people = None if labels is None else _labels(labels, meetings, label_fields, winner_words(winner_maps))
        place.folder.mkdir(parents=True, exist_ok=True)
        _say(meetings)
        with judging(spec, batch_size, cache_file, place.folder, engine, output) as judge:
            meetings, verdicts, board = _ranked(judge, answers, meetings, baseline, prompts, stopping)
            source = red_team_model or (red_team and (baseline or tournament.median_model(board)))
            attacked = _attacked(judge, answers, meetings, source) if source else None
        moved = attacked and tournament.red_team_report(attacked.verdicts, source)
        board, shares, agreed = _for_people(board, verdicts, by_people, labels, baseline, meetings.models)
        board = tournament.summary(board, meetings, judge.identity, moved, agreed)
        tournament.write_answers(place.folder, meetings)
        write_run(place.folder, board, tournament.Judged(meetings, verdicts, shares), attacked, plots)
    _say_result(board, len(verdicts), output)


def _check(baseline, engine, output, labels) -> None:
    """Refuses what can be refused before anything is read."""
    from harness_plugin.files.remote import is_remote

    if labels is None and given("winner_maps"):
        raise UsageError("--winner-map without --labels", "only people's judgements have winners", "give --labels FILE")
    if baseline is not None and given("round_robin"):
        raise UsageError("--baseline and --round-robin", "they ask for different battles", "choose one")
    if engine == "local" and is_remote(output):
        raise UsageError(f"-o {output} is a URI", "a run on this machine continues from the files in it", RAY_OR_HERE)
    if not is_remote(output) and Path(output).exists() and not Path(output).is_dir():
        raise UsageError(f"-o {output} is a file", "a run writes several files", "name a folder")
    if engine == "ray" and given("cache", "cache_file"):
        raise UsageError("a score cache with --engine ray", "its scores are kept in DIR/scores", "leave the cache out")


def _say_result(board, verdicts: int, output) -> None:
    from harness_plugin.report.board_markdown import table_markdown

    click.echo(table_markdown(board))
    click.echo(
        f"{output} has {counted(verdicts, 'verdict')} and the leaderboard; look at {output}/report.html", err=True
    )


def _labels(labels, meetings, fields, words):
    """People's judgements in the file `labels`, of which some are of these battles; `fields` and `words` as in
    `read_pairs`."""
    from harness_plugin.pairs import read_pairs
    from harness_plugin.tournament import OF_VOTES, check_labels

    judged = read_pairs(labels, skip_bad_rows=None, fields=fields, winner_map=words, beside=OF_VOTES).pairs
    count = check_labels(itertools.chain(meetings.pairs, meetings.identical), judged, labels)
    click.echo(f"{labels}: {count} of {len(judged)} judgements are of battles here", err=True)
    return judged


def _say(meetings) -> None:
    from harness_plugin.files.printable import listed

    click.echo(
        f"{counted(len(meetings.models), 'model')}, {counted(len(meetings.prompts), 'prompt')}: "
        f"{counted(len(meetings.pairs), 'battle')} to judge, {len(meetings.identical)} of identical answers",
        err=True,
    )
    if meetings.missing:
        counts = [f"{log_line(model)} {len(keys)}" for model, keys in meetings.missing.items()]
        click.echo(f"prompts that a model did not answer, and has no battle on: {listed(counts)}", err=True)


@contextmanager
def judging(spec, batch_size, cache_file, folder, engine="local", output=None):
    """A `Judging` that writes into the folder, with the judge opened: here, or on a Ray cluster, which keeps its scores
    at `output`."""
    if engine == "ray":
        from harness_plugin.tournament.ray_judge import on_ray

        with on_ray(spec, batch_size, output) as judge:
            yield Judging(judge, folder)
        return
    from harness_plugin.judges import open_judge

    with opened_cache(cache_file) as store, open_judge(spec, batch_size=batch_size, store=store) as judge:
        yield Judging(judge, folder)


class Judging:
    """Called, it has battles judged into the folder. `identity`: who judges."""

    def __init__(self, judge, folder):
        self.judge, self.folder = judge, folder
        self.identity = {"hash": judge.hash, **judge.identity}

    def __call__(self, meetings, doing, **options):
        return self.until(lambda number, verdicts: True, [meetings], doing, **options)[1]

    def until(self, enough, parts, doing, **options):
        """As `collect_until`."""
        from tqdm import tqdm

        from harness_plugin.tournament import collect_until

        with tqdm(total=len(parts[-1].pairs), desc=doing, unit="battle", disable=None) as bar:
            return collect_until(self.judge, parts, enough, self.folder, bar.update, **options)


def _ranked(judge, answers, meetings, baseline, prompts, stopping):
    """(the battles that were judged, their verdicts, the leaderboard)."""
    from harness_plugin import tournament

    stopped = None
    if stopping is None:
        verdicts = judge(meetings, "Judging battles")
    else:
        parts = tournament.parts_of(answers, meetings, stopping.looks, baseline, prompts)
        clear = functools.partial(tournament.all_clear, baseline=baseline)
        stopped, verdicts = judge_parts(judge, parts, stopping.looks, clear)
        meetings = stopped.part.battles
    board = tournament.leaderboard(verdicts, baseline, meetings.models, meetings.counts, tournament.styles(meetings))
    return meetings, verdicts, board if stopped is None else tournament.board_at(board, stopped, verdicts)


def _for_people(board, verdicts, by_people, labels, baseline, models):
    """(the leaderboard with what people prefer, the share of people's votes for B in each battle, how well the judge
    agrees with them), by people's judgements from the file `labels`."""
    from harness_plugin import tournament

    if by_people is None:
        return board, [None] * len(verdicts), None
    votes = tournament.labels_of(verdicts, tournament.votes_of(by_people, labels))
    board, shares = tournament.for_people(board, verdicts, votes, baseline, models), votes.shares
    return board, shares, tournament.agreement(verdicts, shares)


def _attacked(judge, answers, meetings, source):
    """The red team's battles, judged."""
    from harness_plugin.tournament import RED_TEAM_FILE, Judged, red_team_battles

    attacks = red_team_battles(answers, meetings.prompts, source)
    verdicts = judge(attacks, "Attacking the judge", file=RED_TEAM_FILE)
    return Judged(attacks, verdicts, [None] * len(verdicts))
