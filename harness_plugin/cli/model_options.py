"""Options that choose a judge, and say how it judges."""

import functools
from dataclasses import fields

import click

from harness_plugin.cli.options import Number
from harness_plugin.model.naming import CHAT
from harness_plugin.model.spec import ANSWER_TOKENS, CONCURRENCY, DTYPES, KINDS, TIMEOUT, ModelSpec
from harness_plugin.prompt import TRUNCATIONS

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
        type=click.Choice(TRUNCATIONS),
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
        type=click.Choice(DTYPES),
        default="auto",
        show_default=True,
        help="The number format. auto: bfloat16 where the hardware has it, else int16 where the CPU has AVX2 and "
        "there is a C compiler, else float32; int8: faster on CPUs, changed logits by up to 0.16 where measured.",
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
        help="Judge as if both responses were equally long: subtract from each logit what their difference in length "
        "is worth to the judge, as measured when it was calibrated.",
    ),
    click.option(
        "--allow-pickle",
        is_flag=True,
        help="Read adapter_model.bin if there is no safetensors file. It is loaded with weights_only=True.",
    ),
    click.option(
        "--kind",
        type=click.Choice(KINDS),
        help="What the model reads, for one with one logit and without arena_rm.json. pair: two responses at once; "
        "pointwise: one response, in the model's chat template; the score is the difference of two logits. [default: "
        "as arena_rm.json or the adapter's settings say]",
    ),
    click.option(
        "--judge-prompt",
        type=click.Path(),
        metavar="FILE",
        help="For a served chat model: the text around a pair. [default: the one in the package]",
    ),
    click.option(
        "--answer-tokens",
        type=click.IntRange(min=1),
        metavar="N",
        help="For a served chat model: the largest number of tokens of an answer, reasoning included. "
        f"[default: {ANSWER_TOKENS}]",
    ),
    click.option(
        "--concurrency",
        type=click.IntRange(min=1),
        metavar="N",
        help="For a served judge: how many questions are under way at once. "
        f"[default: {CONCURRENCY[CHAT]}; vllm and sglang: {CONCURRENCY['vllm']}]",
    ),
    click.option(
        "--calls-per-minute",
        type=Number(min=0, min_open=True),
        metavar="N",
        help="For a served judge: the largest number of calls in a minute. [default: as the server allows]",
    ),
    click.option(
        "--max-calls",
        type=click.IntRange(min=1),
        metavar="N",
        help="For a served judge: stop after N calls; the same command then continues. [default: no limit]",
    ),
    click.option(
        "--max-tokens",
        type=click.IntRange(min=1),
        metavar="N",
        help="For a served judge: stop after N tokens, read and written; the same command then continues. "
        "[default: no limit]",
    ),
    click.option(
        "--timeout",
        type=Number(min=0, min_open=True),
        metavar="SECONDS",
        help=f"For a served judge: the longest time for one answer. [default: {TIMEOUT:g}]",
    ),
]
SPEC_FIELDS = tuple(field.name for field in fields(ModelSpec))


def model_options(command):
    """Adds the options that choose a judge; the command receives them as one `ModelSpec`, the argument `spec`."""

    @functools.wraps(command)
    def run(**arguments):
        spec = ModelSpec(**{name: arguments.pop(name) for name in SPEC_FIELDS})
        return command(spec=spec, **arguments)

    for option in reversed(MODEL_OPTIONS):
        run = option(run)
    return run


def reword(command: click.Command, **helps: str | None) -> None:
    """Gives options of the command another help text. None leaves an option out of the help: the command refuses it,
    with an error that says what to write instead."""
    options = {option.name: option for option in command.params if isinstance(option, click.Option)}
    for name, text in helps.items():
        options[name].help, options[name].hidden = text, text is None


batch_size_option = click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    metavar="N",
    help="The largest number of sequences in a batch. [default: as many as fit a number of tokens]",
)


def order_option(text: str):
    """The option --order of a command, with what it means there."""
    return click.option("--order", type=click.Choice(["ab", "both"]), default="both", show_default=True, help=text)
