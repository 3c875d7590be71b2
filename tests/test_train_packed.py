"""Training on packs beside training on padded batches: the same logits, the same gradients, the same run."""

import random
import shutil

import pytest
import tiny
import torch
from training_runs import lesson, losses, recipe

from harness_plugin.engine.packing import pack_of
from harness_plugin.engine.shape import Heads
from harness_plugin.pairs import write_pairs
from harness_plugin.train import attention, run
from harness_plugin.train.loss import collate, collate_packed
from harness_plugin.train.network import build
from harness_plugin.train.packed import AdaptedLinear, LoraOps, can_pack, pack

CPU = torch.device("cpu")
EVERY = ("lora.target_modules=all-linear", "lora.lora_dropout=0", "precision=float32")
compiler = pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")), reason="torch.compile needs a C++ compiler"
)


def network_of(base, *more):
    """A fresh network whose LoRA is not zero."""
    network = build(recipe("card", base, *EVERY, *more), str(base))
    for name, parameter in network.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return network


@pytest.fixture
def sequences():
    draw = random.Random(1)
    stem, other = ([2, *draw.choices(range(10, 600), k=n)] for n in (20, 90))
    return [stem + draw.choices(range(10, 600), k=n) for n in (30, 11, 50, 1)] + [other, other[:40] + stem]


def gradients(network, weights, **inputs):
    """The logits in the pack's order or the batch's, and what their weighted sum moves."""
    network.zero_grad()
    pack = inputs.get("pack")
    logits = network(**inputs).logits
    logits = logits if pack is None else logits[torch.tensor(pack.members, device=logits.device).argsort()]
    (logits * weights.to(logits.device)).sum().backward()
    moved = {name: p.grad.float().cpu() for name, p in network.named_parameters() if p.requires_grad}
    return logits.detach().float().cpu(), moved


def packs(sequences):
    whole = pack_of(sequences)
    assert len(whole.ids) < sum(map(len, sequences))  # what is shared stands once
    return {"input_ids": torch.from_numpy(whole.ids), "pack": whole}


@pytest.mark.parametrize("padding", [3, None])
def test_in_a_padded_batch_each_sequence_has_the_logits_that_it_has_alone(sequences, tmp_path, padding):
    network = network_of(tiny.save_base("llama", tmp_path, pad_token_id=padding)).eval()
    rows = [{"input_ids": ids, "labels": [0.5, 0.5], "offset": 0.0} for ids in sequences]
    batch = collate(rows, padding=network.config.get_text_config().pad_token_id)["input_ids"]
    with torch.no_grad():
        alone = torch.cat([network(torch.tensor([ids])).logits for ids in sequences])
        assert torch.allclose(network(batch).logits, alone, atol=1e-5) and alone.std() > 0.05


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", tiny.DECODERS)
def test_a_pack_has_the_padded_batchs_logits_and_gradients(tiny_base, sequences, kind, checkpointing):
    network = network_of(tiny_base(kind))
    weights = torch.linspace(-1, 1, len(sequences))[:, None]
    batch = collate([{"input_ids": ids, "labels": [0.5, 0.5], "offset": 0.0} for ids in sequences], padding=0)
    padded, expected = gradients(network, weights, **{k: batch[k] for k in ("input_ids", "attention_mask")})
    pack(network, checkpointing=checkpointing)
    packed, found = gradients(network, weights, **packs(sequences))
    assert packed.std() > 0.05 and torch.allclose(packed, padded, atol=1e-5)
    assert {n.split(".")[-4] for n in found if "lora" in n} >= {"q_proj", "o_proj", "down_proj"}
    for name, gradient in found.items():
        assert torch.allclose(gradient, expected[name], atol=1e-5 * float(expected[name].abs().max())), name


def test_dropout_drops_in_training_alone_and_by_each_adapter(tiny_base, sequences):
    network = network_of(tiny_base("gemma"), "lora.lora_dropout=0.5", "lora.target_modules=[q_proj, v_proj, up_proj]")
    assert can_pack(network, CPU)
    pack(network)
    weights, whole = torch.linspace(-1, 1, len(sequences))[:, None], packs(sequences)
    made = []
    for p, training in ((0.0, True), (1e-12, True), (0.5, True), (0.5, True), (0.5, False)):
        for module in network.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = p
        network.train(training)
        made.append(gradients(network, weights, **whole))
    (plain, expected), (apart, found), *dropped, (judged, _) = made
    assert torch.allclose(plain, apart, atol=1e-5) and torch.allclose(plain, judged, atol=1e-5)
    assert all(torch.allclose(found[n], expected[n], atol=1e-5 * float(expected[n].abs().max())) for n in expected)
    assert not torch.allclose(dropped[0][0], plain, atol=1e-3) and not torch.equal(dropped[0][0], dropped[1][0])


@compiler
@pytest.mark.slow
def test_fused_steps_change_neither(tiny_base, sequences):
    network, weights = network_of(tiny_base("gemma3")), torch.linspace(-1, 1, len(sequences))[:, None]
    made = []
    for compiled in (False, True):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()  # of other tests in this process
        pack(network, compiled)
        made.append(gradients(network, weights, **packs(sequences)))
        assert (torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0) == compiled
    torch._dynamo.reset()
    (plain, expected), (fused, found) = made
    assert torch.allclose(plain, fused, atol=1e-5)
    assert all(torch.allclose(found[n], expected[n], atol=1e-5 * float(expected[n].abs().max())) for n in expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("kind", ["gemma", "gemma3"])
def test_on_a_gpu_the_gradients_are_as_near_to_float32_as_bfloat16_is(tmp_path, sequences, kind):
    base = tiny.save_base(kind, tmp_path / "base", hidden_size=128, intermediate_size=192, head_dim=64)
    weights, made = torch.linspace(-1, 1, len(sequences))[:, None], {}
    for device, precision in (("cpu", "float32"), ("cpu", "bfloat16"), ("cuda", "bfloat16")):
        torch.manual_seed(0)
        network = network_of(base, f"precision={precision}").to(device)
        assert can_pack(network, torch.device(device))
        pack(network)
        made[device, precision] = gradients(network, weights, **packs(sequences))[1]
    exact = made["cpu", "float32"]
    cpu, gpu = (
        max(float((made[key][n] - exact[n]).norm() / exact[n].norm()) for n in exact)
        for key in (("cpu", "bfloat16"), ("cuda", "bfloat16"))
    )
    assert gpu < max(0.05, 2 * cpu)


@pytest.mark.parametrize("dropped", [(), (0,), (0, 1)])
def test_the_adapted_product_has_the_gradients_of_its_formula(dropped):
    torch.manual_seed(0)
    x, weight, bias, *matrices = (
        torch.randn(*size, dtype=torch.float64, requires_grad=True)
        for size in ((5, 6), (7, 6), (7,), (2, 6), (3, 6), (4, 2), (2, 3))
    )
    parts, frozen, bias = [(0.5, 0, 4), (2.0, 5, 7)], weight.detach(), bias.detach()
    masks = [torch.rand(5, 6) < 0.5 if j in dropped else None for j in range(2)]  # of one byte, as on a GPU

    def product(x, *matrices):
        return AdaptedLinear.apply(x, frozen, bias, parts, masks, *matrices)

    a1, a2, b1, b2 = matrices
    expected = x @ frozen.T + bias
    x1, x2 = (x if mask is None else x * mask for mask in masks)
    low, high = 0.5 * x1 @ a1.T @ b1.T, 2 * x2 @ a2.T @ b2.T
    expected = expected + torch.cat([low, torch.zeros(5, 1), high], 1)
    assert torch.allclose(product(x, *matrices), expected)
    wanted = torch.autograd.grad(expected.square().sum(), (x, *matrices))
    found = torch.autograd.grad(product(x, *matrices).square().sum(), (x, *matrices))
    for one, two in zip(wanted, found, strict=True):
        assert torch.allclose(one, two, rtol=1e-5)  # those of A and B pass through float32


def joined_and_apart(base, *more):
    """A function of rows that computes q, k and v as packs do, and one by PEFT's own layers; and their parameters."""
    network = network_of(base, "lora.target_modules=[q_proj, v_proj]", *more).train()
    backbone = network.get_base_model().model
    attention = backbone.layers[0].self_attn
    layers = [attention.q_proj, attention.k_proj, attention.v_proj]
    ops = LoraOps(backbone, compiled=False)
    weight = ops.weight(*layers)
    trained = [p for layer in layers for p in layer.parameters() if p.requires_grad]
    return (
        lambda x: ops.linear((x, None), weight)[0],
        lambda x: torch.cat([layer(x) for layer in layers], 1),
        trained,
    )


@pytest.mark.parametrize("kind", ["gemma", "qwen2"])  # qwen2 has biases
def test_the_same_seed_drops_what_peft_drops(tiny_base, kind):
    joined, apart, trained = joined_and_apart(tiny_base(kind), "lora.lora_dropout=0.4")
    made = []
    for function in (joined, apart):
        torch.manual_seed(3)
        x = torch.randn(50, 32, requires_grad=True)
        y = function(x)
        made.append((y.detach(), *torch.autograd.grad(y.square().sum(), [x, *trained])))
    assert len(trained) == 4
    for one, two in zip(*made, strict=True):
        assert torch.allclose(one, two, atol=1e-5 * float(two.abs().max()))


def kept_for_backward(function, x) -> int:
    """How many values of activations autograd keeps, x included once; parameters do not count."""
    kept = {}

    def keep(tensor):
        if len(tensor) == len(x):
            kept[tensor.data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        function(x)
    return sum(tensor.numel() for tensor in kept.values())


def test_backward_needs_the_rows_and_the_masks_and_no_dropped_rows(tiny_base):
    rows, width, ranks = 100, 32, 2 * 16
    joined, _, _ = joined_and_apart(tiny_base("gemma"))
    assert kept_for_backward(joined, torch.randn(rows, width, requires_grad=True)) == rows * (width + ranks)
    joined, apart, _ = joined_and_apart(tiny_base("gemma"), "lora.lora_dropout=0.4")
    x = torch.randn(rows, width, requires_grad=True)
    assert kept_for_backward(joined, x) == rows * (3 * width + ranks) < kept_for_backward(apart, x)


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("window", [0, 7, 200])
@pytest.mark.parametrize("keys", [1, 2])
def test_attention_in_blocks_is_attention_written_out(sequences, monkeypatch, softcap, window, keys):
    monkeypatch.setattr(attention, "BLOCK", 16)
    layout, rows = pack_of(sequences).layout, len(pack_of(sequences).ids)
    heads, draw = Heads(4, keys, 8, 0.3, softcap), torch.Generator().manual_seed(0)
    q, k, v, weights = (
        torch.randn(rows, n, 8, generator=draw, dtype=torch.float64, requires_grad=True) for n in (4, keys, keys, 4)
    )

    def written_out():
        out = torch.zeros_like(q)
        for s, (first, count) in enumerate(zip(layout.q_start, layout.q_length, strict=True)):
            runs = range(layout.ptr[s], layout.ptr[s + 1])
            at = torch.cat([torch.arange(layout.start[r], layout.start[r] + layout.length[r]) for r in runs])
            shared, values = (x[at].repeat_interleave(4 // keys, 1) for x in (k, v))
            z = torch.einsum("qhd,khd->hqk", q[first : first + count], shared) * 0.3
            z = z if softcap is None else softcap * torch.tanh(z / softcap)
            gap = torch.arange(len(at) - count, len(at))[:, None] - torch.arange(len(at))[None]
            z = z.masked_fill((gap < 0) | ((gap >= window) if window else False), -torch.inf)
            out = out.index_add(
                0, torch.arange(first, first + count), torch.einsum("hqk,khd->qhd", z.softmax(-1), values)
            )
        return out

    found = attention.TrainedAttention(heads, CPU)(q, k, v, layout, window)
    results = [(out, *torch.autograd.grad((out * weights).sum(), (q, k, v))) for out in (found, written_out())]
    assert max(layout.q_length) > 2 * 16
    for one, two in zip(*results, strict=True):
        assert torch.allclose(one, two, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "change"),
    [("gemma", "lora.use_dora=true"), ("dynamic", "lora.r=4"), ("gemma", "lora.modules_to_save=[score, norm]")],
)
def test_what_packs_cannot_do_is_left_to_padded_batches(tiny_base, tmp_path, name, change):
    dynamic = {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}
    base = tiny_base(name) if name == "gemma" else tiny.save_base("llama", tmp_path / name, **dynamic)
    assert not can_pack(build(recipe("card", base, *EVERY, change), str(base)), CPU)
    assert name != "gemma" or can_pack(build(recipe("card", base, *EVERY), str(base)), CPU)


@pytest.mark.parametrize("kind", [pytest.param(k, marks=[] if k == "gemma3" else pytest.mark.slow) for k in tiny.KINDS])
def test_a_run_on_packs_is_the_run_on_padded_batches(tiny_base, tmp_path, kind, monkeypatch):
    write_pairs(tmp_path / "lesson.jsonl", lesson(48))
    short = (
        "max_length=96",
        "epochs=1",
        "batch_size=8",
        "accumulation=2",
        "evaluations=2",
        "validation_share=0.25",
        "learning_rate=0.01",
        "both_orders=0.5",
        "consistency=1",
        "length_debias=0.5",
        "group_by_length=false",
    )
    logs, collators = {}, []
    real = run.use_packs

    def watched(trainer, compiled):
        real(trainer, compiled)
        collators.append(trainer.data_collator)

    monkeypatch.setattr(run, "use_packs", watched)
    for packed in (True, False):
        if not packed:
            monkeypatch.setattr(run, "can_pack", lambda *_: False)
        manifest = run.train(
            recipe("card", tiny_base(kind), *EVERY, *short),
            run.Request([str(tmp_path / "lesson.jsonl")], device="cpu"),
            tmp_path / f"{packed}",
        )
        logs[packed] = losses(manifest) + losses(manifest, "eval_loss") + losses(manifest, "grad_norm")
    assert collators == [collate_packed]
    assert len(logs[True]) >= 5 and logs[True] == pytest.approx(logs[False], abs=1e-4)
