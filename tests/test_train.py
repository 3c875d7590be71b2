"""Training before the first step: recipes, the split, the selection, labels, orders and the loss."""

import math
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny
import torch
import yaml
from training_runs import CARD_LORA

from harness_plugin.errors import TrainError, UsageError
from harness_plugin.pairs import Pair, Winner
from harness_plugin.prompt import Renderer
from harness_plugin.train.config import Selection, TrainConfig, find_config, read_config
from harness_plugin.train.data import Examples, length_offsets, mix, select
from harness_plugin.train.loss import collate, inconsistency, preference_loss
from harness_plugin.train.trainer import OwnNoise


def recipe(tmp_path, text, *overrides):
    file = tmp_path / "recipe.yaml"
    file.write_text(text, encoding="utf-8")
    return read_config(file, overrides)


# Recipes


def test_the_card_recipe_is_the_reference_cards():
    card = read_config(find_config("card")).to_dict()
    expected = {
        "base": "google/gemma-2b",
        "lora": CARD_LORA,
        "max_length": 512,
        "truncation": "card",
        "epochs": 10.0,
        "learning_rate": 2e-4,
        "batch_size": 4,
        "accumulation": 4,
        "precision": "float16",
    }
    card["lora"] = {name: card["lora"][name] for name in CARD_LORA}
    assert {name: card[name] for name in expected} == expected
    assert card["head_learning_rate"] is None and card["select"]["sources"] is None


def test_every_shipped_recipe_is_valid_and_found_by_its_name():
    names = sorted(file.stem for file in find_config("card").parent.glob("*.yaml"))
    assert names == ["card", "continue", "default", "distill", "embedded", "pointwise", "qlora", "three_way"]
    assert read_config(find_config("embedded")).base == "embedded"
    assert find_config("no/such/file.yaml") == Path("no/such/file.yaml")


def test_a_folder_of_a_recipes_name_does_not_hide_the_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "default").mkdir()  # such as the adapter that the recipe made
    assert find_config("default").stem == "default" and find_config("default").is_file()
    (tmp_path / "card").write_text("epochs: 3", encoding="utf-8")
    assert find_config("card") == Path("card"), "a file is the user's own recipe"
    regular = recipe(tmp_path, "lora: {target_modules: '.*[qv]_proj'}")
    assert regular.lora.target_modules == ".*[qv]_proj"


def test_overrides_reach_every_field(tmp_path):
    text = "learning_rate: 2e-4\nlora: {r: 4}\n"  # YAML reads 2e-4 as a text
    config = recipe(
        tmp_path,
        text,
        "epochs=3",
        "lora.lora_alpha=8",
        "select.sources={a: 3}",
        "base=x=y",
        "revision=null",
        "head_learning_rate=1e-5",
    )
    assert (config.learning_rate, config.epochs, config.head_learning_rate) == (2e-4, 3.0, 1e-5)
    assert (config.lora.r, config.lora.lora_alpha, config.lora.target_modules) == (4, 8, CARD_LORA["target_modules"])
    assert (config.select.sources, config.base, config.revision) == ({"a": 3}, "x=y", None)
    assert recipe(tmp_path, "") == TrainConfig()
    merged = recipe(tmp_path, "select: {sources: {<<: {a: 1, b: 2}, b: 3}}\n")
    assert merged.select.sources == {"a": 1, "b": 3}  # `<<` may be overridden: that is no key given twice
    assert recipe(tmp_path, yaml.safe_dump(config.to_dict())) == config


@pytest.mark.parametrize(
    ("text", "overrides", "said"),
    [
        ("learnin_rate: 1", (), "unknown key learnin_rate; known: kind, base, revision"),
        ("lora: {rank: 8}", (), "recipe.yaml: lora: unknown key rank"),
        ("epochs: many", (), "epochs: 'many'; a number was expected"),
        ("batch_size: 4.0", (), "batch_size: 4.0; a whole number was expected"),
        ("batch_size: true", (), "batch_size: True"),
        ("group_by_length: 1", (), "group_by_length: 1"),
        ("lora: 16", (), "lora: 16"),
        ("lora: {target_modules: 3}", (), "lora: target_modules: 3"),
        ("num_labels: 2", (), "num_labels: 2; it must be 1 or 3"),
        ("consistency: 1.0", (), "consistency: 1.0; it must be 0 while both_orders is 0"),
        ("weights: {a.jsonl: 0}", (), "weights"),
        ("quantization: 8bit", (), "quantization: '8bit'"),
        ("{num_labels: 3, length_debias: 0.5}", (), "length_debias: 0.5"),
        ("base: null", (), "base: None"),
        ("- base", (), "names and values were expected"),
        ("base: [", (), "is not YAML"),
        ("base: a\nepochs: 2\nbase: b", (), "recipe.yaml: 'base' is given twice (line 1 and line 3); only one"),
        ("lora: {r: 4, r: 4}", (), "recipe.yaml: 'r' is given twice"),
        ("", ("select={sources: {a: 1, a: 2}}",), "--set select={sources: {a: 1, a: 2}}: 'a' is given twice"),
        ("truncation: left", (), "truncation: 'left'; it must be one of budget, card"),
        ("precision: fp16", (), "precision: 'fp16'"),
        ("epochs: 0", (), "epochs: 0.0"),
        ("learning_rate: .nan", (), "learning_rate: nan"),
        ("validation_share: 1.0", (), "validation_share: 1.0"),
        ("warmup: 1.5", (), "warmup: 1.5"),
        ("", ("epochs",), "--set epochs; it has no value"),
        ("", ("epochs=1", "epochs=2"), "--set epochs=1 and --set epochs=2; a setting has one value; leave one out"),
        ("", ("lora.r=4", "seed=2", "lora.r=4"), "--set lora.r=4 and --set lora.r=4"),
        ("", ("lora.r=4", "lora={lora_alpha: 8}"), "--set lora.r=4 and --set lora={lora_alpha: 8}"),
        ("", ("lora={lora_alpha: 8}", "lora.r=4"), "--set lora={lora_alpha: 8} and --set lora.r=4"),
        ("", ("epoch=2",), "recipe.yaml --set epoch=2: unknown key epoch"),
        ("", ("lora.rank=2",), "unknown key rank"),
        ("", ("lora.target_modules=[a",), "lora.target_modules"),
        ("lora: 3", ("lora.r=2",), "lora"),
        ("- base", ("epochs=2",), "names and values were expected"),
        ("select: {sources: {a: many}}", (), "many"),
        ("lora: {target_modules: [1, 2]}", (), "target_modules"),
        ("lora: {r: 0}", (), "lora.r: 0; it must be 1 or more"),
        ("lora: {lora_alpha: 0}", (), "lora.lora_alpha: 0"),
        ("", ("lora.lora_dropout=1.0",), "lora.lora_dropout: 1.0"),
        ("select: {shorter_right: 1.5}", (), "select.shorter_right: 1.5; it must be a share between 0 and 1"),
        ("select: {max_tokens: 0}", (), "select.max_tokens: 0"),
        ("select: {min_margin: .nan}", (), "select.min_margin: nan"),
        ("select: {sources: {a: -1}}", (), "select.sources: {'a': -1}"),
        ("learning_rate: .inf", (), "learning_rate: inf"),
        ("learnin_rate: 1", (), "did you mean learning_rate?"),
        ("lora.r: 8", (), "unknown key lora.r; known: kind"),
        ("lora.r: 8", (), "did you mean r under lora?"),
        ("max_token: 8", (), "did you mean max_tokens under select?"),
        ("lora: {learning_rate: 1}", (), "did you mean learning_rate outside of lora and select?"),
        ("colour: red", (), "remove or rename it"),
        ("revision: 1234567", (), "revision: 1234567; a text was expected; write it in quotes"),
        ("base: no", (), "base: False; a text was expected; write it in quotes"),
        (
            "lora: {target_modules: 'q_proj, v_proj'}",
            (),
            "target_modules: 'q_proj, v_proj'; it must be a list in brackets",
        ),
        ("", ("lora.target_modules=q_proj",), "target_modules: 'q_proj'; it must be a list in brackets"),
        ("lora: {target_modules: []}", (), "lora.target_modules: []"),
        ("lora: {layers_to_transform: []}", (), "lora.layers_to_transform: []"),
        ("lora: {layers_to_transform: [0, -1]}", (), "lora.layers_to_transform: [0, -1]"),
        ("scheduler: cosine_with_min_lr", (), "scheduler: 'cosine_with_min_lr'; it must be one of linear, cosine"),
        ("{scheduler: constant, warmup: 0.1}", (), "warmup: 0.1; it must be 0 while scheduler is constant"),
        ("seed: -1", (), "seed: -1; it must be from 0 to 4294967295"),
        ("weight_decay: .inf", (), "weight_decay: inf"),
        ("head_std: .inf", (), "head_std: inf"),
        ("head_learning_rate: .nan", (), "head_learning_rate: nan"),
        ("{both_orders: 1.0, consistency: .inf}", (), "consistency: inf"),
        ("weights: {a.jsonl: .inf}", (), "weights"),
    ],
)
def test_a_recipe_that_means_nothing_is_refused_in_a_sentence(tmp_path, text, overrides, said):
    with pytest.raises(UsageError) as error:
        recipe(tmp_path, text, *overrides)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_recipe_that_is_no_file_names_the_shipped_ones(tmp_path):
    with pytest.raises(
        UsageError,
        match=r"no_such cannot be read .*card, continue, default, distill, embedded, pointwise, qlora, three_way",
    ):
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
            ids = [renderer.render(p).ids for p in (pair, pair.swap())]
            turned[epoch, pair.id] = side = ids.index(row["input_ids"])
            assert row["labels"][1] == pytest.approx([pair.p_b, 1 - pair.p_b][side]) and row["offset"] == 0
    for epoch in (0, 1):
        assert 24 <= sum(turned[epoch, p.id] for p in pairs) <= 56
    assert 24 <= sum(turned[0, p.id] == turned[1, p.id] for p in pairs) <= 56
    backwards = Examples(pairs[::-1], renderer, TrainConfig())
    backwards.epoch = 1
    assert [backwards[n] for n in range(80)] == [examples[79 - n] for n in range(80)]
    for fixed in (Examples(pairs, renderer, TrainConfig(orders="ab")), Examples(pairs, renderer, TrainConfig(), True)):
        assert all(fixed[n]["labels"][1] == pair.p_b for n, pair in enumerate(pairs))


def test_a_share_of_the_pairs_stands_in_both_orders_side_by_side_with_mirrored_labels():
    renderer = Renderer(tiny.tokenizer(), 128, "budget")
    pairs = [make(n, p_b=n / 8) for n in range(4)]
    examples = Examples(pairs, renderer, TrainConfig(both_orders=1.0))
    batch = collate([examples[n] for n in range(4)], padding=0)
    assert batch["labels"][:, 1].tolist() == [0, 1, 0.125, 0.875, 0.25, 0.75, 0.375, 0.625]
    assert batch["twins"].tolist() == [0, 2, 4, 6] and batch["weights"].tolist() == [0.5] * 8
    for n, pair in enumerate(pairs):
        turned = renderer.render(pair.swap()).ids
        assert tuple(batch["input_ids"][2 * n + 1][: len(turned)].tolist()) == turned
    many = [make(n, p_b=0.5) for n in range(200)]
    some = Examples(many, renderer, TrainConfig(both_orders=0.3))
    both = sum("turned" in some[n] for n in range(200))
    assert 40 <= both <= 80
    assert {ids.itemsize for both in some.ids for ids in both} == {4}, "a long text takes little memory"
    assert some.tokens() > Examples(many, renderer, TrainConfig()).tokens()


def row(ids, y, offset=0.0):
    return {"input_ids": ids, "labels": y if isinstance(y, list) else [1 - y, y], "offset": offset}


def test_the_loss_is_the_cross_entropy_with_the_soft_label():
    batch = collate([row((5, 6, 7), 1.0), row((8,), 0.25)], padding=0)
    assert batch["input_ids"].tolist() == [[5, 6, 7] + [0] * 13, [8] + [0] * 15]
    assert batch["attention_mask"].tolist() == [[1] * 3 + [0] * 13, [1] + [0] * 15]
    z = (2.0, -1.0)
    p = [1 / (1 + math.exp(-x)) for x in z]
    each = [-math.log(p[0]), -(0.25 * math.log(p[1]) + 0.75 * math.log(1 - p[1]))]
    half = torch.tensor(z, dtype=torch.bfloat16)[:, None]
    assert float(preference_loss(half, batch["labels"])) == pytest.approx(sum(each) / 2)
    weights = torch.tensor([3.0, 1.0])
    assert float(preference_loss(half, batch["labels"], weights)) == pytest.approx((3 * each[0] + each[1]) / 4)


def test_three_logits_are_a_softmax_over_a_b_and_tie():
    batch = collate([row((5,), [0.2, 0.5, 0.3])], padding=0)
    z = [1.0, -2.0, 0.5]
    total = sum(math.exp(x) for x in z)
    expected = -sum(y * math.log(math.exp(x) / total) for x, y in zip(z, (0.2, 0.5, 0.3), strict=True))
    assert float(preference_loss(torch.tensor([z]), batch["labels"])) == pytest.approx(expected)


def test_what_length_says_is_added_to_the_logit_in_training():
    labels = torch.tensor([[0.0, 1.0]])
    zero = torch.zeros(1, 1)
    assert float(preference_loss(zero, labels, None, torch.tensor([2.0]))) == pytest.approx(math.log(1 + math.exp(-2)))
    z = zero.clone().requires_grad_()
    preference_loss(z, labels, None, torch.tensor([6.0])).backward()
    assert abs(float(z.grad)) < 0.01, "what length explains is not learned again"


def test_inconsistency_is_the_squared_position_bias_of_pairs_in_both_orders():
    logits = torch.tensor([[5.0], [2.0], [-1.0], [9.0]])  # a pair in both orders at 1
    assert float(inconsistency(logits, torch.tensor([1]))) == pytest.approx(0.25)
    assert float(inconsistency(logits, torch.tensor([], dtype=torch.long))) == 0
    mirrored = torch.tensor([[1.0, 2.0, 0.3], [2.0, 1.0, 0.3]])
    assert float(inconsistency(mirrored, torch.tensor([0]))) == pytest.approx(0, abs=1e-12)
    assert float(inconsistency(torch.tensor([[1.0, 2.0, 0.3], [1.0, 2.0, 0.3]]), torch.tensor([0]))) > 0.1


# Length, mixing, noise


def test_length_offsets_are_the_likeliest_slope_and_turn_with_the_sides():
    pairs = lengths_matter("x", 25, 75) + lengths_matter("y", 50, 50)
    offsets = length_offsets(pairs)
    by = {s: [(o, p) for o, p in zip(offsets, pairs, strict=True) if p.meta["source"] == s] for s in "xy"}
    turned = length_offsets([p.swap() for p in pairs])
    assert turned == pytest.approx([-o for o in offsets], abs=1e-9)
    assert all(o * (len(p.response_b) - len(p.response_a)) > 0 for o, p in by["x"]), "longer is likelier right in x"
    assert max(abs(o) for o, _ in by["y"]) < 0.05, "and says nothing in y"
    share = 0.75 * 0.9 + 0.25 * 0.1  # the gaps are all of one size, so the fit meets the labels' mean
    assert abs(by["x"][0][0]) == pytest.approx(math.log(share / (1 - share)), abs=0.01)


def test_a_files_weight_says_how_often_its_pairs_are_seen():
    rows = [("a", make(n, p_b=0.5)) for n in range(100)] + [("b", make(n, p_b=0.5)) for n in range(100, 200)]
    names = {p.id: name for name, p in rows}
    count = Counter(names[p.id] for p in mix(rows, {"a": 2.5, "b": 0.25}, 0, "ab"))
    assert 230 <= count["a"] <= 270 and 12 <= count["b"] <= 38
    assert mix(rows, None, 0, "ab") == [p for _, p in rows]
    with pytest.raises(UsageError, match="'c' names no file"):
        mix(rows, {"c": 1.0}, 0, "ab")
    assert mix(rows, {"c": 1.0}, 0, "abc") == [p for _, p in rows], (
        "a file of which nothing is left is one of the files"
    )


def test_each_of_several_processes_drops_with_random_numbers_of_its_own():
    drawn = []
    for processes, index in ((1, 0), (2, 0), (2, 1)):
        torch.manual_seed(3)
        place = SimpleNamespace(world_size=processes, process_index=index, seed=7)
        OwnNoise().on_train_begin(place, None, None)
        drawn.append(torch.rand(8))
    torch.manual_seed(3)
    alone, first, second = drawn
    assert torch.equal(alone, torch.rand(8)), "a single process draws what it drew"
    assert not torch.equal(first, second)
