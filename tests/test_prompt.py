"""Pairs become token ids: the template, both truncations, what is kept, and text that is hard on a tokenizer."""

import random
from dataclasses import replace
from itertools import chain
from types import SimpleNamespace

import pytest
import tiny
from transformers import AutoTokenizer

import harness_plugin.prompt.cutting as cutting_room
from harness_plugin.errors import DataError, ModelError, UsageError
from harness_plugin.pairs import Pair
from harness_plugin.prompt import TEMPLATE, TRUNCATIONS, Kept, Renderer, card_text, cut, flat, water_fill

ENDLESS = 10**7
FIELDS = ("prompt", "response_a", "response_b")


@pytest.fixture(scope="module")
def tokenizer(tiny_base):
    return AutoTokenizer.from_pretrained(tiny_base("gemma"))


@pytest.fixture(scope="module")
def render(tokenizer):
    """render(pair, max_length, truncation) -> Rendered."""
    made = {}

    def rendered(pair, max_length=512, truncation="budget"):
        key = (max_length, truncation)
        made[key] = made.get(key) or Renderer(tokenizer, max_length, truncation)
        return made[key].render(pair)

    return rendered


def ordinary(draw: random.Random) -> str:
    """Prose, code or other scripts; begins and ends with something visible."""
    inside = [" ", " ", " ", "\n", "\n\n", "  ", "\t", "\n    ", ". ", "\r\n"]
    words = [*tiny.WORDS, "🦊", "日本語", "Ünï", "שלום", "x=1;", "{a}", "</p>", "…", "é"]
    text = draw.choice(words)
    for _ in range(draw.choice((0, 1, 5, 30, 120))):
        text += draw.choice(inside) + draw.choice(words)
    return text


def random_pairs(count: int, seed: int) -> list[Pair]:
    draw = random.Random(seed)
    return [Pair(*(ordinary(draw) for _ in range(3))) for _ in range(count)]


def segments(tokenizer, rendered, max_length=512):
    """The ids of the three fields inside budget ids, as tuples; checks that the rest is the template's."""
    before, middle, last = Renderer(tokenizer, max_length)._pieces
    ids, at, found = rendered.ids, 0, []
    for piece, name in zip((before, middle, last), FIELDS, strict=True):
        assert list(ids[at : at + len(piece)]) == piece
        at += len(piece)
        kept = getattr(rendered, name).kept
        found.append(ids[at : at + kept])
        at += kept
    assert at == len(ids)
    return found


# -- the template and the card's tokens ---------------------------------------------------------------------------


def test_the_text_is_the_cards_byte_for_byte():
    assert TEMPLATE == "Which response is better for the prompt: {prompt}\n\nResponse A: {a}\n\nResponse B: {b}"
    pair = Pair(("Hi {b}", "More?"), "Yes. ", ("No.", "{prompt}"))
    assert card_text(pair) == (
        "Which response is better for the prompt: Hi {b}\n\nMore?\n\nResponse A: Yes. \n\nResponse B: No.\n\n{prompt}"
    )


def test_card_ids_are_those_of_the_cards_snippet_short_and_cut(tokenizer, render, pairs):
    texts = [p for p in pairs if tiny.HOSTILE not in card_text(p)] + random_pairs(300, seed=1)
    lengths = set()
    for pair in texts:
        theirs = tokenizer(card_text(pair), return_tensors="pt", truncation=True, max_length=512).input_ids[0].tolist()
        assert list(render(pair, truncation="card").ids) == theirs
        lengths.add(len(theirs))
    assert max(lengths) == 512 and min(lengths) < 40


def test_budget_ids_are_the_card_ids_when_everything_fits(tokenizer, render):
    for pair in random_pairs(400, seed=2):
        budget, card = (render(pair, ENDLESS, truncation) for truncation in ("budget", "card"))
        assert budget.ids == card.ids
        assert not budget.truncated and not card.truncated


def test_the_text_is_the_same_in_both_truncations_even_where_its_tokens_are_not(tokenizer, render):
    """The one known exception: line ends at the end of a field melt into one token with those of the template."""
    edges, differ = ("", " ", "  ", "\n", "\n\n", "\t", " \n"), set()
    for left in edges:
        for right in edges:
            pair = Pair(f"{left}ask{right}", f"{left}one{right}", f"{left}two{right}")
            budget, card = (render(pair, ENDLESS, truncation).ids for truncation in ("budget", "card"))
            assert tokenizer.decode(budget) == tokenizer.decode(card)
            if budget != card:
                differ.add(right)
    assert differ == {"\n", "\n\n", " \n"}


@pytest.mark.parametrize("truncation", TRUNCATIONS)
def test_control_tokens_typed_by_a_user_stay_text_and_bos_stands_once_in_front(tokenizer, render, truncation):
    for spelling in (*tiny.SPECIAL, tiny.HOSTILE):
        assert set(tokenizer(spelling).input_ids[1:]) & set(tokenizer.all_special_ids), "a plain call would be fooled"
        pair = Pair(spelling, f"a{spelling}b", (spelling, f"\n{spelling}"))
        ids = render(pair, ENDLESS, truncation).ids
        assert ids[0] == tiny.BOS
        assert not set(ids[1:]) & set(tokenizer.all_special_ids)
        assert tokenizer.decode(ids[1:]) == card_text(pair)


@pytest.mark.parametrize("truncation", TRUNCATIONS)
def test_every_text_comes_back_from_its_ids(tokenizer, render, truncation, pairs):
    for pair in pairs:
        assert tokenizer.decode(render(pair, ENDLESS, truncation).ids[1:]) == card_text(pair)


def test_a_tokenizer_saved_with_truncation_and_padding_renders_as_one_without(tokenizer, render, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    other = AutoTokenizer.from_pretrained(tmp_path)
    other("some text", truncation=True, max_length=7, padding="max_length")
    other.save_pretrained(tmp_path)
    assert '"max_length": 7' in (tmp_path / "tokenizer.json").read_text(encoding="utf-8")
    pair = Pair(tiny.words(30, 1), tiny.words(30, 2), tiny.words(30, 3))
    for truncation in TRUNCATIONS:
        reloaded = Renderer(AutoTokenizer.from_pretrained(tmp_path), 512, truncation)
        assert reloaded.render(pair) == render(pair, 512, truncation)


# -- sharing out the length -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "a, b, budget, shares",
    [
        (3, 4, 10, (3, 4)),
        (5, 5, 10, (5, 5)),
        (2, 100, 10, (2, 8)),
        (100, 2, 10, (8, 2)),
        (100, 90, 10, (5, 5)),
        (100, 90, 11, (5, 5)),
        (0, 100, 10, (0, 10)),
        (5, 6, 10, (5, 5)),
        (1, 1, 0, (0, 0)),
    ],
)
def test_water_fill_worked_examples(a, b, budget, shares):
    assert water_fill(a, b, budget) == shares


def test_water_fill_is_symmetric_gives_no_more_than_is_there_and_wastes_at_most_one_token():
    for a in range(14):
        for b in range(14):
            for budget in range(30):
                keep_a, keep_b = water_fill(a, b, budget)
                assert water_fill(b, a, budget) == (keep_b, keep_a)
                assert 0 <= keep_a <= a and 0 <= keep_b <= b
                assert min(budget, a + b) - 1 <= keep_a + keep_b <= budget
                assert (keep_a <= keep_b) == (a <= b) or keep_a == keep_b == budget // 2


def test_cut_keeps_the_head_and_tail_of_a_turn_and_the_last_of_several():
    assert cut([[1, 2, 3, 4, 5, 6]], 4) == [1, 2, 5, 6]
    assert cut([[1, 2, 3, 4, 5, 6]], 3) == [1, 2, 6]
    assert cut([[1, 2, 3]], 1) == [1]
    assert cut([[1, 2], [3, 4], [5, 6]], 4) == [3, 4, 5, 6]
    assert cut([[1, 2, 3, 4, 5], [6, 7]], 5) == [1, 2, 5, 6, 7]
    assert cut([[1, 2], [3]], 1) == [3]
    assert cut([[1], [2, 3, 4, 5]], 2) == [2, 5]
    assert cut([[1, 2]], 0) == [] and cut([], 3) == []


def test_budget_ids_fill_the_length_and_no_more(render):
    draw = random.Random(3)
    for _ in range(200):
        length = draw.randint(30, 300)
        pair = Pair(*(tiny.words(draw.choice((0, 3, 50, 300)), draw.randrange(10**6)) for _ in range(3)))
        rendered, whole = render(pair, length), render(pair, ENDLESS)
        assert len(rendered.ids) <= length
        assert rendered.truncated == (len(whole.ids) > length)
        assert len(rendered.ids) >= min(length, len(whole.ids)) - 1
        for name in FIELDS:
            kept = getattr(rendered, name)
            assert kept.original == getattr(whole, name).original and 0 <= kept.kept <= kept.original


def test_what_fits_is_kept_whole_and_what_one_field_leaves_the_others_get(tokenizer, render):
    long, short = tiny.words(900, 1), tiny.words(6, 2)
    rendered = render(Pair(short, long, short))
    assert rendered.prompt.kept == rendered.prompt.original
    assert rendered.response_b.kept == rendered.response_b.original
    assert rendered.response_a.kept > 400 and len(rendered.ids) == 512
    rendered = render(Pair(long, short, short))
    assert (
        rendered.response_a == rendered.response_b == Kept(rendered.response_b.original, rendered.response_b.original)
    )
    assert rendered.prompt.kept > 400 and len(rendered.ids) == 512
    rendered = render(Pair(long, long, long))
    assert rendered.response_a.kept == rendered.response_b.kept
    room = 512 - len(Renderer(tokenizer)._frame)
    assert rendered.prompt.kept == int(0.3 * room) and len(rendered.ids) >= 511


def test_b_is_never_lost_however_long_a_is_while_the_cards_cut_loses_it(render):
    big = (tiny.words(10_000, 4) + "🦊" * 20_000)[:50_000]
    for prompt in ("Short?", big):
        pair = Pair(prompt, big, "The answer is 4.")
        budget, card = render(pair), render(pair, truncation="card")
        assert budget.response_b.kept == budget.response_b.original > 0
        assert budget.response_a.kept > 100
        assert card.response_b.kept == 0 < card.response_b.original and card.truncated
        assert len(budget.ids) == len(card.ids) == 512


def test_a_response_keeps_the_same_tokens_in_both_orders(tokenizer, pairs):
    draw = random.Random(5)
    lengths = (0, 1, 40, 200, 500)
    more = [Pair(*(tiny.words(draw.choice(lengths), draw.randrange(10**6)) for _ in range(3))) for _ in range(60)]
    renderer = Renderer(tokenizer, 256)
    for pair in [*pairs, *more]:
        first, second = renderer.render_orders(pair)
        assert (first, second) == (renderer.render(pair), renderer.render(pair.swap()))
        prompt, a, b = segments(tokenizer, first, 256)
        assert segments(tokenizer, second, 256) == [prompt, b, a]
        assert (first.response_a, first.response_b) == (second.response_b, second.response_a)


def test_card_renders_both_orders_as_the_exchanged_pair(tokenizer, pairs):
    renderer = Renderer(tokenizer, 128, "card")
    for pair in pairs:
        assert renderer.render_orders(pair) == [renderer.render(pair), renderer.render(pair.swap())]
        assert renderer.render_orders(pair, both=False) == [renderer.render(pair)]


def test_kept_counts_of_the_card_are_the_tokens_of_each_field(tokenizer, render):
    """The space before a field is the field's in its first token, and the template's where it is a token alone."""
    pieces, space = Renderer(tokenizer)._pieces, tokenizer.convert_tokens_to_ids("▁")
    for pair in random_pairs(100, seed=6):
        whole, rendered = render(pair, ENDLESS, "card"), render(pair, 200, "card")
        at = 0
        for name, before, part in zip(FIELDS, pieces, segments(tokenizer, render(pair, ENDLESS)), strict=True):
            alone = part[0] == space
            at += len(before) + alone
            length = len(part) - alone
            assert getattr(whole, name) == Kept(length, length)
            assert getattr(rendered, name) == Kept(min(length, max(0, len(rendered.ids) - at)), length)
            at += length
        assert rendered.truncated == (at > 200) and len(whole.ids) == at


def test_of_several_turns_the_last_stay_and_the_first_of_them_keeps_head_and_tail(tokenizer, render):
    turns = tuple(f"turn {n} " + tiny.words(60, n) for n in range(8))
    rendered = render(Pair("Which?", turns, turns))
    text = tokenizer.decode(segments(tokenizer, rendered)[1])
    assert text.endswith("\n\n" + turns[-1])
    assert turns[0] not in text and turns[1] not in text
    whole = sum(turn in text for turn in turns)
    assert whole >= 1 and all(turn in text for turn in turns[-whole:])
    cut_turn = turns[-whole - 1]
    assert text.startswith("\n\n" + cut_turn[:20]) and cut_turn[-20:] + "\n\n" + turns[-whole] in text


# -- text that is hard, settings that cannot work ---------------------------------------------------------------------


HARD = {
    "empty": "",
    "space": " ",
    "NUL": "\0",
    "NUL inside": "a\0b",
    "lines": "\n" * 50,
    "emoji": "🦊" * 3000,
    "joined emoji": "👩\u200d👩\u200d👧\ufe0f",
    "right to left": "שלום \u202e עולם",
    "byte order mark": "\ufeff",
    "50 kB": "x" * 50_000,
    "control": "\x7f\x80",
}


@pytest.mark.parametrize("truncation", TRUNCATIONS)
@pytest.mark.parametrize("text", HARD.values(), ids=HARD)
def test_any_text_renders_within_the_length(tokenizer, render, truncation, text):
    for pair in (Pair(text, "one", "two"), Pair("ask", text, "two"), Pair("ask", "one", text), Pair(text, text, text)):
        rendered, whole = render(pair, 512, truncation), render(pair, ENDLESS, truncation)
        assert len(rendered.ids) <= 512 and rendered.ids[0] == tiny.BOS
        assert rendered.truncated == (rendered.ids != whole.ids)
        assert tokenizer.decode(whole.ids[1:]) == card_text(pair)


@pytest.mark.parametrize("truncation", TRUNCATIONS)
def test_half_a_surrogate_pair_is_refused_and_not_replaced(render, truncation):
    with pytest.raises(DataError, match="surrogate"):
        Pair("ask", "half \ud83d", "two")
    unchecked = SimpleNamespace(prompt="ask", response_a="half \ud83d", response_b="two")
    with pytest.raises(DataError, match="surrogate"):
        render(unchecked, 512, truncation)


def test_settings_that_cannot_work_are_refused(tokenizer):
    least = len(Renderer(tokenizer)._frame) + 8
    assert Renderer(tokenizer, least).render(Pair(*(tiny.words(50, n) for n in range(3)))).truncated
    for length in (least - 1, 1, 0, -5):
        with pytest.raises(UsageError, match=f"max_length={length}"):
            Renderer(tokenizer, length)
    with pytest.raises(UsageError, match="truncation='left'"):
        Renderer(tokenizer, 512, "left")
    with pytest.raises(ModelError, match="fast"):
        Renderer(SimpleNamespace(is_fast=False), 512)


def test_rendering_needs_only_the_texts(render, pairs):
    for pair in pairs:
        bare = Pair(pair.prompt, pair.response_a, pair.response_b)
        assert render(bare) == render(replace(pair, id="other", category="x"))
        assert flat(pair.prompt) in card_text(pair)


# -- very long fields -------------------------------------------------------------------------------------------------


def very_long():
    poem, code = tiny.words(4000, 1), tiny.words(3000, 2)
    return [
        Pair("short", poem, "short"),
        Pair(code, "short", poem),
        Pair((poem, "no", code), ("a", code, poem), "b"),
        Pair(tuple(tiny.words(300, n) for n in range(60)), "a", tuple(tiny.words(20, n) for n in range(900))),
    ]


@pytest.mark.parametrize("truncation", TRUNCATIONS)
def test_of_a_very_long_field_only_the_ends_are_tokenized_and_the_ids_are_the_same(monkeypatch, truncation):
    renderer = Renderer(tiny.tokenizer(), 64, truncation)
    whole = [renderer.render_orders(pair) for pair in very_long()]
    monkeypatch.setattr(cutting_room, "END_CHARACTERS", 4200)
    short = [renderer.render_orders(pair) for pair in very_long()]
    for before, after in zip(chain(*whole), chain(*short), strict=True):
        assert after.ids == before.ids and after.frame_cut == before.frame_cut
        for name in ("prompt", "response_a", "response_b"):
            one, other = getattr(before, name), getattr(after, name)
            assert one.kept == other.kept and other.original == pytest.approx(one.original, rel=0.06)
    assert [r.ids for r in renderer.render_orders(very_long()[0], both=False)] == [whole[0][0].ids]


def test_ten_megabytes_are_never_tokenized_at_once(monkeypatch):
    renderer, seen = Renderer(tiny.tokenizer(), 64), []
    real = renderer.encode
    monkeypatch.setattr(renderer, "encode", lambda text: (seen.append(len(text)), real(text))[1])
    rendered = renderer.render(Pair("p", "x" * 10_000_000, "y"))
    assert max(seen) <= 2 * cutting_room.END_CHARACTERS + 2 and rendered.truncated
    assert rendered.response_a.original == pytest.approx(10_000_000, rel=1e-4), "one token for each x"
