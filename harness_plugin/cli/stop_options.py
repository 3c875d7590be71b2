"""Options for judging that stops early, and the judging itself."""

import functools
from dataclasses import dataclass

import click

from harness_plugin.errors import UsageError
from harness_plugin.files.printable import counted

CLEAR, ANY_TIME = "clear", "any-time"
FEWEST, DEFAULT, MOST = 2, 5, 20  # looks that can be planned


@dataclass(frozen=True)
class Stopping:
    """`looks`: how many are planned, None for looks at any time."""

    looks: int | None


class Looks(click.ParamType):
    """A number of looks, or ANY_TIME."""

    name = "looks"

    def convert(self, value, param, ctx):
        if value == ANY_TIME:
            return value
        if not str(value).isdecimal() or not FEWEST <= int(value) <= MOST:
            self.fail(f"{value!r} is neither {ANY_TIME} nor a number from {FEWEST} to {MOST}.", param, ctx)
        return int(value)


def stop_options(clear: str):
    """--stop-when and --looks; the command receives `stopping`: a `Stopping`, or None to judge everything. `clear`:
    what must be clear."""

    def decorate(command):
        @functools.wraps(command)
        def run(stop_when, looks, **arguments):
            if stop_when is None and looks is not None:
                raise UsageError("--looks without --stop-when", "looks are for stopping early", "add --stop-when clear")
            planned = None if looks == ANY_TIME else looks or DEFAULT
            return command(stopping=None if stop_when is None else Stopping(planned), **arguments)

        stop = click.option(
            "--stop-when",
            type=click.Choice([CLEAR]),
            help=f"clear: stop judging when {clear}. The same command without this option judges the rest.",
        )
        look = click.option(
            "--looks",
            type=Looks(),
            metavar=f"N|{ANY_TIME}",
            help="How often to look whether it is clear: after each of N equal parts of the prompts "
            f"({FEWEST} to {MOST}), or at any time, which saves more only where the differences are large. "
            f"[default: {DEFAULT}]",
        )
        return stop(look(run))

    return decorate


def judge_parts(judge, parts, looks, clear):
    """Has the parts judged by a `Judging` until `clear(part, verdicts)`: (where it ended, the verdicts)."""
    from harness_plugin.tournament import Stopped

    decided = []

    def enough(number, verdicts):
        decided.append(clear(parts[number], verdicts))
        return decided[-1]

    number, verdicts = judge.until(enough, [part.battles for part in parts], "Judging battles")
    stopped = Stopped(parts[number], parts[-1], looks, number + 1, decided[-1])
    click.echo(_said(stopped), err=True)
    return stopped, verdicts


def _said(stopped) -> str:
    clear = "the result is clear" if stopped.clear else "the result is not clear"
    return (
        f"judged {stopped.part.prompts} of {counted(stopped.whole.prompts, 'prompt')}: {clear}; "
        f"{stopped.saved} of {counted(len(stopped.whole.battles.pairs), 'battle')} saved"
    )
