"""Pointwise reward models: z is r(B) - r(A), and r is what transformers computes for one conversation by itself."""

import json
import shutil
from dataclasses import replace

import pytest
import tiny
import tiny_rewards
import torch

from harness_plugin.engine import Engine
from harness_plugin.errors import DataError, UsageError
from harness_plugin.judges import open_judge
from harness_plugin.judges.local import LocalJudge
from harness_plugin.model import ModelSpec, load_model
from harness_plugin.pairs import Pair
from harness_plugin.scoring.identity import differences
from harness_plugin.scoring.judgement import Judgement

ALONE = {"dtype": "float32", "device": "cpu", "kind": "pointwise"}


@pytest.fixture(scope="session")
def reward(tmp_path_factory):
    """reward(kind) -> the folder of a random reward model of that family; read only."""
    root = tmp_path_factory.mktemp("rewards")
    made = {}

    def folder(kind):
        if kind not in made:
            made[kind] = tiny_rewards.save_reward_model(kind, root / kind)
        return made[kind]

    return folder


def conversation(pair, answer):
    """The messages of a pair and one of its answers, written here by hand for the kinds of pairs below."""
    prompt = list(pair.prompt) if isinstance(pair.prompt, tuple) else [pair.prompt]
    answers = list(answer) if isinstance(answer, tuple) else [answer]
    messages = []
    if prompt[0].startswith("System: "):
        messages.append({"role": "system", "content": prompt.pop(0).removeprefix("System: ")})
    if prompt[0].startswith("Human: "):
        roles = {"Human": "user", "Assistant": "assistant"}
        messages += [{"role": roles[turn.split(": ")[0]], "content": turn.split(": ", 1)[1]} for turn in prompt]
        return [*messages, {"role": "assistant", "content": answers[0]}]
    for turn, said in zip(prompt, answers, strict=True):
        messages += [{"role": "user", "content": turn}, {"role": "assistant", "content": said}]
    return messages


def expected(folder, messages):
    """What transformers itself computes for one conversation, not padded."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    if messages[0]["role"] == "system" and "System role not supported" in tokenizer.chat_template:
        first, second, *rest = messages
        messages = [{"role": "user", "content": f"{first['content']}\n\n{second['content']}"}, *rest]
    ids = tokenizer.apply_chat_template(messages, chat_template=same_day(tokenizer), tokenize=True, return_dict=False)
    with torch.no_grad():
        return ids, float(model.eval()(torch.tensor([ids])).logits)


def same_day(tokenizer):
    return tokenizer.chat_template.replace("strftime_now('%d %b %Y') if strftime_now is defined else ", "")


def pairs():
    words = tiny.words
    return [
        Pair(words(5, 1), words(9, 2), words(30, 3), id="one turn"),
        Pair("  spaces around \n", "\n\n two lines before", "one line after\n", id="white space"),
        Pair((words(5, 4), words(6, 5)), (words(8, 6), words(4, 7)), (words(7, 8), words(9, 9)), id="two turns"),
        Pair(("System: Be brief.", words(5, 10)), words(6, 11), words(12, 12), id="system"),
        Pair(
            ("System: Be kind.", words(5, 13), words(3, 14)),
            (words(6, 15), "Yes."),
            (words(12, 16), ""),
            id="system, two",
        ),
        Pair(
            ("Human: Hello!", f"Assistant: {words(6, 17)}", f"Human: {words(4, 18)}"), "No.", words(9, 19), id="history"
        ),
        Pair("🦊 שלום", "e\u0301 é", "🙂" * 9, id="letters"),
    ]


@pytest.mark.parametrize("kind", tiny_rewards.KINDS)
def test_scores_are_the_difference_of_what_transformers_computes_for_each_answer(reward, kind):
    with open_judge(pretrained=str(reward(kind)), **ALONE) as judge:
        judgements = list(judge.judge(pairs()))
        renderer = judge.model.renderer
    for pair, judgement in zip(pairs(), judgements, strict=True):
        (ids_a, r_a), (ids_b, r_b) = (
            expected(reward(kind), conversation(pair, answer)) for answer in (pair.response_a, pair.response_b)
        )
        shown = renderer.render_answers(pair)
        assert [list(one.ids) for one in shown] == [list(ids_a), list(ids_b)], pair.id
        assert judgement.z_ab[0] == pytest.approx(r_b - r_a, abs=1e-4), pair.id
        assert (judgement.r_a, judgement.r_b) == pytest.approx((r_a, r_b), abs=1e-4)
        assert judgement.position_bias == 0 and judgement.z_ba == (-judgement.z_ab[0],)
        assert judgement.tokens == len(ids_a) + len(ids_b) and not judgement.truncated
    assert len({j.score for j in judgements}) == len(judgements)


def test_the_spelling_of_special_tokens_in_users_texts_stays_text(reward):
    for kind in tiny_rewards.KINDS:
        model = load_model(ModelSpec(pretrained=str(reward(kind)), **ALONE))
        tokenizer, end = model.renderer.tokenizer, tiny_rewards.END[kind]
        plain = model.renderer.render_answer("ask me", "an answer").ids
        hostile = model.renderer.render_answer(f"ask {end} me", f"an {end}{tokenizer.eos_token} answer").ids
        mark = tokenizer.convert_tokens_to_ids(end)
        assert hostile.count(mark) == plain.count(mark) > 0
        assert tokenizer.decode(hostile).count(end) == plain.count(mark) + (3 if tokenizer.eos_token == end else 2)
        bos = tokenizer.bos_token_id
        assert bos is None or (hostile[0] == bos and hostile.count(bos) == 1)


def test_thoughts_in_an_answer_stay_where_they_are(reward):
    renderer = load_model(ModelSpec(pretrained=str(reward("qwen3")), **ALONE)).renderer
    text = renderer.tokenizer.decode(renderer.render_answer("Ask?", "<think>So</think>\nYes.").ids)
    assert text.endswith("<think>\n\n</think>\n\n<think>So</think>\nYes.<|im_end|>\n")


def test_each_answer_is_scored_once_however_many_opponents_it_has(reward, tmp_path):
    model = load_model(ModelSpec(pretrained=str(reward("gemma3")), **ALONE))
    answers = {f"m{n}": tiny.words(6, n) for n in range(7)}
    battles = [
        Pair(f"ask {p}", f"{p} {answers[a]}", f"{p} {answers[b]}")
        for p in range(3)
        for a in answers
        for b in answers
        if a < b
    ]
    engine = tiny.counted(model)
    judgements = list(LocalJudge(model, engine).judge(battles))
    assert len(battles) == 63 and sum(map(len, engine.asked)) == 3 * 7
    r = {}
    for pair, judgement in zip(battles, judgements, strict=True):
        assert r.setdefault((pair.prompt, pair.response_a), judgement.r_a) == judgement.r_a
        assert r.setdefault((pair.prompt, pair.response_b), judgement.r_b) == judgement.r_b
    one, other = (next(LocalJudge(model, Engine(model)).judge([p])) for p in (battles[5], battles[5].swap()))
    assert (one.r_a, one.r_b) == pytest.approx((other.r_b, other.r_a)) and one.score == pytest.approx(-other.score)


def test_the_store_keeps_the_logits_of_answers(reward, tmp_path):
    spec = ModelSpec(pretrained=str(reward("qwen3")), **ALONE)
    with open_judge(spec, store=tmp_path / "store") as judge:
        first = list(judge.judge(pairs()))
        assert judge.store.hits == 0 and judge.identity["kind"] == "pointwise"
    with open_judge(spec, store=tmp_path / "store") as judge:
        assert list(judge.judge(pairs())) == first and judge.store.misses == 0


def test_with_one_order_the_other_is_left_out(reward):
    with open_judge(ModelSpec(pretrained=str(reward("llama")), **ALONE), order="ab") as judge:
        judgements = list(judge.judge(pairs()))
    assert all(j.z_ba is None and j.position_bias is None and j.z_ab == (j.r_b - j.r_a,) for j in judgements)


# -- texts that are too long ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", tiny_rewards.KINDS)
def test_long_texts_are_cut_inside_and_the_end_of_the_template_stays(reward, kind):
    spec = ModelSpec(pretrained=str(reward(kind)), max_length=100, **ALONE)
    renderer = load_model(spec).renderer
    whole = load_model(replace(spec, max_length=4000)).renderer
    turns = tuple(tiny.words(9, n) for n in range(12))
    for prompt, answer in [
        (tiny.words(200, 1), tiny.words(200, 2)),
        (tiny.words(3, 3), tiny.words(300, 4)),
        (tiny.words(300, 5), "Yes."),
        (turns, turns[::-1]),
        (("System: Be brief.", *turns), turns),
        (tuple(f"{'Human' if n % 2 == 0 else 'Assistant'}: {turn}" for n, turn in enumerate(turns[:11])), "No."),
    ]:
        shown, full = renderer.render_answer(prompt, answer), whole.render_answer(prompt, answer)
        assert shown.truncated and not full.truncated and len(shown.ids) <= 100 < len(full.ids)
        assert len(shown.ids) > 80, "the room is used"
        end = renderer._empty.frames[-1]
        assert list(shown.ids[-len(end) :]) == end == list(full.ids[-len(end) :])
        assert shown.prompt.original == full.prompt.kept and shown.response.original == full.response.kept
        assert shown.response.kept > 0


def test_what_is_too_long_for_a_tokenizer_is_cut_before_it(reward, monkeypatch):
    import harness_plugin.prompt.cutting as cutting

    renderer = load_model(ModelSpec(pretrained=str(reward("gemma3")), max_length=60, **ALONE)).renderer
    monkeypatch.setattr(cutting, "END_CHARACTERS", 4200)
    answer = "word " * 100_000
    shown = renderer.render_answer("ask", answer)
    assert len(shown.ids) == 60 and shown.response.original == pytest.approx(300_000, rel=0.1)
    kept = renderer.render_answer("ask", "word " * 1500)
    assert shown.ids == kept.ids


def test_a_length_that_the_template_fills_is_a_wrong_use(reward):
    tiny.refusal(
        UsageError,
        lambda: load_model(ModelSpec(pretrained=str(reward("qwen3")), max_length=12, **ALONE)),
        "max_length=12",
        "the template alone takes",
    )
    tiny.refusal(
        UsageError,
        lambda: load_model(ModelSpec(pretrained=str(reward("qwen3")), truncation="card", **ALONE)),
        "truncation=card",
        "last token",
    )


# -- templates --------------------------------------------------------------------------------------------------------


def test_a_conversation_that_the_template_refuses_names_the_pair(reward):
    odd = Pair(("Assistant: I begin.", "Human: So do I."), "one", "two", id="odd")
    with open_judge(pretrained=str(reward("gemma3")), **ALONE) as judge:
        tiny.refusal(DataError, lambda: list(judge.judge([odd])), "pair odd", "assistant, user", "Roles must alternate")
    with open_judge(pretrained=str(reward("qwen3")), **ALONE) as judge:
        assert len(list(judge.judge([odd]))) == 1


def test_neighbours_of_one_role_are_one_message_where_the_template_wants_turns_in_turn(reward):
    renderer = load_model(ModelSpec(pretrained=str(reward("gemma3")), **ALONE)).renderer
    two = renderer.render_answer(("Human: one", "Human: two"), "three")
    assert two.ids == renderer.render_answer("one\n\ntwo", "three").ids


def test_a_tokenizer_without_a_chat_template_is_refused_and_the_error_says_where_to_put_one(reward, tmp_path):
    folder = shutil.copytree(reward("llama"), tmp_path / "bare")
    template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    (folder / "chat_template.jinja").unlink()
    spec = ModelSpec(pretrained=str(folder), **ALONE)
    tiny.refused(spec, str(folder), "no chat template", "chat_template.jinja")
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    assert load_model(spec).renderer.template == template


def test_the_chat_template_is_a_part_of_the_judges_identity(reward, tmp_path):
    folder = shutil.copytree(reward("qwen3"), tmp_path / "other")
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}", encoding="utf-8"
    )
    one, other = (load_model(ModelSpec(pretrained=str(f), **ALONE)).identity for f in (reward("qwen3"), folder))
    assert differences(one, other) == ["template"]


@pytest.mark.parametrize("more", ["", "{{ eos_token }}"])
def test_a_template_that_ends_with_the_padding_token_is_read_where_transformers_reads_it(reward, tmp_path, more):
    from transformers import AutoModelForSequenceClassification

    folder = shutil.copytree(reward("llama"), tmp_path / "same")
    pad = tiny_rewards.tokenizer("llama").convert_tokens_to_ids("<|eot_id|>")
    tiny.change_json(folder / "config.json", pad_token_id=pad, eos_token_id=pad)
    source = tiny_rewards.TEMPLATES["llama"]
    (folder / "chat_template.jinja").write_text(source + more, encoding="utf-8")
    with open_judge(pretrained=str(folder), **ALONE) as judge:
        judgements = list(judge.judge(pairs()))
        shown = [judge.model.renderer.render_answers(pair) for pair in pairs()]
    network = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    for judgement, (a, b) in zip(judgements, shown, strict=True):
        assert a.ids[-1] != pad and b.ids[-1] != pad
        with torch.no_grad():
            r_a, r_b = (float(network(torch.tensor([[*one.ids, *[pad] * (1 + len(more))]])).logits) for one in (a, b))
        assert (judgement.r_a, judgement.r_b) == pytest.approx((r_a, r_b), abs=1e-4)


# -- rows -------------------------------------------------------------------------------------------------------------


def test_rows_hold_the_logits_of_both_answers_and_are_checked(reward):
    with open_judge(pretrained=str(reward("gemma2")), **ALONE) as judge:
        (judgement,) = judge.judge(pairs()[:1])
    row = judgement.to_row()
    assert row["z_ab"] == row["r_b"] - row["r_a"] and row["z_ba"] == -row["z_ab"]
    assert Judgement.from_row(json.loads(json.dumps(row))) == judgement
    mirrored = judgement.swapped()
    assert (mirrored.r_a, mirrored.r_b, mirrored.z_ab) == (judgement.r_b, judgement.r_a, judgement.z_ba)
    tiny.refusal(DataError, lambda: Judgement.from_row(row | {"r_a": row["r_a"] + 1}), "z_ab is", "r_a and r_b give")
    tiny.refusal(DataError, lambda: Judgement.from_row(row | {"r_a": None}), "r_a and r_b")
    tiny.refusal(DataError, lambda: Judgement.from_row(row | {"r_a": row["r_a"] + 1e-9}), "checksum")
    both = {"r_a": row["r_a"] + 1, "r_b": row["r_b"] + 1}
    tiny.refusal(DataError, lambda: Judgement.from_row(row | both), "checksum")


# -- adapters ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("merge", [True, False])
def test_an_adapter_scores_as_it_does_in_peft(tiny_base, adapter_copy, merge):
    """The tiny base has no chat template, so the adapter's folder brings it."""
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    adapter = adapter_copy("gemma3")
    spec = ModelSpec(pretrained=str(tiny_base("gemma3")), peft=str(adapter), merge=merge, **ALONE)
    tiny.refused(spec, "no chat template", str(adapter), "chat_template.jinja")
    (adapter / "chat_template.jinja").write_text(tiny_rewards.TEMPLATES["gemma3"], encoding="utf-8")
    with open_judge(spec) as judge:
        judgements = list(judge.judge(pairs()))
        shown = [judge.model.renderer.render_answers(pair) for pair in pairs()]
    network = AutoModelForSequenceClassification.from_pretrained(tiny_base("gemma3"), num_labels=1, dtype=torch.float32)
    network = PeftModel.from_pretrained(network, adapter).eval()
    for judgement, answers in zip(judgements, shown, strict=True):
        with torch.no_grad():
            r_a, r_b = (float(network(torch.tensor([one.ids])).logits) for one in answers)
        assert (judgement.r_a, judgement.r_b) == pytest.approx((r_a, r_b), abs=1e-4)
