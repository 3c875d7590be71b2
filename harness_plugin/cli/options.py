"""Options that several commands share, said once."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from harness_plugin.errors import UsageError

MODEL_OPTIONS = [
    click.option("--pretrained", metavar="ID|DIR", help="Base model [default: the embedded Gemma 3 270M]."),
    click.option("--peft", metavar="ID|DIR", help="Adapter; alone, its config names the base [default: embedded]."),
    click.option("--revision", help="Revision of the base on the hub."),
    click.option("--truncation", type=click.Choice(["budget", "card"]), help="[default: as the adapter was trained]"),
    click.option("--max-length", type=int, metavar="N", help="Tokens per presentation [default: as trained]."),
    click.option(
        "--dtype",
        type=click.Choice(["auto", "float32", "bfloat16", "float16", "int8"]),
        default="auto",
        show_default=True,
        help="int8: faster on CPUs, logits off by some 0.02.",
    ),
    click.option("--device", metavar="NAME", help="cpu, cuda, cuda:1 ... [default: the best there is]"),
    click.option("--temperature", type=float, help="Divide logits by this [default: the adapter's calibration]."),
    click.option(
        "--tie-nu", type=float, help="Davidson's tie mass, 0 for no ties [default: the adapter's calibration]."
    ),
    click.option(
        "--merge/--no-merge",
        default=True,
        show_default=True,
        help="Fold the adapter into the base, in float32; apart, scoring is transformers' own, and slower.",
    ),
    click.option("--deterministic", is_flag=True, help="Score each presentation alone: the same bits in any company."),
    click.option(
        "--allow-pickle", is_flag=True, help="Read adapter_model.bin (with weights_only) if there is no other."
    ),
]
SPEC_FIELDS = (
    "pretrained",
    "peft",
    "revision",
    "truncation",
    "max_length",
    "dtype",
    "device",
    "temperature",
    "tie_nu",
    "merge",
    "deterministic",
    "allow_pickle",
)


def model_options(command):
    """Adds the options that name a judge; the command receives them as one `spec`."""

    @functools.wraps(command)
    def run(**given):
        from harness_plugin.model import ModelSpec

        spec = ModelSpec(**{name: given.pop(name) for name in SPEC_FIELDS})
        return command(spec=spec, **given)

    for option in reversed(MODEL_OPTIONS):
        run = option(run)
    return run


PAIR_OPTIONS = [
    click.option("--format", "format_", metavar="NAME", help="The file's format [default: told from its columns]."),
    click.option(
        "--field", "fields", multiple=True, metavar="NAME=COLUMN", help="Read NAME from a column of your own."
    ),
    click.option("--skip-bad-rows", is_flag=True, help="Leave out bad rows and list them, instead of stopping."),
]


def pair_options(command):
    """Adds the options of reading pairs; the command receives `read`, a function from a path to pairs."""

    @functools.wraps(command)
    def run(format_, fields, skip_bad_rows, **given):
        return command(read=functools.partial(_read, format_, fields, skip_bad_rows), **given)

    for option in reversed(PAIR_OPTIONS):
        run = option(run)
    return run


def _read(format_, fields, skip_bad_rows, path):
    from harness_plugin.pairs import read_pairs

    columns = dict(item.partition("=")[::2] for item in fields)
    if not all(columns.values()):
        raise UsageError(
            f"--field {' '.join(fields)}", "a name and a column are needed", "write --field prompt=question"
        )
    found = read_pairs(path, format=format_, skip_bad_rows=skip_bad_rows, fields=columns or None)
    for error in found.skipped[:20]:
        click.echo(f"left out: {error}", err=True)
    if found.skipped:
        click.echo(f"{len(found.skipped)} bad rows left out of {len(found.skipped) + len(found.pairs)}", err=True)
    return found.pairs


def cache_options(default: bool):
    """Adds the options of the score cache, on or off by `default`; the command receives `cache_file`, a path, or None
    for no cache. Naming a file asks for it."""
    options = [
        click.option(
            "--cache/--no-cache",
            default=None,
            help=f"Keep scores by content, and use them again. [default: {'on' if default else 'off'}]",
        ),
        click.option("--cache-file", metavar="PATH", help="Where [default: scores.sqlite in arena-rm's home folder]."),
    ]

    def added(command):
        @functools.wraps(command)
        def run(cache, cache_file, **given):
            if cache is False and cache_file:
                raise UsageError("--no-cache with --cache-file", "one of them is not meant", "leave one out")
            on = bool(cache_file) or (default if cache is None else cache)
            return command(cache_file=Path(cache_file or default_cache()) if on else None, **given)

        for option in reversed(options):
            run = option(run)
        return run

    return added


@contextmanager
def opened_cache(cache_file: Path | None) -> Iterator:
    """The cache in the file, or None; what it gave is said at the end. To be opened before the model is loaded, so that
    a file that is no cache is refused early."""
    if cache_file is None:
        yield None
        return
    from harness_plugin.scoring.store import ScoreCache

    with ScoreCache(cache_file) as cache:
        yield cache
        click.echo(cache.summary(), err=True)


def default_cache() -> Path:
    """Where scores are kept if nobody says otherwise."""
    from harness_plugin.files.home import home
    from harness_plugin.scoring.store import FILE_NAME

    return home() / FILE_NAME


def log_to_stderr() -> None:
    """Notes of the rooms (device, dtype, settings) as plain lines on stderr."""
    import logging

    class Echo(logging.Handler):
        def emit(self, record):
            click.echo(self.format(record), err=True)  # to the stderr of now, whatever it was when this was made

    log = logging.getLogger("lm_eval.arena_rm")
    if not log.handlers:
        handler = Echo()
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        log.propagate = False
