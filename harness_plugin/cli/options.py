"""Options that several commands share."""

import functools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from click.core import ParameterSource

from harness_plugin.errors import UsageError


class Number(click.FloatRange):
    """A range of numbers, without NaN and infinity, which click lets through."""

    def convert(self, value, param, ctx):
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number.", param, ctx)
        return number


MODEL_OPTIONS = [
    click.option(
        "--judge",
        metavar="NAME",
        help="Any judge by one name: embedded, the folder or hub id of an adapter or a whole model, or a served judge: "
        "vllm:URL or sglang:URL (with --peft or --pretrained for the tokenizer), openai:URL#MODEL, systemone:URL. "
        "[default: embedded]",
    ),
    click.option(
        "--pretrained",
        metavar="ID|DIR",
        help="The base model, or without --peft a whole judge: a folder, or its id on the hub. [default: the base of "
        "the adapter]",
    ),
    click.option(
        "--peft",
        metavar="ID|DIR",
        help="The adapter: a folder, or its id on the hub. [default: the one in the package, if there is no "
        "--pretrained]",
    ),
    click.option("--revision", metavar="NAME", help="The revision of the base model on the hub."),
    click.option(
        "--truncation",
        type=click.Choice(["budget", "card"]),
        help="How a long text is cut. budget: prompt and answers share the length; card: the end is cut off, as on the "
        "reference model card. [default: as the adapter was trained]",
    ),
    click.option(
        "--max-length",
        type=int,
        metavar="N",
        help="The largest number of tokens of a presentation. [default: as the adapter was trained]",
    ),
    click.option(
        "--dtype",
        type=click.Choice(["auto", "float32", "bfloat16", "float16", "int8", "int16"]),
        default="auto",
        show_default=True,
        help="The number format. auto: bfloat16 where the hardware has it, else int16 where the CPU has AVX2, else "
        "float32; int8: faster on CPUs, changes logits by about 0.02.",
    ),
    click.option(
        "--device", metavar="NAME", help="The device: cpu, cuda, cuda:1, ... [default: a GPU if there is one]"
    ),
    click.option(
        "--threads",
        type=click.IntRange(min=1),
        metavar="N",
        help="The number of CPU threads that compute. [default: OMP_NUM_THREADS, else one for each CPU that this "
        "process may use]",
    ),
    click.option(
        "--temperature",
        type=float,
        metavar="T",
        help="Divide logits by this number. [default: from the adapter's calibration]",
    ),
    click.option(
        "--tie-nu",
        type=float,
        metavar="NU",
        help="Davidson's tie mass; 0 means that there are no ties. [default: from the adapter's calibration]",
    ),
    click.option(
        "--merge/--no-merge",
        default=True,
        show_default=True,
        help="Add the adapter's weights to the base's before scoring, or keep them apart, which is slower.",
    ),
    click.option(
        "--deterministic",
        is_flag=True,
        help="Score each presentation alone, so that other pairs do not change the last digits of its logit.",
    ),
    click.option(
        "--length-control",
        is_flag=True,
        help="Verdicts at equal length: take off each logit what length alone is worth to the judge, as measured when "
        "it was calibrated.",
    ),
    click.option(
        "--allow-pickle",
        is_flag=True,
        help="Read adapter_model.bin if there is no safetensors file. It is loaded with weights_only=True.",
    ),
    click.option(
        "--kind",
        type=click.Choice(["pair", "pointwise"]),
        help="What a model of one logit without arena_rm.json reads. pair: two responses at once; pointwise: one "
        "response, in the model's chat template, and the logits of two responses are subtracted. [default: as "
        "arena_rm.json or the adapter's settings say]",
    ),
    click.option(
        "--judge-prompt",
        type=click.Path(),
        metavar="FILE",
        help="Of a served chat model: the text around a pair. [default: the one in the package]",
    ),
    click.option(
        "--answer-tokens",
        type=click.IntRange(min=1),
        metavar="N",
        help="Of a served chat model: the largest number of tokens of an answer, reasoning included. [default: 4096]",
    ),
    click.option(
        "--concurrency",
        type=click.IntRange(min=1),
        metavar="N",
        help="Of a served judge: questions under way at once. [default: 8; vllm and sglang: 16]",
    ),
    click.option(
        "--calls-per-minute",
        type=Number(min=0, min_open=True),
        metavar="N",
        help="Of a served judge: the largest number of calls in a minute. [default: as the server allows]",
    ),
    click.option(
        "--max-calls",
        type=click.IntRange(min=1),
        metavar="N",
        help="Of a served judge: stop after N calls; the same command then continues. [default: no limit]",
    ),
    click.option(
        "--max-tokens",
        type=click.IntRange(min=1),
        metavar="N",
        help="Of a served judge: stop after N tokens, read and written; the same command then continues. "
        "[default: no limit]",
    ),
    click.option(
        "--timeout",
        type=Number(min=0, min_open=True),
        metavar="SECONDS",
        help="Of a served judge: the longest time for one answer. [default: 120]",
    ),
]
SPEC_FIELDS = (
    "judge",
    "pretrained",
    "peft",
    "revision",
    "truncation",
    "max_length",
    "dtype",
    "device",
    "threads",
    "temperature",
    "tie_nu",
    "merge",
    "deterministic",
    "length_control",
    "allow_pickle",
    "kind",
    "judge_prompt",
    "answer_tokens",
    "concurrency",
    "calls_per_minute",
    "max_calls",
    "max_tokens",
    "timeout",
)


def model_options(command):
    """Adds the options that choose a judge; the command receives them as one `ModelSpec`, the argument `spec`."""

    @functools.wraps(command)
    def run(**arguments):
        from harness_plugin.model import ModelSpec

        spec = ModelSpec(**{name: arguments.pop(name) for name in SPEC_FIELDS})
        return command(spec=spec, **arguments)

    for option in reversed(MODEL_OPTIONS):
        run = option(run)
    return run


def given(*names: str) -> list[str]:
    """Those of these parameters of the running command that the user gave, spelled as options."""
    context = click.get_current_context()
    return [
        option.opts[0]
        for option in context.command.params
        if option.name in names and context.get_parameter_source(option.name) is not ParameterSource.DEFAULT
    ]


field_option = click.option(
    "--field",
    "fields",
    multiple=True,
    metavar="NAME=COLUMN",
    help="Read the field NAME, such as prompt, from another column, in any format. Can be given several times.",
)
ignore_option = click.option(
    "--ignore",
    "ignored",
    multiple=True,
    metavar="COLUMN",
    help="Leave a column alone, such as a context that nobody read with the prompt. Can be given several times.",
)
PAIR_OPTIONS = [
    click.option(
        "--format",
        "format_",
        metavar="NAME",
        help="The format of the file. [default: recognised by its columns]",
    ),
    field_option,
    click.option(
        "--winner-map",
        "winner_maps",
        multiple=True,
        metavar="WORD=WINNER,...",
        help="What words in the column of winners mean: model_a, model_b, tie or none. Can be given several times.",
    ),
    ignore_option,
    click.option("--skip-bad-rows", is_flag=True, help="Leave out bad rows and list them, instead of stopping."),
]

PAIR_FIELDS = ("format_", "fields", "winner_maps", "ignored", "skip_bad_rows")


def pair_options(command):
    """Adds the options for reading pairs; the command receives `read`, a function from a path, and maybe the `limit` or
    `until` of `read_pairs`, to pairs."""

    @functools.wraps(command)
    def run(format_, fields, winner_maps, ignored, skip_bad_rows, **arguments):
        options = {
            "format": format_,
            "fields": named_columns(fields),
            "winner_map": _winner_map(winner_maps),
            "ignore": ignored,
            "skip_bad_rows": skip_bad_rows,
        }
        return command(read=functools.partial(_read, options), **arguments)

    for option in reversed(PAIR_OPTIONS):
        run = option(run)
    return run


def named_columns(fields) -> dict[str, str]:
    """Field -> column, of the values of --field. Raises UsageError for one that is not NAME=COLUMN, and for a field
    with two columns."""
    return _named(
        "--field",
        fields,
        str.partition,
        "a field and its column are needed, with = between them",
        "write for example --field prompt=question",
    )


def _winner_map(maps) -> dict[str, str]:
    """Word -> winner, of the values of --winner-map. A word may hold =, since the last one counts; a comma ends it."""
    items = [item for text in maps for item in text.split(",") if item]
    return _named(
        "--winner-map",
        items,
        str.rpartition,
        "a word and what it means are needed, with = between them",
        'write for example --winner-map "A>B=model_a,B>A=model_b,A=B=tie"',
    )


def _named(option: str, items, split, why: str, do: str) -> dict[str, str]:
    """Name -> value, of items that `split` parts at their =. Raises UsageError where the name or the value is empty,
    and for a name with two values."""
    values: dict[str, str] = {}
    for item in items:
        name, _, value = (part.strip() for part in split(item, "="))
        if not (name and value):
            raise UsageError(f"{option} {item}", why, do)
        if values.setdefault(name, value) != value:
            raise UsageError(
                f"{option} {name}={values[name]} and {item}", "a name stands for one thing", "leave one out"
            )
    return values


def _read(options, path, **bounds):
    from harness_plugin.pairs import read_pairs

    table = read_pairs(path, **options, **bounds)
    for error in table.skipped[:20]:
        click.echo(f"left out: {error}", err=True)
    if table.skipped:
        rows = len(table.skipped) + len(table.pairs)
        click.echo(f"{len(table.skipped)} of {rows} rows are bad and were left out", err=True)
    return table.pairs


batch_size_option = click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    metavar="N",
    help="The largest number of sequences in a batch. [default: as many as fit a number of tokens]",
)
limit_option = click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="Use only the first N pairs of the file."
)
plots_option = click.option(
    "--plots/--no-plots", default=True, show_default=True, help="Also draw pictures as PNG files (needs matplotlib)."
)


def order_option(text: str):
    """The option --order of a command, with what it means there."""
    return click.option("--order", type=click.Choice(["ab", "both"]), default="both", show_default=True, help=text)


prompts_option = click.option(
    "--prompts",
    type=click.IntRange(min=1),
    metavar="N",
    help="Use only N prompts, chosen by a hash of their text. [default: all]",
)
questions_option = click.option(
    "--questions",
    type=click.Path(),
    metavar="FILE",
    help="The question.jsonl of Arena-Hard, for answer files without prompts.",
)


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


def log_to_stderr() -> None:
    """Prints the log of the package (device, dtype, settings) as plain lines on stderr."""
    import logging

    class Echo(logging.Handler):
        def emit(self, record):
            click.echo(self.format(record), err=True)  # to the stderr of this moment, which tests replace

    log = logging.getLogger("lm_eval.arena_rm")
    if not log.handlers:
        handler = Echo()
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        log.propagate = False
