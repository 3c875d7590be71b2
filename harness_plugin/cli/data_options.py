"""Options of what is read: files of pairs and of chatbots' answers, and how many of them."""

import functools
from collections.abc import Mapping, Sequence

import click

from harness_plugin.errors import UsageError
from harness_plugin.files.printable import MOST_LISTED

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
    help="Do not use a column, such as a context that nobody saw with the prompt. Can be given several times.",
)
winner_map_option = click.option(
    "--winner-map",
    "winner_maps",
    multiple=True,
    metavar="WORD=WINNER,...",
    help="What words in the column of winners mean: model_a, model_b, tie or none. Can be given several times.",
)
PAIR_OPTIONS = [
    click.option(
        "--format",
        "format_",
        metavar="NAME",
        help="The format of the file. [default: recognised by its columns]",
    ),
    field_option,
    winner_map_option,
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
            "winner_map": winner_words(winner_maps),
            "ignore": ignored,
            "skip_bad_rows": skip_bad_rows,
        }
        return command(read=functools.partial(_read, options), **arguments)

    for option in reversed(PAIR_OPTIONS):
        run = option(run)
    return run


def named_columns(fields) -> dict[str, str]:
    """Field -> column, of the values of --field. The column is all that follows the first =, spaces too, since a
    column may begin with one. Raises UsageError for one that is not NAME=COLUMN, and for a field with two columns."""
    return _named(
        "--field",
        {item: item.partition("=") for item in fields},
        "a field and its column are needed, with = between them",
        "write for example --field prompt=question",
    )


def winner_words(maps) -> dict[str, str]:
    """Word -> winner, of the values of --winner-map. A word may hold =, since the last one counts; a comma ends it, and
    spaces may stand around it."""
    items = [item for text in maps for item in text.split(",") if item]
    return _named(
        "--winner-map",
        {item: [part.strip() for part in item.rpartition("=")] for item in items},
        "a word and what it means are needed, with = between them",
        'write for example --winner-map "A>B=model_a,B>A=model_b,A=B=tie"',
    )


def _named(option: str, items: Mapping[str, Sequence[str]], why: str, do: str) -> dict[str, str]:
    """Name -> value, of items with their parts (name, =, value). Raises UsageError where the name or the value is
    empty, and for a name with two values."""
    values: dict[str, str] = {}
    for item, (name, _, value) in items.items():
        if not (name and value):
            raise UsageError(f"{option} {item}", why, do)
        if values.setdefault(name, value) != value:
            raise UsageError(f"{option} {name}={values[name]} and {item}", "each name has one value", "leave one out")
    return values


def _read(options, path, **bounds):
    from harness_plugin.pairs import read_pairs

    table = read_pairs(path, **options, **bounds)
    for error in table.skipped[:MOST_LISTED]:
        click.echo(f"left out: {error}", err=True)
    if table.skipped:
        rows = len(table.skipped) + len(table.pairs)
        click.echo(f"{len(table.skipped)} of {rows} rows are bad and were left out", err=True)
    return table.pairs


limit_option = click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="Use only the first N pairs of the file."
)
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
    help="For answer files without prompts: the question.jsonl of Arena-Hard or MT-bench, or the requests of a batch "
    "(OpenAI's API).",
)
ANSWER_COLUMNS = {
    "prompt": "The column of the prompt, in files of your own format. [default: prompt]",
    "response": "The column of the answer. [default: response]",
    "model": "The column of the model's name. [default: model, else the file's name]",
    "category": "The column of the prompt's category. [default: category]",
}


def answer_options(command):
    """Adds the options for reading files of answers; the command receives `gather`, a function from the names of files,
    or of folders of them, to `Answers`. One that has --labels receives `label_fields`, too: the named fields that
    answers do not have, which are of the file of labels."""

    @functools.wraps(command)
    def run(fields, ignored, questions, **arguments):
        named = {name: arguments.pop(f"{name}_field") for name in ANSWER_COLUMNS}
        fields = named_columns([*fields, *(f"{name}={column}" for name, column in named.items() if column is not None)])
        if questions is not None and "prompt" in fields:
            raise UsageError(
                "--questions with a column for the prompt", "the prompts come from one of the two", "leave one out"
            )
        if arguments.get("labels") is not None:
            from harness_plugin.pairs.formats.columns import PROMPT_PARTS
            from harness_plugin.pairs.formats.registry import ANSWER_FIELDS

            of_labels = {name: column for name, column in fields.items() if name not in (*ANSWER_FIELDS, *PROMPT_PARTS)}
            fields = {name: column for name, column in fields.items() if name not in of_labels}
            arguments["label_fields"] = of_labels
        return command(gather=functools.partial(_gather, questions, fields, ignored), **arguments)

    columns = [click.option(f"--{name}-field", metavar="COLUMN", help=text) for name, text in ANSWER_COLUMNS.items()]
    for option in reversed([*columns, field_option, ignore_option, questions_option]):
        run = option(run)
    return run


def _gather(questions, fields, ignored, files):
    from harness_plugin.tournament import find_files, gather

    return gather(find_files(files), questions, fields, ignore=ignored)
