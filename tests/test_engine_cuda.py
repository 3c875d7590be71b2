"""The engine on a GPU, where there is one: packs with variable-length flash attention beside float32 on the CPU."""

import copy
import random

import numpy as np
import pytest
import tiny
import torch

from harness_plugin.engine import Engine
from harness_plugin.model import Manifest, RewardModel
from harness_plugin.model.calibration import Calibration
from harness_plugin.model.spec import PAIR

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


def judge(network, device: str, dtype: torch.dtype) -> RewardModel:
    network = copy.deepcopy(network).to(device=device, dtype=dtype)
    return RewardModel(
        kind=PAIR,
        network=network,
        backbone=network.model,
        head=network.score.weight.detach().float(),
        renderer=None,
        calibration=Calibration(),
        classes=[0],
        device=torch.device(device),
        dtype=dtype,
        reduced=None,
        deterministic=False,
        manifest=Manifest(found=False),
        identity={},
    )


@pytest.fixture(scope="module", params=tiny.DECODERS)
def network(request):
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(0)
    config = tiny.config(request.param, num_labels=1, **tiny.KERNEL_SIZE)
    made = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        made.score.weight.normal_(std=0.2)
    if request.param not in tiny.KINDS:
        tiny.unsettle(made)
    return made


@pytest.fixture(scope="module")
def sequences():
    draw = random.Random(1)
    stem = tuple(draw.choices(range(10, 600), k=150))
    own = [(2, *draw.choices(range(10, 600), k=n)) for n in (1, 30, 64, 150, 300, 700)]
    return own + [stem + ids for ids in own]


def test_packs_on_a_gpu_are_as_near_to_float32_as_bfloat16_is(network, sequences):
    expected = Engine(judge(network, "cpu", torch.float32)).logits(sequences)[:, 0]
    exact = Engine(judge(network, "cuda", torch.float32)).logits(sequences)[:, 0]
    engine = Engine(judge(network, "cuda", torch.bfloat16))
    packed = engine.decoder is not None
    assert expected.std() > 0.2 and np.abs(exact - expected).max() < (5e-3 if packed else 0.05)
    assert packed == (network.config.model_type != "gemma2")
    if packed:
        assert engine.decoder.ops.attention.flash and engine.budget >= 512
    found = engine.logits(sequences)[:, 0]
    theirs = Engine(judge(network, "cpu", torch.bfloat16)).logits(sequences)[:, 0]
    assert np.abs(found - expected).max() < max(0.03, 3 * np.abs(theirs - expected).max())


def test_compiled_parts_compute_the_same(network, sequences):
    engine = Engine(judge(network, "cuda", torch.bfloat16))
    if engine.decoder is None:
        pytest.skip("padded batches are not compiled")
    before = engine.logits(sequences)
    engine.decoder.ops.compile()
    assert np.abs(engine.logits(sequences) - before).max() < 0.05
