"""Where the time of a training step on packs goes on a GPU, calculated from the shapes and not measured.

    python benchmarks/train_model.py [--shape gemma-2b] [--batch 16] [--tokens 512] [--lora all] [--dropout]

For each kind of kernel of a forward and a backward pass: the FLOP of its matrix products, and the bytes that it reads
and writes in the memory of the GPU with the dtypes of `train/packed.py`. Its time is the larger of two: FLOP divided by
the rate of products, bytes divided by the rate of memory. "step by step" is the code as it is written, "compiled" with
the elementwise steps fused by torch.compile, as a longer run has it. Both assume that the GPU never waits for the CPU.

The defaults are one H100: 713 TFLOP/s is the rate that `benchmarks/train.py` measured for products of these shapes
there, 150 TFLOP/s is a guess for flash attention with heads of 256, and 2.7 TB/s is 80% of the card's 3.35.

"counted" are the FLOP of `benchmarks/train.py`, from which it gives TFLOP/s: 4 for each token and frozen weight
(forward, and the gradient of the input; frozen weights have no gradient, so this is two thirds of full training) and 6
for each LoRA weight. Attention scores are not counted. The last layer is counted for all tokens, although only the last
token of each sequence goes through its attention, its output matrix and its MLP.

Letters in the comments on shapes are those of `harness_plugin/engine/decoder.py`.
"""

from dataclasses import dataclass

import click
from shape import SHAPES

RANK = 16
HALF, WIDE, MASK = 2, 4, 1  # bytes of a value in bfloat16 and float32, and of a value of a dropout mask


@dataclass(frozen=True)
class Matrix:
    """Layers that read the same rows and are joined: the width of their input, and the widths of their outputs."""

    reads: int
    writes: tuple[int, ...]
    in_attention: bool

    @property
    def weights(self) -> int:
        return self.reads * sum(self.writes)


@dataclass(frozen=True)
class Kind:
    """One kind of kernel in a step: its FLOP, and the bytes that it moves step by step and compiled."""

    name: str
    flop: float
    eager: float
    fused: float


def matrices(shape: dict) -> list[Matrix]:
    """The joined matrices of a layer, in the order in which they are used."""
    width, inner = shape["hidden_size"], shape["intermediate_size"]
    queries, keys = (shape[f"num_{name}_heads"] * shape["head_dim"] for name in ("attention", "key_value"))
    return [
        Matrix(width, (queries, keys, keys), True),
        Matrix(queries, (width,), True),
        Matrix(width, (inner, inner), False),
        Matrix(inner, (width,), False),
    ]


def counted_flop(shape: dict, rows: int, everywhere: bool) -> float:
    """The FLOP that `benchmarks/train.py` counts for a step over so many rows."""
    joined = matrices(shape)
    lora = sum(RANK * (m.reads + out) for m in joined for out in m.writes if m.in_attention or everywhere)
    return shape["num_hidden_layers"] * rows * (4.0 * sum(m.weights for m in joined) + 6.0 * lora)


def rows_through(shape: dict, matrix: Matrix, rows: int, members: int) -> int:
    """How many rows go through a matrix in all layers together.

    After its attention, the last layer computes only the last token of each of the `members` sequences.
    """
    layers = shape["num_hidden_layers"]
    return rows * layers if matrix == matrices(shape)[0] else rows * (layers - 1) + members


def products(shape: dict, rows: int, members: int) -> list[Kind]:
    """The products with frozen matrices. Their bytes are those of the rows and of the weights, once each."""
    forward = moved = 0.0
    for m in matrices(shape):
        through = rows_through(shape, m, rows, members)
        forward += 2.0 * m.weights * through
        moved += HALF * (through * (m.reads + sum(m.writes)) + m.weights * shape["num_hidden_layers"])
    unneeded = 2.0 * matrices(shape)[0].weights * rows  # nothing below the first layer is trained
    return [
        Kind("frozen matrices, forward", forward, moved, moved),
        Kind("frozen matrices, gradient of the input", forward - unneeded, moved, moved),
    ]


def lora(shape: dict, rows: int, members: int, everywhere: bool, dropout: bool) -> Kind:
    """The products with A and B and their gradients, all of which are bound by memory.

    Forward: x is read for the low-rank activations, and the outputs are read and written when B's product is added.
    Backward: dy is read twice (for dlow and dB), x once (for dA), and dx is read and written. With dropout each layer
    has rows of its own: its mask is written, the dropped rows are made in both passes, and what it adds to dx is
    masked.
    """
    adapted = [m for m in matrices(shape) if m.in_attention or everywhere]
    flop = moved = 0.0
    for m in adapted:
        out, reads, through = sum(m.writes), m.reads * len(m.writes), rows_through(shape, m, rows, members)
        flop += 6.0 * through * RANK * (out + reads)
        moved += through * HALF * (2 * out + 2 * out)
        if dropout:
            made = MASK + HALF + HALF  # read the mask and x, write x * mask
            forward = MASK + made + HALF  # write the mask, make the dropped rows, read them
            backward = made + HALF + HALF + (HALF + MASK + 2 * HALF)  # again; write dlow A, add it masked to dx
            moved += through * reads * (forward + backward)
        else:
            moved += through * m.reads * HALF * (1 + 1 + 2)
    flop -= 2.0 * rows * RANK * adapted[0].reads * len(adapted[0].writes)  # the first layer has no dx
    return Kind(f"LoRA, r={RANK}" + (", with dropout" if dropout else ""), flop, moved, moved)


def elementwise(shape: dict, rows: int) -> list[Kind]:
    """Steps without products. The numbers are bytes for each value, forward and then backward, in the order of the
    operations that `engine/ops.py` has."""
    full = shape["num_hidden_layers"] - 1
    norms = 2 * full * rows * shape["hidden_size"]
    heads = shape["num_attention_heads"] + shape["num_key_value_heads"]
    turned = shape["num_hidden_layers"] * rows * heads * shape["head_dim"]
    inner = full * rows * shape["intermediate_size"]
    # y to float32; add to the residual; norm; to bfloat16. Backward: to float32; norm; add to the gradient; to bfloat16
    norm_eager = (6 + 12 + 8 + 6) + (6 + 12 + 12 + 6)
    # read y and residual, write residual and x. Backward: read the residual and two gradients, write two gradients
    norm_fused = (HALF + WIDE + WIDE + HALF) + (WIDE + WIDE + HALF + WIDE + HALF)
    # to float32; four products of halves; two sums of halves; joined; to bfloat16. Backward also a sign and sums
    turn_eager = (6 + 16 + 12 + 8 + 6) + (6 + 16 + 4 + 12 + 8 + 6)
    # read and write once. Backward: the same, and q, k and v joined again
    turn_fused = 2 * HALF + 2 * HALF + 2 * HALF
    # GELU; product. Backward: two products; GELU; both halves joined
    gate_eager = (4 + 6) + (6 + 6 + 6 + 8)
    # read gate and up, write. Backward: read gate, up and the gradient, write two gradients
    gate_fused = 3 * HALF + 5 * HALF
    return [
        Kind("gated MLP, elementwise", 0, inner * gate_eager, inner * gate_fused),
        Kind("norms and residual stream, float32", 0, norms * norm_eager, norms * norm_fused),
        Kind("rotary embedding", 0, turned * turn_eager, turned * turn_fused),
    ]


def attention(shape: dict, rows: int, length: int) -> list[Kind]:
    """Causal flash attention: two products of half the scores forward, five backward, which also computes them again.

    q, k, v and the output are moved once forward; backward also their gradients, and that of q is summed in float32.
    """
    full, size = shape["num_hidden_layers"] - 1, shape["head_dim"]
    queries, keys = shape["num_attention_heads"], shape["num_key_value_heads"]
    one = full * rows * queries * size * (length + 1.0)  # FLOP of one product
    forward = full * rows * size * HALF * (2 * queries + 2 * keys)
    backward = 2 * forward + full * rows * size * queries * 2 * WIDE
    return [
        Kind("attention, forward", 2 * one, forward, forward),
        Kind("attention, backward", 5 * one, backward, backward),
    ]


def kept(shape: dict, everywhere: bool, dropout: bool) -> float:
    """The bytes of activations that are kept for the backward pass for each token, in all layers but the last, compiled
    and without gradient checkpointing. Weights and what does not grow with the tokens are left out."""
    width, inner, size = (shape[name] for name in ("hidden_size", "intermediate_size", "head_dim"))
    queries, keys = shape["num_attention_heads"], shape["num_key_value_heads"]
    adapted = [m for m in matrices(shape) if m.in_attention or everywhere]
    norms = 2 * (width + 1) * WIDE  # the residual stream before each norm, and the inverse of its size
    turned = (queries + 2 * keys) * size * HALF + size * WIDE  # q, k, v; cos and sin
    others = queries * WIDE + 2 * inner * HALF  # sizes of the softmax; gate and up
    rows = HALF * sum(m.reads + RANK * len(m.writes) for m in adapted)  # x and x A'
    masks = MASK * sum(m.reads * len(m.writes) for m in adapted) if dropout else 0
    return (shape["num_hidden_layers"] - 1) * (norms + turned + others + rows + masks)


def step(shape: dict, batch: int, length: int, everywhere: bool, dropout: bool) -> list[Kind]:
    """All kinds of kernels of a forward and a backward pass over `batch` sequences of `length` tokens.

    The embedding, the optimizer and what the last layer does for its few rows are left out: together under a
    millisecond on an H100.
    """
    rows = batch * length
    return [
        *products(shape, rows, batch),
        lora(shape, rows, batch, everywhere, dropout),
        *elementwise(shape, rows),
        *attention(shape, rows, length),
    ]


@click.command()
@click.option("--shape", type=click.Choice(["gemma-2b", "gemma-7b", "llama-3.2-1b"]), default="gemma-2b")
@click.option("--batch", default=16, show_default=True, help="Sequences in a pack.")
@click.option("--tokens", default=512, show_default=True, help="Tokens of each sequence.")
@click.option("--lora", "where", type=click.Choice(["attention", "all"]), default="attention", show_default=True)
@click.option("--dropout", is_flag=True, help="LoRA with dropout.")
@click.option("--peak", default=989.0, show_default=True, help="TFLOP/s of the card in bfloat16, by its data sheet.")
@click.option("--product-rate", default=713.0, show_default=True, help="TFLOP/s of large matrix products.")
@click.option("--attention-rate", default=150.0, show_default=True, help="TFLOP/s of flash attention.")
@click.option("--memory-rate", default=2.7, show_default=True, help="TB/s.")
def main(shape, batch, tokens, where, dropout, peak, product_rate, attention_rate, memory_rate):
    totals = [0.0, 0.0]
    click.echo("| kind of kernel | TFLOP | GB step by step | GB compiled | ms step by step | ms compiled |")
    click.echo("|---|---:|---:|---:|---:|---:|")
    for kind in step(SHAPES[shape], batch, tokens, where == "all", dropout):
        rate = attention_rate if kind.name.startswith("attention") else product_rate
        ms = [1e3 * max(kind.flop / (rate * 1e12), moved / (memory_rate * 1e12)) for moved in (kind.eager, kind.fused)]
        totals = [total + part for total, part in zip(totals, ms, strict=True)]
        click.echo(
            f"| {kind.name} | {kind.flop / 1e12:.1f} | {kind.eager / 1e9:.1f} | {kind.fused / 1e9:.1f} "
            f"| {ms[0]:.1f} | {ms[1]:.1f} |"
        )
    click.echo(f"| all | | | | {totals[0]:.1f} | {totals[1]:.1f} |\n")
    memory = kept(SHAPES[shape], where == "all", dropout)
    whole = memory * batch * tokens
    click.echo(f"kept for the backward pass, compiled: {memory / 1e6:.2f} MB a token, {whole / 1e9:.1f} GB")
    counted = counted_flop(SHAPES[shape], batch * tokens, where == "all")
    click.echo(f"counted: {counted / 1e12:.1f} TFLOP, {1e-9 * counted / product_rate:.1f} ms at the rate of products")
    for name, total in zip(("step by step", "compiled"), totals, strict=True):
        rate = counted / total / 1e9
        click.echo(
            f"{name}: {1e3 * batch * tokens / total:.0f} tokens/s, {rate:.0f} TFLOP/s, {rate / peak:.0%} of peak"
        )


if __name__ == "__main__":
    main()
