"""`arena-rm label`: a page on which people vote on battles, and what comes back from it."""

from pathlib import Path

import click

from harness_plugin.cli.data_options import PAIR_FIELDS, pair_options
from harness_plugin.cli.label_plan import print_plan
from harness_plugin.cli.options import Number, given, log_to_stderr
from harness_plugin.errors import UsageError
from harness_plugin.files.printable import counted

PAGE, LABELS = "label.html", "labels.jsonl"
OF_A_DRAW = ("n", "seed", "kind", "scores")


@click.command("label")
@click.argument("files", nargs=-1, required=True, type=click.Path())
@click.option("--n", "n", type=click.IntRange(min=1), default=100, show_default=True, help="How many battles to draw.")
@click.option("--seed", type=int, default=0, show_default=True, help="The seed of the draw and of all orders.")
@click.option(
    "--design",
    "kind",
    type=click.Choice(["uniform", "confidence"]),
    default="uniform",
    show_default=True,
    help="uniform: every battle is drawn with the same probability; confidence: battles that the judge finds close "
    "are drawn more often.",
)
@click.option(
    "--scores",
    type=click.Path(),
    metavar="FILE",
    help="With a file of pairs: what `arena-rm score` wrote about it, for the judge's confidence.",
)
@click.option(
    "--plan",
    type=Number(0, 0.5, min_open=True, max_open=True),
    metavar="WIDTH",
    help="Print how many labels are needed for an interval of ±WIDTH around each chatbot's win rate for people, as "
    "estimated from the labels so far (--labels).",
)
@click.option("--labels", type=click.Path(), metavar="FILE", help="With --plan: the labels so far, about 50 or more.")
@click.option(
    "--merge",
    is_flag=True,
    help="FILES are the votes that annotators saved: write them into one file, and say how well they agree.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    metavar="FILE",
    help=f"The page, beside which its design is stored, or with --merge the labels. [default: {PAGE}, {LABELS}]",
)
@pair_options
def command(files, n, seed, kind, scores, plan, labels, merge, output, read):
    """Let people vote on battles, without a server: make one HTML page, and read what they send back.

    FILES is a folder of `arena-rm judge` or a file of pairs. Which battles are on the page is drawn with known
    probabilities; the draw is stored beside the page, in a file that ends in .design.jsonl, before anybody votes.
    Annotators open the page in a browser, vote, and save a file of their votes, which every command reads as pairs
    (`arena-rm judge --labels`).

    With --merge, FILES are the files of several annotators. They become one, and a table says how well the annotators
    agree. With --plan, FILES is a folder of `arena-rm judge`, and nothing is drawn: the command prints how many labels
    an interval of that width takes.

    \b
    Example: arena-rm label judged --n 100 -o label.html
             arena-rm label --merge votes-ann.jsonl votes-bob.jsonl -o labels.jsonl
             arena-rm label judged --plan 0.05 --labels labels.jsonl

    Exit codes: 0 done, 2 wrong usage, 3 bad data.
    """
    log_to_stderr()
    if labels is not None and plan is None:
        raise UsageError("--labels without --plan", "a page needs no labels", "give --plan WIDTH, or leave it out")
    if plan is not None and (merge or len(files) > 1):
        raise UsageError("--plan with --merge or several files", "a plan is for one run", "name one folder")
    if plan is not None:
        _refuse_ignored("--plan", "nothing is drawn", *OF_A_DRAW, "output")
        print_plan(files[0], plan, labels, read)
        return
    if merge:
        _refuse_ignored("--merge", "nothing is drawn, and files of votes have one format", *OF_A_DRAW, *PAIR_FIELDS)
        _merge(files, output or LABELS)
        return
    if len(files) > 1:
        found = f"{len(files)} files without --merge"
        raise UsageError(found, "a page shows battles of one folder or file", "name one, or give --merge")
    _make_page(files[0], read, scores, n, seed, kind, Path(output or PAGE))


def _refuse_ignored(beside: str, why: str, *names: str) -> None:
    """Raises UsageError where the user gave one of these parameters, which have no effect beside another."""
    if ignored := given(*names):
        raise UsageError(f"{ignored[0]} with {beside}", f"it has no effect there: {why}", "leave it out")


def _make_page(source, read, scores, n, seed, kind, page) -> None:
    from harness_plugin import label
    from harness_plugin.files import atomic_write
    from harness_plugin.report.label_page import label_page

    if page.suffix != ".html":
        raise UsageError(f"-o {page}", "the page is an HTML file", "give it a name that ends in .html")
    if Path(source).is_dir():
        _refuse_ignored("a folder", "the folder has its answers and verdicts", "scores", *PAIR_FIELDS)
        candidates = label.candidates_of_folder(Path(source))
    else:
        candidates = label.candidates_of_pairs(read(source), scores)
    design = label.draw(candidates, n, seed, kind)
    page.parent.mkdir(parents=True, exist_ok=True)
    label.store(design, label.design_path(page))
    with atomic_write(page) as out:
        out.write(label_page(design))
    drawn = len(design.drawn)
    click.echo(
        f"{drawn} of {len(candidates)} battles are on {page}; the draw is in {label.design_path(page)}", err=True
    )
    if drawn < n:
        click.echo(f"There are only {drawn} battles between different answers: all are on the page.", err=True)


def _merge(files, output) -> None:
    from harness_plugin import label
    from harness_plugin.files import atomic_write
    from harness_plugin.report.label_text import agreement_text

    votes = label.merged([label.read_votes(file) for file in files])
    label.check_replaced(output, votes)
    label.say_lookalikes(votes)
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(output) as out:
        out.write(label.merged_text(votes))
    click.echo(agreement_text(label.annotators(votes), label.agreement(votes)))
    click.echo(f"{output} has {counted(len(votes), 'vote')}", err=True)
