"""lm-eval's samples of generation tasks: models meet by document, and the judge reads the question alone."""

import json

import pytest
from pair_rows import ANSWER_ROWS, talk, write_lines

from harness_plugin.errors import DataError
from harness_plugin.pairs import read_outputs
from harness_plugin.pairs.formats.chat_templates import templated_messages
from harness_plugin.tournament import battles, gather

SAID = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello."), ("user", "Count.")]


def rendered(turn, begin="", end="", **names):
    """The conversation SAID as a template writes it: `turn` holds the places of a role and a text, `end` is where the
    answer is to begin; `names`: what the template calls the roles."""
    return begin + "".join(turn.format(names.get(role, role), text) for role, text in SAID) + end


CHATML, LLAMA_3 = "<|im_start|>{}\n{}<|im_end|>\n", "<|start_header_id|>{}<|end_header_id|>\n\n{}<|eot_id|>"
COMMAND_R = "<|START_OF_TURN_TOKEN|><|{}_TOKEN|>{}<|END_OF_TURN_TOKEN|>"
USER, ASSISTANT = "<\uff5cUser\uff5c>", "<\uff5cAssistant\uff5c></think>"
LONG = {
    "ChatML": rendered(CHATML, end="<|im_start|>assistant\n"),
    "Llama 3": rendered(LLAMA_3, "<|begin_of_text|>", "<|start_header_id|>assistant<|end_header_id|>\n\n"),
    "Llama 4": rendered("<|header_start|>{}<|header_end|>\n\n{}<|eot|>", "<|begin_of_text|>"),
    "Granite": rendered("<|start_of_role|>{}<|end_of_role|>{}<|end_of_text|>\n"),
    "Command R": rendered(COMMAND_R, "<BOS_TOKEN>", system="SYSTEM", user="USER", assistant="CHATBOT"),
    "gpt-oss": rendered("<|start|>{}<|message|>{}<|end|>", system="developer", assistant="assistant<|channel|>final"),
    "Zephyr": rendered("<|{}|>\n{}</s>\n", end="<|assistant|>\n"),
    "Phi 4": rendered("<|im_start|>{}<|im_sep|>{}<|im_end|>", end="<|im_start|>assistant<|im_sep|>"),
    "Kimi": rendered("<|im_{0}|>{0}<|im_middle|>{1}<|im_end|>", end="<|im_assistant|>assistant<|im_middle|>"),
    "EXAONE": rendered("[|{}|]{}[|endofturn|]\n", end="[|assistant|]"),
    "OLMo 2": rendered("<|{}|>\n{}\n", "<|endoftext|>", "<|assistant|>\n"),
    "Phi 3": rendered("<|{}|>\n{}<|end|>\n", end="<|assistant|>\n"),
    "Tulu": rendered("<|{}|>\n{}\n", end="<|assistant|>\n"),
    "GLM": rendered("<|{}|>\n{}", "[gMASK]<sop>", "<|assistant|>\n<think></think>"),
    "DeepSeek": f"<\uff5cbegin\u2581of\u2581sentence\uff5c>Be brief.{USER}Hi{ASSISTANT}Hello."
    f"<\uff5cend\u2581of\u2581sentence\uff5c>{USER}Count.{ASSISTANT}",
    "Llama 2": "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] Hello. </s><s>[INST] Count. [/INST]",
    "Mistral": "<s>[SYSTEM_PROMPT]Be brief.[/SYSTEM_PROMPT][INST]Hi[/INST]Hello.</s>[INST]Count.[/INST]",
}


def qwen(text, system="You are helpful."):
    return CHATML.format("system", system) + CHATML.format("user", text) + "<|im_start|>assistant\n"


def llama(text):
    return f"<|begin_of_text|>{LLAMA_3.format('user', text)}<|start_header_id|>assistant<|end_header_id|>\n\n"


GEMMA = "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n"


@pytest.mark.parametrize("family", LONG)
def test_the_turns_of_a_template_are_read_back(family):
    assert [(turn.role, turn.text) for turn in templated_messages(LONG[family])] == SAID


@pytest.mark.parametrize(
    "system",
    [
        "",
        "You are a helpful assistant.",
        "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
        "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n",
    ],
)
def test_what_a_template_says_by_itself_is_no_part_of_the_prompt(system):
    text = qwen("Hi", system) + "<think>\n\n</think>\n\n"
    assert [(turn.role, turn.text) for turn in templated_messages(text)] == [("user", "Hi")]
    assert [(turn.role, turn.text) for turn in templated_messages(GEMMA)] == [("user", "Hi")]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Q: Hi\nA:",
        "What does <|im_start|>user\nHi<|im_end|> mean?",
        "Explain [INST] Hi [/INST] to me.",
        "<|im_start|>tool\n{}<|im_end|>\n",
        "<|system|>\nBe brief.</s>\n",
    ],
)
def test_other_texts_have_no_template(text):
    assert templated_messages(text) is None


def sample(number, prompt, answer, **fields):
    row = {name: value for name, value in ANSWER_ROWS["lm_eval"].items() if name != "doc_hash"}
    given = {"gen_args_0": {"arg_0": prompt, "arg_1": {"until": []}}}
    return {**row, "doc_id": number, "doc": {"n": number}, "arguments": given, "resps": [[answer]], **fields}


QUESTIONS = ("Name a nut.", "Name a fish.", "Name a river.")


def samples(folder, name, template, order=(0, 1, 2), file="samples_nuts_2026-01-02T10-00-00.jsonl", **fields):
    """A model's file: its answers are its name and the number of the question."""
    (folder / name).mkdir(exist_ok=True)
    rows = [
        sample(n, template(QUESTIONS[n]), f"{name} {n}", **{key: value.format(n) for key, value in fields.items()})
        for n in order
    ]
    return str(write_lines(folder / name / file, *rows))


@pytest.mark.parametrize("fields", [{"doc_hash": "h{}"}, {}])
def test_models_with_different_templates_meet_by_document_and_are_judged_on_the_question(tmp_path, fields, caplog):
    files = [samples(tmp_path, "heron", qwen, **fields), samples(tmp_path, "stork", llama, (2, 0, 1), **fields)]
    found = battles(gather(files)).pairs
    assert sorted((pair.prompt, pair.response_a, pair.response_b) for pair in found) == sorted(
        (question, f"heron {n}", f"stork {n}") for n, question in enumerate(QUESTIONS)
    )
    assert "the models' system prompts differ in 3 prompts (first: document" in caplog.text


def test_a_system_prompt_that_all_models_had_stays():
    assert templated_messages(qwen("Hi"))[0].text == "You are helpful."


def test_the_same_system_prompt_on_both_sides_is_read(tmp_path):
    files = [samples(tmp_path, name, qwen, doc_hash="h{}") for name in ("heron", "stork")]
    assert {pair.prompt[0] for pair in battles(gather(files)).pairs} == {"System: You are helpful."}


def test_an_unknown_template_is_taken_off_where_another_model_shows_the_question(tmp_path):
    files = [
        samples(tmp_path, "heron", llama, doc_hash="h{}"),
        samples(tmp_path, "stork", lambda text: f"### Person: {text}\n### Bot:", doc_hash="h{}"),
    ]
    assert {pair.prompt for pair in battles(gather(files)).pairs} == set(QUESTIONS)


def test_documents_in_other_words_meet_by_hash_with_a_warning_and_not_by_number(tmp_path, caplog):
    def files(**fields):
        return [
            samples(tmp_path, "heron", lambda text: f"Please. {text}", **fields),
            samples(tmp_path, "stork", lambda text: f"{text} Thanks.", **fields),
        ]

    assert len(battles(gather(files(doc_hash="h{}"))).pairs) == 3
    assert "3 documents were put to the models in different words (first: doc_hash h0 of nuts)" in caplog.text
    with pytest.raises(DataError, match="no prompt was answered by both sides"):
        battles(gather(files()))


def test_two_tasks_over_the_same_documents_stay_apart(tmp_path):
    files = []
    for name in ("heron", "stork"):
        for task in ("nuts", "fishes"):
            template = llama if name == "heron" else qwen
            file = f"samples_{task}_2026-01-02T10-00-00.jsonl"
            files.append(
                samples(tmp_path, name, lambda t, k=task, w=template: w(f"{k}: {t}"), file=file, doc_hash="h{}")
            )
    found = battles(gather(files)).pairs
    assert {pair.prompt for pair in found} == {f"{task}: {text}" for task in ("nuts", "fishes") for text in QUESTIONS}


def test_a_model_that_meets_nobody_is_named_aloud(tmp_path, caplog):
    files = [samples(tmp_path, name, llama, doc_hash="h{}") for name in ("heron", "stork")]
    files.append(samples(tmp_path, "ibis", lambda text: f"Other: {text}", doc_hash="x{}"))
    meetings = battles(gather(files))
    assert len(meetings.pairs) == 3
    assert "WARNING: ibis meets nobody: of its 3 answers none is to a prompt" in caplog.text


def test_older_layouts_of_the_arguments_are_read(tmp_path):
    settings = {"until": []}
    messages = json.dumps(talk("Hi"))
    layouts = (
        [["Hi", settings]],
        ["Hi", settings],
        [{"arg_0": "Hi", "arg_1": settings}],
        {"gen_args_0": ["Hi", settings]},
        {"gen_args_0": {"arg_0": "Hi"}},
        {"gen_args_0": {"arg_0": [messages], "arg_1": settings}},
        {"gen_args_0": {"arg_0": messages, "arg_1": settings}},
        {"gen_args_0": {"arg_0": talk("Hi"), "arg_1": settings}},
        [[llama("Hi"), settings]],
    )
    for layout in layouts:
        path = write_lines(tmp_path / "x.jsonl", {**sample(0, "", "Hello."), "arguments": layout})
        assert read_outputs(path)[0].prompt == "Hi", layout
    for layout in ([["Hi", " there"]], {"gen_args_0": {"arg_0": "Hi", "arg_1": " there"}}, [], {}, "Hi", [["Hi"]]):
        path = write_lines(tmp_path / "x.jsonl", {**sample(0, "", "Hello."), "arguments": layout})
        with pytest.raises(DataError, match="allowed: gen_args_0 of a generation task"):
            read_outputs(path)


@pytest.mark.parametrize("format", sorted(ANSWER_ROWS))
def test_a_column_category_is_used_in_every_format_of_answers(tmp_path, format):
    questions = write_lines(
        tmp_path / "question.jsonl", {"question_id": "q1", "turns": ["Hi"], "category": "greetings"}
    )
    path = write_lines(tmp_path / "x.jsonl", {**ANSWER_ROWS[format], "category": "birds"})
    asked = {"questions": questions} if format in ("arena_hard_v0.1", "openai_batch") else {}
    assert read_outputs(path, **asked)[0].category == "birds"


def test_a_document_with_several_prompts_or_with_pictures_is_refused(tmp_path):
    def request(prompt, **more):
        return {"arg_0": prompt, "arg_1": {"until": []}, **more}

    def read(arguments):
        return read_outputs(
            write_lines(tmp_path / "samples_t.jsonl", {**ANSWER_ROWS["lm_eval"], "arguments": arguments})
        )

    (answer,) = read({"gen_args_0": request("Hi"), "gen_args_1": request("Hi")})
    assert answer.prompt == "Hi"
    with pytest.raises(
        DataError, match=r"field arguments.gen_args_1.arg_0 is 'Bye'; allowed: the prompt of arguments.g"
    ):
        read({"gen_args_0": request("Hi"), "gen_args_1": request("Bye")})
    with pytest.raises(DataError, match=r"field arguments\[1\]\[0\] is 'Bye'"):
        read([["Hi", {"until": []}], ["Bye", {"until": []}]])
    with pytest.raises(DataError, match=r"field arguments.gen_args_0.arg_2 is .*pictures and sounds cannot be judged"):
        read({"gen_args_0": request("<image>Hi", arg_2={"visual": ["<PIL.Image>"]})})
