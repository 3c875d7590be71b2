"""Files with one model's answers, as `pairs.read_outputs` reads them."""

import json
import random

import pytest
from pair_rows import ANSWER_ROWS

from harness_plugin.errors import DataError, UsageError
from harness_plugin.pairs import Answer, content_id, detect_format, read_outputs
from harness_plugin.pairs.formats.detection import detect_answer_format
from harness_plugin.pairs.formats.registry import ANSWER_FORMATS

ALPACA, CHOICES, MESSAGES, SAMPLE = (
    ANSWER_ROWS[name] for name in ("alpaca_eval", "arena_hard_v0.1", "arena_hard_v2", "lm_eval")
)
HI = content_id("Hi")
QUESTION = {"question_id": "q1", "category": "greetings", "turns": [{"content": "Hi"}]}


def lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def refused(path, **options):
    with pytest.raises(DataError) as caught:
        read_outputs(path, **options)
    return str(caught.value)


@pytest.mark.parametrize("format", ANSWER_FORMATS, ids=lambda format: format.name)
def test_each_format_is_told_by_its_columns_and_read(tmp_path, format):
    row = ANSWER_ROWS[format.name]
    assert detect_answer_format(row) is format
    (answer,) = read_outputs(lines(tmp_path / "x.jsonl", row), lines(tmp_path / "question.jsonl", QUESTION), "heron")
    assert (answer.response, answer.model) == ("Hello.", "heron")
    with pytest.raises(DataError, match=r"holds single answers of one model, not pairs; .* side by side"):
        detect_format(row)


def test_pairs_given_for_answers_are_sent_to_the_command_that_scores_them(tmp_path):
    pair = {"prompt": "Hi", "response_a": "a", "response_b": "b"}
    assert "the file holds pairs, not the answers of one model" in refused(lines(tmp_path / "x.jsonl", pair))


def test_alpaca_outputs_are_known_by_their_prompt_and_repeats_are_numbered(tmp_path):
    path = tmp_path / "model_outputs.json"
    path.write_text(json.dumps([ALPACA, {"instruction": "Bye", "output": ""}, ALPACA]), "utf-8")
    assert read_outputs(path, model="stork") == [
        Answer("Hi", "Hello.", "heron", "koala", HI),
        Answer("Bye", "", "stork", None, content_id("Bye")),
        Answer("Hi", "Hello.", "heron", "koala", f"{HI}-2"),
    ]


def test_arena_hard_answers_of_the_first_kind_take_their_prompts_from_the_questions(tmp_path):
    answers = lines(tmp_path / "heron.jsonl", CHOICES)
    assert "row 1: the answer to question q1 comes without its prompt" in refused(answers)
    questions = lines(tmp_path / "question.jsonl", QUESTION)
    assert read_outputs(answers, questions=questions) == [Answer("Hi", "Hello.", "heron", "greetings", "q1")]
    turns = lines(tmp_path / "two.jsonl", {**CHOICES, "choices": [{"turns": ["Hello.", "Bye."]}]})
    asked = lines(tmp_path / "asked.jsonl", {"question_id": "q1", "turns": ["Hi", "Bye"]})
    assert read_outputs(turns, questions=asked) == [Answer(("Hi", "Bye"), ("Hello.", "Bye."), "heron", None, "q1")]


def test_arena_hard_answers_of_the_second_kind_carry_their_prompts(tmp_path):
    answers = lines(tmp_path / "heron.jsonl", MESSAGES)
    assert read_outputs(answers) == [Answer("Hi", "Hello.", "heron", None, "q1")]
    questions = lines(tmp_path / "question.jsonl", {"uid": "q1", "category": "greetings", "prompt": "Hi"})
    assert read_outputs(answers, questions=questions)[0].category == "greetings"


def test_lm_eval_samples_give_the_first_raw_answer_of_the_first_filter(tmp_path):
    path = lines(tmp_path / "samples_hello.jsonl", SAMPLE, {**SAMPLE, "filter": "strict"}, {**SAMPLE, "doc_hash": "d2"})
    first = Answer("Q: Hi\nA:", "Hello.", "heron", None, "d1")
    assert read_outputs(path, model="heron") == [first, Answer("Q: Hi\nA:", "Hello.", "heron", None, "d2")]
    chat = [json.dumps([{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}])]
    given = {"gen_args_0": {"arg_0": chat, "arg_1": {}}}
    row = {**SAMPLE, "arguments": given}
    assert read_outputs(lines(path, row))[0].prompt == ("System: Be kind.", "Human: Hi")


OWN = {"prompt": "ask", "response": "say", "model": "who", "category": "kind"}


def test_a_file_that_no_tool_made_is_read_by_its_plain_columns_or_by_named_ones(tmp_path):
    plain = {"prompt": "Hi", "response": "Hello.", "model": "heron", "category": "greetings", "score": 3}
    assert read_outputs(lines(tmp_path / "a.jsonl", plain)) == [Answer("Hi", "Hello.", "heron", "greetings", HI)]
    bare = lines(tmp_path / "b.jsonl", {"prompt": "Hi", "response": ""})
    assert read_outputs(bare, model="b") == [Answer("Hi", "", "b", None, HI)]
    own = {"ask": "Hi", "say": "Hello.", "who": "heron", "kind": 7, "prompt": "not this", "instruction": 1, "output": 2}
    found = read_outputs(lines(tmp_path / "c.jsonl", own), model="c", fields=OWN)
    assert found == [Answer("Hi", "Hello.", "heron", "7", HI)]
    partly = lines(tmp_path / "d.jsonl", {"prompt": "Hi", "say": "Hello.", "who": "heron"})
    assert read_outputs(partly, model="d", fields={"response": "say"}) == [Answer("Hi", "Hello.", "d", None, HI)]


def test_named_columns_hold_turns_and_messages_too(tmp_path):
    def read(ask, say):
        (found,) = read_outputs(
            lines(tmp_path / "x.jsonl", {"n": 1, "ask": ask, "say": say}), fields=dict(list(OWN.items())[:2])
        )
        return found.prompt, found.response

    assert read(["Hi", "Bye"], ["Hello.", ""]) == (("Hi", "Bye"), ("Hello.", ""))
    assert read([{"role": "user", "content": "Hi"}], "Hello.") == ("Hi", "Hello.")
    assert read([{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}], ["Hello."]) == (
        ("System: Be kind.", "Human: Hi"),
        "Hello.",
    )


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_cells_of_a_table_are_text_in_the_named_columns_and_an_empty_answer_is_an_answer(tmp_path, end):
    path = tmp_path / "x.csv"
    rows = ["ask,say,who,kind", 'Hi,"Hello, ""you""",heron,', "Bye,,heron,3", "3,null,heron,greetings"]
    path.write_bytes(end.join([*rows, ""]).encode())
    found = read_outputs(path, fields=OWN)
    assert [(o.prompt, o.response, o.category) for o in found] == [
        ("Hi", 'Hello, "you"', None),
        ("Bye", "", "3"),
        ("3", "null", "greetings"),
    ]
    path.write_text("prompt,response\nHi,\n", "utf-8")
    assert read_outputs(path)[0].response == ""


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"ask": "Hi", "say": 3, "who": "heron", "kind": "k"}, "field say is 3; allowed: a string, or a list"),
        ({"ask": [], "say": "a", "who": "heron", "kind": "k"}, "field ask is []; allowed: a string, or a list"),
        ({"ask": "Hi", "say": "a", "kind": "k"}, "field who is missing"),
        ({"ask": "Hi", "say": "a", "who": "", "kind": "k"}, "field who is ''; allowed: the name of the model"),
        ({"ask": "Hi", "say": "a", "who": "heron"}, "field kind is missing"),
        ({"ask": "Hi", "say": "\ud800", "who": "heron", "kind": "k"}, "allowed: text without lone surrogates"),
    ],
)
def test_a_bad_row_of_named_columns_names_the_column_as_the_file_does(tmp_path, row, expected):
    path = lines(tmp_path / "x.jsonl", row)
    text = refused(path, fields=OWN)
    assert text.startswith(f"{path} row 1: ") and expected in text
    assert "--skip-bad-rows" not in text, "a command that has no such option does not advise it"


def test_an_unknown_field_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="field 'answer' is unknown; fields: prompt, response"):
        read_outputs(lines(tmp_path / "x.jsonl", ALPACA), fields={"answer": "output"})


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"question": "Hi"}, "the columns fit no known format of answers; columns found: question; columns known: "),
        ({**ALPACA, "output": 3}, "field output is 3; allowed: a string"),
        ({**ALPACA, "output": "\ud800"}, "field output is '\\ud800'; allowed: text without lone surrogates"),
        ({**ALPACA, "generator": 4}, "field generator is 4; allowed: a string"),
        ({**CHOICES, "question_id": "q7"}, "field question_id is 'q7'; allowed: one of the 1 ids in the questions"),
        ({**CHOICES, "question_id": None}, "field question_id is missing"),
        ({**CHOICES, "choices": [3]}, "field choices is [3]; allowed: a list of objects with a list of turns"),
        ({**CHOICES, "choices": [{"text": "x"}]}, "field choices is [{'text': 'x'}]; allowed: a list of objects with"),
        ({**CHOICES, "choices": [{"turns": [3]}]}, "field choices[0].turns[0] is 3; allowed: a string, or an object"),
        ({**MESSAGES, "messages": ["Hi"]}, "field messages is ['Hi']; allowed: a list of messages"),
        ({**MESSAGES, "messages": MESSAGES["messages"][1:]}, "field messages is ['assistant']; allowed: a user's"),
        ({**SAMPLE, "resps": [[3]]}, "field resps is [[3]]; allowed: the answers of a generation task"),
        ({**SAMPLE, "arguments": {"gen_args_0": {"arg_0": "Q", "arg_1": " A"}}}, "allowed: gen_args_0 of a generation"),
        ({**SAMPLE, "arguments": {"gen_args_0": {"arg_0": ["{"], "arg_1": {}}}}, "arg_0[0] is '{'; allowed: a message"),
    ],
)
def test_bad_answers_name_the_row_the_field_the_value_and_what_was_allowed(tmp_path, row, expected):
    questions = lines(tmp_path / "question.jsonl", QUESTION)
    path = lines(tmp_path / "x.jsonl", row)
    text = refused(path, questions=questions)
    assert text.startswith(f"{path} row 1: ") and expected in text


def test_a_question_that_was_answered_twice_is_refused(tmp_path):
    path = lines(tmp_path / "x.jsonl", MESSAGES, MESSAGES)
    assert refused(path).startswith(f"{path} row 2: question 'q1' was answered in row 1 already")


def test_bad_questions_and_bad_files_are_data_errors(tmp_path):
    answers = lines(tmp_path / "x.jsonl", CHOICES)
    questions = lines(tmp_path / "question.jsonl", {**QUESTION, "turns": "Hi"})
    assert refused(answers, questions=questions).startswith(f"{questions} row 1: field turns is 'Hi'")
    assert "row 1: " in refused(lines(tmp_path / "n.jsonl", 3))
    (tmp_path / "none.json").write_text("[]", "utf-8")
    assert "has no answers" in refused(tmp_path / "none.json")


@pytest.mark.parametrize("format", ANSWER_ROWS)
def test_no_value_in_any_column_gives_anything_but_answers_or_a_data_error(tmp_path, format):
    odd = [None, True, 0, 1.5, "", "\ud800", "[", [], {}, [None], [[]], {"x": {}}, [{"role": "user", "content": []}]]
    questions = lines(tmp_path / "question.jsonl", QUESTION)
    rng = random.Random(6)
    for _ in range(150):
        good = ANSWER_ROWS[format]
        row = {**good, **{name: rng.choice(odd) for name in rng.sample(sorted(good), k=2)}}
        path = lines(tmp_path / "x.jsonl", row)
        try:
            answers = read_outputs(path, questions=questions)
        except DataError as error:
            assert str(error)
        else:
            assert len(answers) == 1 and answers[0].id


@pytest.mark.parametrize("column", ["response", "output"])
def test_the_answer_may_stand_beside_messages_that_end_with_a_question(tmp_path, column):
    row = {"model": "heron", "messages": [{"role": "user", "content": "Hi"}], column: "Hello."}
    assert read_outputs(lines(tmp_path / "x.jsonl", {**row, "uid": "u1"})) == [
        Answer("Hi", "Hello.", "heron", None, "u1")
    ]
    assert read_outputs(lines(tmp_path / "x.jsonl", row)) == [Answer("Hi", "Hello.", "heron", None, HI)]
    both = {**row, "messages": [*row["messages"], {"role": "assistant", "content": "Hello."}]}
    assert read_outputs(lines(tmp_path / "x.jsonl", both)) == [Answer("Hi", "Hello.", "heron", None, HI)]
    other = refused(lines(tmp_path / "x.jsonl", {**both, column: "Bye."}))
    assert f"field {column} is 'Bye.'; allowed: the text of the last message" in other
    assert read_outputs(lines(tmp_path / "x.jsonl", {**row, column: None}))[0].response is None


def test_the_answer_may_stand_in_the_choices_of_the_api_beside_the_messages_it_was_asked(tmp_path):
    row = {"model": "heron", "messages": [{"role": "user", "content": "Hi"}]}
    said = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello."}}
    (one,) = read_outputs(lines(tmp_path / "x.jsonl", {**row, "choices": [said]}))
    assert (one.prompt, one.response, one.model, one.samples) == ("Hi", "Hello.", "heron", 1)
    (two,) = read_outputs(lines(tmp_path / "x.jsonl", {**row, "choices": [said, said]}))
    assert two.samples == 2
    (none,) = read_outputs(lines(tmp_path / "x.jsonl", {**row, "choices": ["a cat", "a dog"]}))
    assert none.response is None
    with pytest.raises(DataError, match=r"choices.*each with a message"):
        read_outputs(lines(tmp_path / "x.jsonl", {**row, "choices": [{"text": "Hello."}]}))


@pytest.mark.parametrize("column", ["messages", "conversations"])
def test_a_file_whose_conversations_all_end_with_a_question_has_its_answers_elsewhere(tmp_path, column):
    asked = {column: [{"role": "user", "content": "Hi"}], "answer": "Hello."}
    file = lines(tmp_path / "x.jsonl", asked)
    assert f"has no answers: {column} ends with a question in every row; " in refused(file)
    assert [answer.response for answer in read_outputs(file, fields={"response": "answer"})] == ["Hello."]
    given = {column: [*asked[column], {"role": "assistant", "content": "Hello."}]}
    both = [{**given, "id": "1"}, {column: [{"role": "user", "content": "Ho"}]}]
    assert [answer.response for answer in read_outputs(lines(tmp_path / "x.jsonl", *both))] == ["Hello.", None]
    failed = lines(tmp_path / "x.jsonl", {**asked, "model": "heron"})
    assert [answer.response for answer in read_outputs(failed)] == [None]


def test_several_samples_of_an_answer_are_named(tmp_path, caplog):
    twice = {**SAMPLE, "resps": [["Hello.", "Yes?"]]}
    (answer,) = read_outputs(lines(tmp_path / "x.jsonl", twice))
    assert (answer.response, answer.samples) == ("Hello.", 2)
    assert "several samples of the answer in 1 row, of which the first counts" in caplog.text
    caplog.clear()
    choices = {**CHOICES, "choices": [{"turns": ["Hello."]}, {"turns": ["Yes?"]}]}
    read_outputs(lines(tmp_path / "y.jsonl", choices), lines(tmp_path / "question.jsonl", QUESTION))
    assert "several samples of the answer in 1 row" in caplog.text
    caplog.clear()
    read_outputs(lines(tmp_path / "x.jsonl", {**SAMPLE, "resps": [["Hello."]]}))
    assert "several samples" not in caplog.text


BATCH = ANSWER_ROWS["openai_batch"]


def test_results_of_a_batch_take_their_prompts_from_the_requests(tmp_path):
    said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    questions = lines(
        tmp_path / "requests.jsonl",
        {"custom_id": "q1", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "x", "messages": said}},
        {"custom_id": "q2", "body": {"instructions": "Be brief.", "input": "Hi"}},
        {"custom_id": "q3", "body": {"input": said[1:]}},
    )
    output = [
        {"type": "reasoning", "summary": []},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Yes?"}]},
    ]
    of_responses = {"status_code": 200, "body": {"model": "heron", "output": output}}
    found = read_outputs(
        lines(
            tmp_path / "x.jsonl",
            BATCH,
            {"custom_id": "q2", "response": of_responses},
            {"custom_id": "q3", "response": None, "error": {"code": "batch_expired"}},
        ),
        questions,
    )
    prompt = ("System: Be brief.", "Human: Hi")
    assert [(a.id, a.prompt, a.response, a.model) for a in found] == [
        ("q1", prompt, "Hello.", "heron"),
        ("q2", prompt, "Yes?", "heron"),
        ("q3", "Hi", None, "heron"),
    ]


def test_a_result_to_no_request_is_refused(tmp_path):
    questions = lines(tmp_path / "q.jsonl", {"custom_id": "q7", "body": {"input": "Hi"}})
    said = refused(lines(tmp_path / "x.jsonl", BATCH), questions=questions)
    assert "row 1: field custom_id is 'q1'; allowed: one of the 1 ids in the questions file" in said


def test_several_choices_of_a_batch_are_samples_and_a_refusal_is_an_answer(tmp_path):
    refusal = {"message": {"role": "assistant", "content": None, "refusal": "I cannot."}}
    answered = {"status_code": 200, "body": {"model": "heron", "choices": [refusal, refusal]}}
    questions = lines(tmp_path / "q.jsonl", QUESTION)
    (answer,) = read_outputs(lines(tmp_path / "x.jsonl", {**BATCH, "response": answered}), questions)
    assert (answer.response, answer.samples) == ("I cannot.", 2)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"data": []}, "field response.body is"),
        ({"choices": [{"text": "x"}]}, "field response.body.choices is"),
        ({"choices": [{"message": {"role": "user", "content": "x"}}]}, r"field response.body.choices\[0\].message is"),
        ({"output": [{"type": "function_call"}]}, r"field response.body.output\[0\].type is 'function_call'"),
        ({"choices": [], "model": 3}, "response.body: field model is 3"),
    ],
)
def test_other_results_of_a_batch_are_refused(body, said, tmp_path):
    questions = lines(tmp_path / "q.jsonl", QUESTION)
    path = lines(tmp_path / "x.jsonl", {**BATCH, "response": {"status_code": 200, "body": body}})
    with pytest.raises(DataError, match=f"row 1: {said}"):
        read_outputs(path, questions)


@pytest.mark.parametrize("body", [{"tools": [{}], "messages": []}, {"messages": []}, {"input": 3}, {}, "x"])
def test_other_requests_of_a_batch_are_refused(body, tmp_path):
    questions = lines(tmp_path / "q.jsonl", {"custom_id": "q1", "body": body})
    with pytest.raises(DataError, match=r"row 1: field body"):
        read_outputs(lines(tmp_path / "x.jsonl", BATCH), questions)


def test_missing_answers_that_name_no_model_are_those_of_the_only_one_in_the_file(tmp_path):
    rows = [ALPACA, {"instruction": "Bye", "output": None}]
    assert {answer.model for answer in read_outputs(lines(tmp_path / "x.jsonl", *rows))} == {"heron"}
    rows.insert(0, {**ALPACA, "generator": "stork"})
    assert "row 3 names no model, and row 1 names 'stork'" in refused(lines(tmp_path / "y.jsonl", *rows))


def test_the_turns_of_a_conversation_of_wildbench_are_the_prompt(tmp_path, caplog):
    row = ANSWER_ROWS["wildbench"] | {"output": ["1 2", "1, 2"], "chat_history": ["Hi", "Hello.", "Count."]}
    (answer,) = read_outputs(lines(tmp_path / "x.jsonl", row))
    assert answer.prompt == ("Human: Hi", "Assistant: Hello.", "Human: Count.")
    assert (answer.response, answer.category, answer.id, answer.samples) == ("1 2", "greetings", "q1", 2)
    assert not [message for message in caplog.messages if "part of the prompt" in message]
    for fields, said in (
        ({"chat_history": ["Hi", "Hello."]}, "field chat_history is .*; allowed: a list of turns, the user's first"),
        ({"chat_history": "Hi"}, "field chat_history is 'Hi'"),
        ({"chat_history": ["Hi", None, "Count."]}, r"field chat_history\[1\] is None"),
        ({"output": [3]}, "field output is 3"),
    ):
        with pytest.raises(DataError, match=f"row 1: {said}"):
            read_outputs(lines(tmp_path / "x.jsonl", row | fields))


def test_logs_of_chats_need_no_name_of_a_model_and_may_be_text(tmp_path):
    said = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    shared = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]
    for row in ({"messages": said}, {"messages": json.dumps(said)}, {"conversations": shared}):
        (answer,) = read_outputs(lines(tmp_path / "heron.jsonl", row))
        assert (answer.prompt, answer.response, answer.model) == ("Hi", "Hello.", None)
    for pair in ({"rejected_response": "Go."}, {"prompt": "Hi", "response_a": "x", "response_b": "y"}):
        with pytest.raises(DataError, match="the file holds pairs"):
            read_outputs(lines(tmp_path / "x.jsonl", {"messages": said, **pair}))


def test_several_samples_in_the_place_of_an_answer_are_named_by_their_column(tmp_path):
    path = lines(tmp_path / "x.jsonl", {"instruction": "Hi", "output": ["Hello.", "Yes?"]})
    with pytest.raises(
        DataError, match=r"field output is \('Hello.', 'Yes\?'\); allowed: .*, 1; of several samples, one"
    ):
        read_outputs(path)


def test_numbers_in_which_rows_with_one_prompt_differ_are_no_part_of_it(tmp_path, caplog):
    row = {"prompt": "Hi", "response": "Hello.", "helpfulness": 4}
    read_outputs(lines(tmp_path / "x.jsonl", row, {**row, "response": "Go.", "helpfulness": 1}))
    assert "already answered" in caplog.text and "their rows differ" not in caplog.text
