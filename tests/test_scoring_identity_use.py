"""How identities of judges are compared, shown by `arena-rm doctor`, and asked for before verdicts are used again."""

import json
import re

import tiny_rewards
import tournament_rows
from judge_copies import BASE, adapter_config

from harness_plugin.model.part_hashes import settings
from harness_plugin.scoring.identity import (
    MEANINGS,
    differences,
    identity_hash,
    parts,
)

OLD = {  # as version 0.1 wrote them
    "base": "here",
    "revision": None,
    "base_fingerprint": "st-1",
    "adapter": "adapter",
    "adapter_sha256": "a",
    "dtype": "float32",
    "order": "both",
}


def test_names_do_not_count_where_weights_are_identified():
    assert not differences(OLD, OLD | {"base": "there", "adapter": "elsewhere", "revision": "main", "hash": "abc"})
    assert identity_hash(OLD) == identity_hash(OLD | {"base": "there", "adapter": "elsewhere", "revision": "main"})
    nameless = OLD | {"base_fingerprint": None}
    assert differences(nameless, nameless | {"base": "there", "revision": "main"}) == ["base", "revision"]
    assert differences(OLD, OLD | {"adapter_sha256": "b", "dtype": "int8"}) == ["adapter_sha256", "dtype"]


def test_identities_of_an_earlier_version_are_compared_in_what_both_have(judge_copy):
    new = judge_copy.identity()
    old = OLD | {"adapter_sha256": new["adapter_sha256"]}
    assert not differences(old, new) and not differences(new, old)
    assert differences(old | {"dtype": "int8"}, new) == ["dtype"]


def test_settings_that_are_sets_have_no_order():
    from peft import LoraConfig

    one, other = (LoraConfig(target_modules=modules) for modules in (["a", "b", "c"], ["c", "b", "a"]))
    assert settings(one) == settings(other) and settings(one)["target_modules"] == ["a", "b", "c"]


def test_doctor_says_what_identifies_a_judge_part_by_part(judge_copy, arena):
    options = ["--pretrained", judge_copy.base, "--peft", judge_copy.adapter, "--dtype", "float32", "--device", "cpu"]
    options += ["--temperature", 1.5, "--tie-nu", 0.5]
    code, said, _ = arena("doctor", *options)
    identity = judge_copy.identity()
    assert code == 0 and identity_hash(identity) in said
    for name in parts(identity):
        assert f"\n{name} " in said and MEANINGS[name] in said
    code, said, _ = arena("doctor", *options, "--json")
    assert code == 0 and json.loads(said) == {
        "hash": identity_hash(identity),
        "parts": parts(identity),
        "names": {name: identity[name] for name in ("base", "revision", "adapter")},
    }
    # parts where a calibration lets the surface count, and of a judge without an adapter
    others = {"surface_worth", "surface_weights", "adapter"}
    assert set(parts(identity)) == set(MEANINGS) - others
    assert json.loads(arena("doctor", *options, "--json", "--order", "ab")[1])["parts"]["order"] == "ab"


def test_doctor_says_what_identifies_a_whole_model(tmp_path, arena):
    folder = tiny_rewards.save_reward_model("llama", tmp_path / "model")
    code, said, _ = arena("doctor", "--judge", folder, "--kind", "pointwise", "--dtype", "float32", "--device", "cpu")
    assert code == 0 and re.search(r"^adapter +none +which adapter", said, re.M)


def test_doctor_refuses_a_judge_that_cannot_be_identified(judge_copy, arena):
    (judge_copy.base / BASE).unlink()
    code, _, said = arena("doctor", "--pretrained", judge_copy.base, "--peft", judge_copy.adapter)
    assert code == 3 and str(judge_copy.base) in said and "identified by its weights" in said


def test_verdicts_of_a_judge_whose_configuration_was_changed_are_not_used_again(judge_copy, arena, tmp_path):
    (tmp_path / "answers").mkdir()
    files = tournament_rows.three_files(tmp_path / "answers")
    options = [
        "--pretrained",
        judge_copy.base,
        "--peft",
        judge_copy.adapter,
        "--dtype",
        "float32",
        "--device",
        "cpu",
        "--kind",
        "pair",
    ]
    again = ["judge", *files, "--baseline", "ibis", "--no-plots", "--no-cache", *options, "-o", tmp_path / "judged"]
    assert arena(*again)[0] == 0
    assert "are used again" in arena(*again)[2]
    adapter_config(lora_alpha=64)(judge_copy, None)
    code, _, said = arena(*again)
    assert code == 3 and "another judge" in said
