"""Training before the first step: recipes, the split, the selection, labels, orders and the loss."""

import math
import random
from collections import Counter
from pathlib import Path

import pytest
import tiny
import torch
import yaml

from harness_plugin.errors import TrainError, UsageError
from harness_plugin.pairs import Pair, Winner
from harness_plugin.prompt import Renderer
from harness_plugin.train.config import Selection, TrainConfig, find_config, read_config
from harness_plugin.train.data import Examples, select, split
from harness_plugin.train.loss import collate, preference_loss

CARD_LORA = {
    "r": 16, "lora_alpha": 32, "lora_dropout": 0.1, "target_modules": ["o_proj", "v_proj", "q_proj", "k_proj"],
    "modules_to_save": ["classifier", "score"],
}  # fmt: skip


def recipe(tmp_path, text, *overrides):
    file = tmp_path / "recipe.yaml"
    file.write_text(text, encoding="utf-8")
    return read_config(file, overrides)


# Recipes


def test_the_card_recipe_is_the_reference_cards():
    card = read_config(find_config("card")).to_dict()
    expected = {
        "base": "google/gemma-2b", "lora": CARD_LORA, "max_length": 512, "truncation": "card", "epochs": 10.0,
        "learning_rate": 2e-4, "batch_size": 4, "accumulation": 4, "precision": "float16",
    }  # fmt: skip
    assert {name: card[name] for name in expected} == expected
    assert card["head_learning_rate"] is None and card["select"]["sources"] is None


def test_every_shipped_recipe_is_valid_and_found_by_its_name():
    names = sorted(file.stem for file in find_config("card").parent.glob("*.yaml"))
    assert names == ["card", "embedded"]
    assert read_config(find_config("embedded")).base == "embedded"
    assert find_config("no/such/file.yaml") == Path("no/such/file.yaml")


def test_overrides_reach_every_field(tmp_path):
    text = "learning_rate: 2e-4\nlora: {r: 4}\n"  # YAML reads 2e-4 as a text
    config = recipe(tmp_path, text, "epochs=3", "lora.lora_alpha=8", "select.sources={a: 3}", "base=x=y",
                    "revision=null", "head_learning_rate=1e-5")  # fmt: skip
    assert (config.learning_rate, config.epochs, config.head_learning_rate) == (2e-4, 3.0, 1e-5)
    assert (config.lora.r, config.lora.lora_alpha, config.lora.target_modules) == (4, 8, CARD_LORA["target_modules"])
    assert (config.select.sources, config.base, config.revision) == ({"a": 3}, "x=y", None)
    assert recipe(tmp_path, "") == TrainConfig()
    assert recipe(tmp_path, yaml.safe_dump(config.to_dict())) == config


@pytest.mark.parametrize(
    ("text", "overrides", "said"),
    [
        ("learnin_rate: 1", (), "unknown key learnin_rate; known: base, revision"),
        ("lora: {rank: 8}", (), "recipe.yaml: lora: unknown key rank"),
        ("epochs: many", (), "epochs: 'many'; a float was expected"),
        ("batch_size: 4.0", (), "batch_size: 4.0; a int was expected"),
        ("batch_size: true", (), "batch_size: True"),
        ("group_by_length: 1", (), "group_by_length: 1"),
        ("lora: 16", (), "lora: 16"),
        ("lora: {target_modules: q_proj}", (), "lora: target_modules: 'q_proj'"),
        ("base: null", (), "base: None"),
        ("- base", (), "names and values were expected"),
        ("base: [", (), "is not YAML"),
        ("truncation: left", (), "truncation: 'left'; it must be one of budget, card"),
        ("precision: fp16", (), "precision: 'fp16'"),
        ("epochs: 0", (), "epochs: 0.0"),
        ("learning_rate: .nan", (), "learning_rate: nan"),
        ("validation_share: 1.0", (), "validation_share: 1.0"),
        ("warmup: 1.5", (), "warmup: 1.5"),
        ("", ("epochs",), "--set epochs; it has no value"),
        ("", ("epoch=2",), "unknown key epoch"),
        ("", ("lora.rank=2",), "unknown key rank"),
        ("", ("lora.target_modules=[a",), "lora.target_modules"),
        ("lora: 3", ("lora.r=2",), "lora"),
        ("- base", ("epochs=2",), "names and values were expected"),
        ("select: {sources: {a: many}}", (), "many"),
        ("lora: {target_modules: [1, 2]}", (), "target_modules"),
    ],
)  # fmt: skip
def test_a_recipe_that_means_nothing_is_refused_in_a_sentence(tmp_path, text, overrides, said):
    with pytest.raises(UsageError) as error:
        recipe(tmp_path, text, *overrides)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_recipe_that_is_no_file_names_the_shipped_ones(tmp_path):
    with pytest.raises(UsageError, match=r"no_such cannot be read .*card, embedded"):
        read_config(tmp_path / "no_such")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00base")
    with pytest.raises(UsageError, match="binary"):
        read_config(tmp_path / "binary")


# Labels, the split, the selection


def make(n, prompt=None, **more):
    return Pair(prompt or f"question {n}", f"one {n}", f"two {n}", id=f"r{n}", **more)


def test_labels_are_soft_where_a_probability_is_known():
    assert [make(0, winner=w).soft_label for w in (*Winner, None)] == [0.0, 1.0, 0.5, None]
    assert make(0, winner=Winner.MODEL_A, p_b=0.3).soft_label == 0.3
    assert make(0, p_b=0.3).swap().soft_label == 0.7


def test_no_prompt_is_in_training_and_validation_and_the_rows_order_does_not_matter():
    pairs = [make(n, f"question {n % 100}", winner=Winner.TIE) for n in range(300)]
    config = TrainConfig(validation_share=0.3)
    train, valid = split(pairs, config)
    assert not {p.prompt for p in train} & {p.prompt for p in valid}
    assert {p.id for p in train} | {p.id for p in valid} == {p.id for p in pairs}
    assert 15 <= len({p.prompt for p in valid}) <= 45
    shuffled = random.Random(1).sample(pairs, len(pairs))
    train_2, valid_2 = split(shuffled, config)
    assert [p.id for p in valid_2] == [p.id for p in valid]
    everything = [p.id for p in select(train, Selection(), 0, len)]
    assert [p.id for p in select(train_2, Selection(), 0, len)] == everything
    assert sorted(everything) == sorted(p.id for p in train) != everything
    assert {p.id for p in split(pairs, TrainConfig(validation_share=0.3, seed=1))[1]} != {p.id for p in valid}
    assert [p.id for p in split(pairs, TrainConfig(validation_share=0.3, validation_pairs=5))[1]] == [
        p.id for p in valid[:5]
    ]


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_a_side_without_pairs_stops_the_run(share):
    with pytest.raises(TrainError, match="both sides need some"):
        split([make(n, winner=Winner.TIE) for n in range(3)], TrainConfig(validation_share=share))


def test_pairs_without_a_label_stop_the_run():
    with pytest.raises(TrainError, match=r"1 of 3 pairs have neither winner nor p_b .*r7"):
        split([make(1, p_b=0.5), make(7), make(2, winner=Winner.TIE)], TrainConfig())


def lengths_matter(source, shorter, longer, equal=0, soft=0):
    """Pairs of a source: the shorter answer right, the longer one, of one length, and with an open outcome."""
    rows = [("s", 0.9)] * shorter + [("l", 0.9)] * longer + [("e", 0.9)] * equal + [("l", 0.5)] * soft
    out = []
    for n, (kind, label) in enumerate(rows):
        right, wrong = {"s": ("yes", "yes and more"), "l": ("yes and more", "yes"), "e": ("yes", "noo")}[kind]
        pair = Pair(f"{source} {n}", wrong, right, id=f"{source}-{n}-{kind}", p_b=label, meta={"source": source})
        out.append(pair if n % 2 else pair.swap())
    return out


@pytest.mark.parametrize("share", [0.45, 0.5, 0.0, 1.0])
def test_the_length_balance_holds_in_every_source(share):
    pairs = lengths_matter("x", 30, 90, equal=5, soft=5) + lengths_matter("y", 80, 20)
    chosen = select(pairs, Selection(shorter_right=share), 0, len)
    for source in ("x", "y"):
        kinds = Counter(p.id[-1] for p in chosen if p.id.startswith(source))
        assert not kinds["e"]
        assert kinds["s"] / (kinds["s"] + kinds["l"]) == pytest.approx(share, abs=0.01)
        scarce = {"x": ("s", 30), "y": ("l", 20)}[source] if 0 < share < 1 else None
        assert scarce is None or kinds[scarce[0]] == scarce[1], "as many as the scarcer kind allows"


def test_a_selection_counts_by_source_and_leaves_out_the_open_and_the_long():
    pairs = lengths_matter("x", 20, 20, soft=10) + lengths_matter("y", 20, 20) + lengths_matter("z", 5, 5)
    rule = Selection(sources={"x": 12, "y": 100}, min_margin=0.1)
    chosen = select(pairs, rule, 0, len)
    assert Counter(p.meta["source"] for p in chosen) == {"x": 12, "y": 40}
    assert all(abs(p.p_b - 0.5) > 0.1 for p in chosen)
    few = select(pairs, Selection(sources={"x": 12, "y": 5}, min_margin=0.1), 0, len)
    assert {p.id for p in few} < {p.id for p in chosen}, "fewer of one source changes no other's choice"
    assert {p.id for p in select(pairs, rule, 1, len)} != {p.id for p in chosen}

    def tokens(pair):
        return 10 if pair.id.startswith("y") else 11

    assert {p.meta["source"] for p in select(pairs, Selection(max_tokens=10), 0, tokens)} == {"y"}
    with pytest.raises(TrainError, match="no pair passes"):
        select(pairs, Selection(max_tokens=9), 0, tokens)


def test_the_order_is_drawn_from_content_and_turns_the_label_with_the_sides():
    renderer = Renderer(tiny.tokenizer(), 128, "budget")
    pairs = [make(n, p_b=n / 80) for n in range(80)]
    examples = Examples(pairs, renderer, TrainConfig())
    turned = {}
    for epoch in (0, 1):
        examples.epoch = epoch
        for n, pair in enumerate(pairs):
            row = examples[n]
            straight = {"input_ids": renderer.render(pair).ids, "labels": pair.p_b}
            swapped = {"input_ids": renderer.render(pair.swap()).ids, "labels": 1 - pair.p_b}
            assert row in (straight, swapped)
            turned[epoch, pair.id] = row == swapped
    for epoch in (0, 1):
        assert 24 <= sum(turned[epoch, p.id] for p in pairs) <= 56
    assert 24 <= sum(turned[0, p.id] == turned[1, p.id] for p in pairs) <= 56
    backwards = Examples(pairs[::-1], renderer, TrainConfig())
    backwards.epoch = 1
    assert [backwards[n] for n in range(80)] == [examples[79 - n] for n in range(80)]
    fixed = Examples(pairs, renderer, TrainConfig(orders="ab"))
    assert all(fixed[n]["labels"] == pair.p_b for n, pair in enumerate(pairs))


def test_both_orders_stand_in_one_batch_with_mirrored_labels():
    renderer = Renderer(tiny.tokenizer(), 128, "budget")
    pairs = [make(n, p_b=n / 8) for n in range(4)]
    examples = Examples(pairs, renderer, TrainConfig(orders="both"))
    batch = collate([examples[n] for n in range(4)])
    assert batch["labels"].tolist() == [0, 1, 0.125, 0.875, 0.25, 0.75, 0.375, 0.625]
    for n, pair in enumerate(pairs):
        turned = renderer.render(pair.swap()).ids
        assert tuple(batch["input_ids"][2 * n + 1][: len(turned)].tolist()) == turned


def test_the_loss_is_the_cross_entropy_with_the_soft_label():
    rows = [{"input_ids": (5, 6, 7), "labels": 1.0}, {"input_ids": (8,), "labels": 0.25}]
    batch = collate(rows)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    z = (2.0, -1.0)
    p = [1 / (1 + math.exp(-x)) for x in z]
    expected = -(math.log(p[0]) + 0.25 * math.log(p[1]) + 0.75 * math.log(1 - p[1])) / 2
    half = torch.tensor(z, dtype=torch.bfloat16)[:, None]
    assert float(preference_loss(half, batch["labels"])) == pytest.approx(expected)
