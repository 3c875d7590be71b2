"""Judges as other trainers write them: TRL, LLaMA-Factory, OpenRLHF, Axolotl and those that use them."""

import pytest
import tiny
import tiny_rewards
import torch

from harness_plugin.judges import open_judge
from harness_plugin.pairs import Pair

ALONE = {"dtype": "float32", "device": "cpu", "kind": "pointwise"}
PAIRS = [Pair(tiny.words(5, n), tiny.words(9, n + 10), tiny.words(30, n + 20), id=f"p{n}") for n in range(3)]


@pytest.mark.parametrize("merge", [True, False])
def test_trl_pads_with_the_token_of_the_adapters_tokenizer_and_reads_the_logit_before_it(tmp_path, merge):
    """TRL takes <|eot_id|>, with which Llama 3 ends each turn, where the tokenizer has no token for padding. It writes
    that into the base's configuration, which is not saved."""
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    base, adapter = tiny_rewards.save_reward_model("llama", tmp_path / "base", pad_token_id=None), tmp_path / "adapter"
    tiny.save_lora(base, adapter)
    tokenizer = tiny_rewards.tokenizer("llama").__class__.from_pretrained(base)
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(adapter)
    with open_judge(peft=str(adapter), merge=merge, **ALONE) as judge:
        judgements = list(judge.judge(PAIRS))
    network = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, dtype=torch.float32)
    network = PeftModel.from_pretrained(network, adapter).eval()
    network.config.pad_token_id = tokenizer.pad_token_id
    for pair, judgement in zip(PAIRS, judgements, strict=True):
        said = [
            [{"role": "user", "content": pair.prompt}, {"role": "assistant", "content": answer}]
            for answer in (pair.response_a, pair.response_b)
        ]
        source = tokenizer.chat_template.replace("strftime_now('%d %b %Y') if strftime_now is defined else ", "")
        ids = tokenizer.apply_chat_template(
            said, chat_template=source, padding=True, padding_side="right", return_dict=True, return_tensors="pt"
        )
        with torch.no_grad():
            assert [judgement.r_a, judgement.r_b] == pytest.approx(network(**ids).logits[:, 0].tolist(), abs=1e-4)
