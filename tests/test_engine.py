"""Ids become logits: no score depends on its neighbours, on padding or on the order of the list."""

import random
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, BertConfig

from harness_plugin.engine import Engine, attention
from harness_plugin.engine.shape import has_packs, shape_of
from harness_plugin.errors import ScoreError
from harness_plugin.model import ModelSpec, load_model
from harness_plugin.model.network import is_decoder_classifier

SAME = 5e-6  # rounding in float32
# transformers takes norms and angles in float32 whatever the model is in; among ourselves float64 is exact
AS_TRANSFORMERS = [(torch.float32, SAME), (torch.float64, SAME)]
AMONG_OURSELVES = [(torch.float32, SAME), (torch.float64, 1e-12)]


@pytest.fixture(scope="module")
def judge(tiny_base, tiny_adapter):
    """judge(kind, dtype) -> a tiny model; read only."""
    made = {}

    def loaded(kind, dtype=torch.float32):
        if (kind, dtype) not in made:
            made[kind, dtype] = fresh(tiny_base, tiny_adapter, kind)
            made[kind, dtype].network.to(dtype)
        return made[kind, dtype]

    return loaded


def fresh(tiny_base, tiny_adapter, kind, num_labels=1):
    peft = tiny_adapter(kind, num_labels=num_labels)
    return load_model(ModelSpec(pretrained=str(tiny_base(kind)), peft=str(peft), dtype="float32", device="cpu"))


@pytest.fixture(scope="module")
def sequences():
    """Lengths from one token to several sliding windows, some lengths twice."""
    draw = random.Random(1)
    lengths = [1, 2, 5, 17, 17, 63, 64, 65, 66, 130, 130, 300, 511, 512]
    made = [(tiny.BOS, *(draw.randrange(10, tiny.VOCAB) for _ in range(n - 1))) for n in lengths]
    draw.shuffle(made)
    return made


def alone(model, ids) -> np.ndarray:
    """The logits of one sequence as transformers' own classifier gives them, without a batch or padding."""
    with torch.inference_mode():
        return model.network(input_ids=torch.tensor([ids])).logits[0].double().numpy()


@pytest.mark.parametrize("dtype, same", AS_TRANSFORMERS)
@pytest.mark.parametrize("kind", tiny.DECODERS)
def test_a_score_in_a_batch_is_the_score_alone_beyond_the_sliding_window_too(judge, kind, sequences, dtype, same):
    model = judge(kind, dtype)
    if kind not in ("gemma", "llama"):
        assert model.network.config.sliding_window == tiny.WINDOW < 512
    expected = np.array([alone(model, ids) for ids in sequences])
    assert expected.shape == (len(sequences), 1) and expected.std() > 0.3
    for size in (None, 1, 5):
        found = Engine(model, size).logits(sequences)
        assert found.dtype == np.float64 and np.abs(found - expected).max() < same


@pytest.mark.parametrize("dtype, same", AMONG_OURSELVES)
@pytest.mark.parametrize("kind", tiny.DECODERS)
def test_no_score_depends_on_its_neighbours_or_on_its_place_in_the_list(judge, kind, sequences, dtype, same):
    engine, draw = Engine(judge(kind, dtype)), random.Random(2)
    base = engine.logits(sequences)
    for _ in range(2):
        order = draw.sample(range(len(sequences)), len(sequences))
        assert np.abs(engine.logits([sequences[i] for i in order]) - base[order]).max() < same
    for few in ([0], [3, 1], [2, 2, 2], list(range(7))):
        assert np.abs(engine.logits([sequences[i] for i in few]) - base[few]).max() < same
    other = [tuple(draw.randrange(10, tiny.VOCAB) for _ in range(len(ids) + 40)) for ids in sequences]
    mixed = engine.logits([ids for both in zip(sequences, other, strict=True) for ids in both])
    assert np.abs(mixed[::2] - base).max() < same


def test_a_token_that_is_far_back_still_moves_the_score_so_that_the_tests_above_can_fail(judge, sequences):
    ids = next(ids for ids in sequences if len(ids) == 300)
    for kind in tiny.DECODERS:
        z = Engine(judge(kind)).logits([ids, (ids[0], ids[1] + 1, *ids[2:])])
        reached = kind != "mistral"  # all of its two layers have the window, and 2 * 64 tokens are fewer than 300
        assert (abs(z[0, 0] - z[1, 0]) > 10 * SAME) == reached


@pytest.mark.parametrize("num_labels", [1, 3])
def test_a_model_without_a_known_backbone_is_asked_for_its_logits_with_a_mask(
    tiny_base, tiny_adapter, sequences, num_labels
):
    model = fresh(tiny_base, tiny_adapter, "gemma2", num_labels)
    assert model.backbone is not None and model.head.shape == (num_labels, 32)
    whole = replace(model, backbone=None, head=None)
    found, expected = Engine(whole, 4).logits(sequences), Engine(model).logits(sequences)
    assert found.shape == (len(sequences), num_labels) and np.abs(found - expected).max() < SAME


def test_nothing_in_nothing_out(judge):
    assert Engine(judge("gemma")).logits([]).shape == (0, 1)


class Watched:
    """A backbone that notes the shape of each batch, and runs out of memory for more than `most` ids."""

    def __init__(self, backbone, most: int | None = None):
        self.backbone, self.most, self.shapes = backbone, most, []

    def __call__(self, input_ids, **options):
        self.shapes.append(tuple(input_ids.shape))
        if self.most and input_ids.numel() > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.backbone(input_ids=input_ids, **options)


def watched(model, most: int | None = None):
    spy = Watched(model.backbone, most)
    return spy, replace(model, backbone=spy)


def test_batches_are_of_like_lengths_within_the_token_budget_longest_first(judge, sequences):
    spy, model = watched(judge("gemma"))
    engine, steps = Engine(model), []
    engine.budget = 1024
    engine.logits(sequences, steps.append)
    rows, widths = zip(*spy.shapes, strict=True)
    assert spy.shapes[0] == (2, 512) and list(widths) == sorted(widths, reverse=True)
    assert all(r == 1 or r * w <= 1024 for r, w in spy.shapes)
    assert list(rows) == steps and sum(steps) == len(sequences)


def test_a_batch_size_is_a_most_and_one_means_one_by_one(judge, sequences):
    for size in (1, 3):
        spy, model = watched(judge("gemma"))
        Engine(model, size).logits(sequences)
        assert max(rows for rows, _ in spy.shapes) == size
    assert len(spy.shapes) == -(-len(sequences) // 3)


def test_out_of_memory_halves_the_batches_and_changes_no_score(judge, sequences, caplog):
    expected = Engine(judge("gemma")).logits(sequences)
    spy, model = watched(judge("gemma"), most=700)
    engine, steps = Engine(model), []
    found = engine.logits(sequences, steps.append)
    assert np.abs(found - expected).max() < SAME
    assert sum(steps) == len(sequences), "a batch that failed is not counted as done"
    assert engine.budget <= 700 and "out of memory" in caplog.text
    before = len(spy.shapes)
    engine.logits(sequences)
    assert all(rows * width <= 700 for rows, width in spy.shapes[before:]), "what was learned stays"


def test_one_sequence_that_does_not_fit_alone_ends_the_run_in_one_line(judge, sequences):
    _, model = watched(judge("gemma"), most=400)
    with pytest.raises(ScoreError, match="out of memory on one sequence"):
        Engine(model).logits(sequences)


def test_nan_weights_are_named_with_the_sequences_they_spoil_and_no_score_is_given(tiny_base, tiny_adapter):
    model = fresh(tiny_base, tiny_adapter, "gemma3")
    with torch.no_grad():
        model.network.get_input_embeddings().weight[77] = torch.nan
    clean, spoilt = (2, 30, 31, 32), (2, 30, 77, 31)
    with pytest.raises(ScoreError, match=r"non-finite logits in 2 sequences.*embed_tokens\.weight") as caught:
        Engine(model).logits([clean, spoilt, clean[:2], clean, spoilt[:3]])
    assert caught.value.rows == (1, 4), "neighbours in the batch stay clean"
    assert np.isfinite(Engine(model).logits([clean])).all()


def test_arithmetic_that_overflows_is_told_from_broken_weights(judge):
    model = judge("gemma")
    loud = replace(model, head=torch.full_like(model.head, 3e38))
    with pytest.raises(ScoreError, match=r"overflowed.*bfloat16 or float32") as caught:
        Engine(loud).logits([(2, 30), (2, 40)])
    assert caught.value.rows == (0, 1)


def test_a_bfloat16_model_keeps_more_than_bfloat16s_three_digits(tiny_base, tiny_adapter, sequences):
    spec = {"pretrained": str(tiny_base("gemma")), "peft": str(tiny_adapter("gemma")), "device": "cpu"}
    z = Engine(load_model(ModelSpec(**spec, dtype="bfloat16"))).logits(sequences)
    assert (z != torch.tensor(z).bfloat16().double().numpy()).any()


def test_a_sequence_that_was_not_scored_is_an_error_and_not_a_gap(judge, sequences):
    class Forgetful(Engine):
        def stream(self, sequences):
            yield from list(super().stream(sequences))[:-1]

    with pytest.raises(RuntimeError, match="not scored"):
        Forgetful(judge("gemma"), 1).logits(sequences[:3])


# -- packs ------------------------------------------------------------------------------------------------------------


def test_gpus_before_ampere_have_no_flash_attention(monkeypatch):
    monkeypatch.setattr(attention, "_varlen_attn", object)
    for capability, runs in (((7, 5), False), ((8, 0), True), ((9, 0), True)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, found=capability: found)
        assert attention.flash_runs_on(torch.device("cuda")) == runs
    assert not attention.flash_runs_on(torch.device("cpu"))
    monkeypatch.setattr(attention, "_varlen_attn", lambda: None)
    assert not attention.flash_runs_on(torch.device("cuda"))


@pytest.fixture(scope="module")
def related(sequences):
    """Sequences that begin as others do, some ending where others go on, some the same."""
    base = max(sequences, key=len)
    made = [base[:100] + ids[1:60] for ids in sequences] + [base[:100], base[:103] + sequences[0], base, base[:300]]
    return [*made, *(base[:200] + ids for ids in sequences[:3]), base[:100]]


@pytest.mark.parametrize("dtype, same", AS_TRANSFORMERS)
@pytest.mark.parametrize("kind", tiny.DECODERS)
def test_a_shared_beginning_is_computed_once_and_changes_no_score(judge, kind, related, dtype, same):
    model = judge(kind, dtype)
    engine = Engine(model)
    assert engine.decoder and engine.identity["format"].startswith("packed")
    rows = []
    inner = engine.decoder.logits
    engine.decoder.logits = lambda pack: rows.append(len(pack.ids)) or inner(pack)
    expected = np.array([alone(model, ids) for ids in related])
    assert np.abs(engine.logits(related) - expected).max() < same
    assert sum(rows) < 0.6 * sum(map(len, related))


def test_a_deterministic_model_gives_the_same_bits_in_any_company(tiny_base, tiny_adapter, sequences, related):
    spec = {"pretrained": str(tiny_base("gemma3")), "peft": str(tiny_adapter("gemma3")), "device": "cpu"}
    for dtype in ("float32", "bfloat16"):
        engine = Engine(load_model(ModelSpec(**spec, dtype=dtype, deterministic=True)))
        base, more = engine.logits(related), engine.logits([*sequences, *related[::-1]])
        assert (more[len(sequences) :][::-1] == base).all() and engine.identity["deterministic"]


def test_memory_that_runs_out_halves_the_packs_and_scores_nothing_twice(judge, sequences, caplog):
    model = judge("gemma2")
    expected, engine, done = Engine(model).logits(sequences), Engine(model), []
    inner = engine.decoder.logits

    def small(pack):
        if len(pack.ids) > 600:
            raise torch.OutOfMemoryError("out of memory")
        done.extend(pack.members)
        return inner(pack)

    engine.decoder.logits = small
    assert np.abs(engine.logits(sequences) - expected).max() < SAME and len(done) == len(sequences)
    assert engine.budget <= 600 and "out of memory" in caplog.text
    with pytest.raises(ScoreError, match="out of memory on one sequence"):
        engine.logits([tuple(range(2, 500)) * 2])


def test_nothing_to_score_in_a_sequence_is_an_error(judge):
    with pytest.raises(ScoreError, match="a sequence without ids"):
        Engine(judge("gemma")).logits([(2, 3), ()])


def test_the_network_itself_scores_as_before_once_the_engine_has_joined_its_matrices(tiny_base, tiny_adapter):
    model = fresh(tiny_base, tiny_adapter, "gemma3")
    before, state = alone(model, (2, 30, 31)), {k: v.clone() for k, v in model.network.state_dict().items()}
    engine = Engine(model)
    assert (alone(model, (2, 30, 31)) == before).all()
    assert all((v == state[k]).all() for k, v in model.network.state_dict().items())
    attention = model.backbone.layers[0].self_attn
    assert attention.k_proj.weight.untyped_storage().data_ptr() == engine.decoder.layers[0].qkv[0].data_ptr()


# -- other classifiers ------------------------------------------------------------------------------------------------


def test_an_adapter_kept_apart_is_scored_by_its_own_layers_on_padded_batches(tiny_base, tiny_adapter, sequences):
    spec = {"pretrained": str(tiny_base("gemma")), "peft": str(tiny_adapter("gemma")), "device": "cpu"}
    engine = Engine(load_model(ModelSpec(**spec, dtype="float32", merge=False)))
    assert engine.decoder is None and engine.identity["format"] == "padded"
    merged = Engine(load_model(ModelSpec(**spec, dtype="float32")))
    assert np.abs(engine.logits(sequences) - merged.logits(sequences)).max() < 1e-4


@pytest.mark.parametrize("num_labels", [1, 3])
@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_a_whole_classifier_with_its_own_head_is_scored_on_packs(tmp_path, sequences, related, kind, num_labels):
    whole = AutoModelForSequenceClassification.from_config(tiny.config(kind, num_labels=num_labels)).eval()
    tiny.unsettle(whole)
    whole.save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    labels = {} if num_labels == 1 else {"id2label": {0: "A", 1: "B", 2: "tie"}}
    tiny.change_json(tmp_path / "config.json", **labels)
    model = load_model(ModelSpec(pretrained=str(tmp_path), dtype="float32", device="cpu", kind="pair"))
    engine = Engine(model)
    expected = np.array([alone(model, ids) for ids in related])[:, model.classes]
    assert engine.identity["format"].startswith("packed") and expected.shape == (len(related), num_labels)
    assert np.abs(engine.logits(related) - expected).max() < SAME


DYNAMIC = {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}


@pytest.mark.parametrize(
    ("kind", "change"),
    [("llama", DYNAMIC), ("llama", {"hidden_act": "relu"}), ("mistral", {"hidden_act": "gelu"})],
)
def test_a_decoder_whose_steps_the_engine_does_not_have_is_left_to_padded_batches(kind, change):
    assert shape_of(AutoModel.from_config(tiny.config(kind))) is not None
    assert shape_of(AutoModel.from_config(tiny.config(kind, **change))) is None
    assert has_packs(tiny.config(kind)) and not has_packs(tiny.config(kind, **change))


@pytest.mark.parametrize("kind", tiny.DECODERS)
def test_the_configuration_alone_says_which_decoders_the_engine_has(kind):
    assert has_packs(tiny.config(kind))
    assert not has_packs(BertConfig())


def test_a_decoder_that_attends_both_ways_is_not_scored_on_packs_nor_by_its_last_token(tiny_base, tiny_adapter):
    model = fresh(tiny_base, tiny_adapter, "qwen3")
    assert is_decoder_classifier(model.network)
    model.network.config.is_causal = False
    assert not is_decoder_classifier(model.network)
