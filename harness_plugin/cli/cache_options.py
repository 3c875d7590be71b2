"""Options of the store of scores, and the store while a command runs."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from harness_plugin.errors import UsageError


def _has_served(spec) -> bool:
    from harness_plugin.model.several import members_of

    return any(judge.served for judge in members_of(spec))


def refuse_no_cache() -> None:
    """Raises UsageError where the user gave --no-cache to a command that asks a served judge."""
    if click.get_current_context().params["cache"] is False:
        raise UsageError(
            "--no-cache with a served judge",
            "its answers cost something, and a run that was stopped would ask for them again",
            "name another file with --cache-file to ask for all answers anew",
        )


def cache_options(default: bool):
    """Adds the options of the score cache; the command receives `cache_file`, a path, or None for no cache.

    `default` says whether the cache is used if no option is given; --cache-file turns it on. Answers of a served judge
    are always kept.
    """
    options = [
        click.option(
            "--cache/--no-cache",
            default=None,
            help="Store the scores, and use stored scores of the same texts by the same judge. "
            "--no-cache is an error with a served judge. "
            f"[default: {'--cache' if default else '--no-cache, with a served judge --cache'}]",
        ),
        click.option(
            "--cache-file",
            metavar="PATH",
            help="The file of the cache. [default: scores.sqlite in the home folder of arena-rm]",
        ),
    ]

    def added(command):
        @functools.wraps(command)
        def run(cache, cache_file, **arguments):
            if cache is False and cache_file:
                raise UsageError(
                    "--no-cache with --cache-file",
                    "the first turns the cache off and the second turns it on",
                    "leave one of them out",
                )
            served = _has_served(arguments["spec"])
            if served:
                refuse_no_cache()
            if cache_file is None and (served or (default if cache is None else cache)):
                from harness_plugin.scoring.store import default_file

                cache_file = default_file()
            return command(cache_file=cache_file and Path(cache_file), **arguments)

        for option in reversed(options):
            run = option(run)
        return run

    return added


@contextmanager
def opened_cache(cache_file: Path | None) -> Iterator:
    """The score cache in the file, or None; at the end, a line on stderr says how many scores came from it.

    Open it before the model is loaded, so that a file that is not a cache is refused early.
    """
    if cache_file is None:
        yield None
        return
    from harness_plugin.scoring.store import ScoreCache

    with ScoreCache(cache_file) as cache:
        yield cache
        click.echo(cache.summary(), err=True)
