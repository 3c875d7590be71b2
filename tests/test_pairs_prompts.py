"""Nothing of a prompt is lost: every column in which the field keeps a part of it is read, in every format."""

import json

import pytest
from pair_reads import read_one
from pair_rows import ANSWER_ROWS, ROWS, change, say, talk, without

from harness_plugin.errors import DataError
from harness_plugin.pairs import FORMATS, pairs_from_rows, read_outputs
from harness_plugin.pairs.formats.columns import PROMPT_PARTS
from harness_plugin.pairs.formats.registry import ANSWER_FORMATS
from harness_plugin.pairs.pair import text_length
from harness_plugin.tournament import battles, gather

VALUES = {
    "system": "Answer in one word.",
    "system_prompt": "Answer in one word.",
    "history": [["Who?", "I."], ["What?", "This."]],
    "messages": talk("Who?", "I.", "What?", "This."),
    "full_conversation": talk("Who?", "I.", "What?", "This."),
    "context": "The sky is green today.",
    "input": "pear apple",
}


def with_part(row, column, value):
    """The row with one more column, in the document of a sample of lm-eval's."""
    return {**row, "doc": {**row["doc"], column: value}} if "doc" in row else {**row, column: value}


def own_columns(format):
    return next(f for f in ANSWER_FORMATS if f.name == format).columns.split()


@pytest.mark.parametrize("column", PROMPT_PARTS)
@pytest.mark.parametrize("format", FORMATS)
def test_every_part_is_read_into_the_prompt_of_every_format_of_pairs(format, column):
    if column == "full_conversation" and format in ("arena_100k", "chatbot_arena", "mt_bench"):
        pytest.skip("this column makes it another format")
    if column in ROWS[format]:
        pytest.skip("the column of the prompt itself")
    bare, row = ROWS[format], with_part(ROWS[format], column, VALUES[column])
    plain, pair = read_one(bare), read_one(row)
    said = "\n".join([pair.prompt] if isinstance(pair.prompt, str) else pair.prompt)
    words = VALUES[column] if isinstance(VALUES[column], str) else "This."
    assert words in said and text_length(pair.prompt) > text_length(plain.prompt)
    assert pair.prompt_key != plain.prompt_key and pair.key != plain.key
    assert {pair.response_a, pair.response_b} == {plain.response_a, plain.response_b}
    assert column not in pair.meta
    for nothing in (None, "", [], float("nan")):
        assert read_one(with_part(bare, column, nothing)).prompt == plain.prompt
    with pytest.raises(DataError, match=f"field {column} is 3"):
        read_one(with_part(bare, column, 3))


@pytest.mark.parametrize("column", PROMPT_PARTS)
@pytest.mark.parametrize("format", [format.name for format in ANSWER_FORMATS if format.name != "lm_eval"])
def test_every_part_is_read_into_the_prompt_of_every_format_of_answers(format, column, tmp_path):
    if column in own_columns(format):
        pytest.skip("this column holds the prompt itself")

    def prompt(name, **more):
        (tmp_path / name).write_text(json.dumps({**ANSWER_ROWS[format], **more}) + "\n", "utf-8")
        (tmp_path / "question.jsonl").write_text('{"question_id": "q1", "turns": ["Hi"]}\n', "utf-8")
        (answer,) = read_outputs(tmp_path / name, tmp_path / "question.jsonl")
        return answer.prompt

    said = prompt("more.jsonl", **{column: VALUES[column]})
    said = said if isinstance(said, str) else "\n".join(said)
    assert (VALUES[column] if isinstance(VALUES[column], str) else "This.") in said
    assert prompt("null.jsonl", **{column: None}) == prompt("empty.jsonl", **{column: ""}) == "Hi"


def test_where_each_part_stands():
    ask = lambda **more: read_one({"prompt": "Sort.", "response_a": "a", "response_b": "b", **more}).prompt  # noqa: E731
    assert ask(input="b a") == "Sort.\n\nb a" and ask(context="Today.") == "Today.\n\nSort."
    assert ask(context=["One.", "Two."]) == "One.\n\nTwo.\n\nSort."
    assert ask(system="Be kind.") == ("System: Be kind.", "Human: Sort.")
    earlier = ("Human: Who?", "Assistant: I.")
    for value in (talk("Who?", "I."), [["Who?", "I."]], ["Who?", "I."]):
        for given in (value, json.dumps(value)):
            assert ask(history=given) == ask(messages=given) == (*earlier, "Human: Sort.")
    sharegpt = [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "I."}]
    assert ask(history=sharegpt) == ask(messages=sharegpt) == (*earlier, "Human: Sort.")
    assert ask(history=str(talk("Who?", "I."))) == (*earlier, "Human: Sort."), "as Python writes a list"
    assert ask(history="Before.") == ("Human: Before.", "Human: Sort.")
    everything = ask(system="Be kind.", history=talk("Who?", "I."), context="Today.", input="b a")
    assert everything == ("System: Be kind.", *earlier, "Human: Today.\n\nSort.\n\nb a")
    turns = {"prompt": ["Hi", "Bye"], "response_a": ["a", "b"], "response_b": ["c", "d"]}
    pair = read_one({**turns, "system": "Be kind.", "context": "Today.", "input": "Now."})
    assert pair.prompt == ("System: Be kind.", "Today.\n\nHi", "Bye\n\nNow.")
    asked = read_one({**turns, "prompt": talk("Hi", "x", "Bye"), "response_a": "a", "response_b": "b", "context": "C."})
    assert asked.prompt == ("Human: C.\n\nHi", "Assistant: x", "Human: Bye")


def test_a_system_column_gives_the_prompt_that_a_system_message_gives():
    system = ("system", "Be kind.")
    row = {"prompt": "Hi", "chosen": "a", "rejected": "b", "system": "Be kind."}
    messages = {
        side: say(system, ("user", "Hi"), ("assistant", text)) for side, text in (("chosen", "a"), ("rejected", "b"))
    }
    assert read_one(row) == read_one(messages)
    talks = {
        side: say(system, *((m["role"], m["content"]) for m in ROWS["chatbot_arena"][side]))
        for side in ("conversation_a", "conversation_b")
    }
    assert (
        read_one(change("chatbot_arena", system_prompt="Be kind.")).prompt_key
        == read_one(change("chatbot_arena", **talks)).prompt_key
    )


def test_a_system_prompt_may_be_a_message_or_parts():
    row = {"prompt": "Hi", "response_a": "a", "response_b": "b"}
    part = {"type": "text", "text": "Be brief."}
    message = {"role": "system", "content": "Be brief."}
    for system in (message, [message], [part]):
        assert read_one({**row, "system": system}).prompt == ("System: Be brief.", "Human: Hi")
    assert read_one({**row, "system": [{"type": "text", "text": None}]}).prompt == "Hi"


def test_what_a_column_of_messages_repeats_is_not_read_twice():
    row = {"prompt": "Hi", "chosen": "Hello.", "rejected": "Go."}
    for messages in (talk("Hi", "Hello."), talk("Hi", "Go."), talk("Hi")):
        assert read_one({**row, "messages": messages}).prompt == "Hi"
    longer = talk("Who?", "I.", "Hi", "Hello.")
    several = ("Human: Who?", "Assistant: I.", "Human: Hi")
    assert read_one({**row, "messages": longer}).prompt == several
    whole = {"chosen": longer, "rejected": talk("Who?", "I.", "Hi", "Go.")}
    for prompt in ({}, {"prompt": "Hi"}):
        assert read_one({**whole, **prompt, "messages": longer}).prompt == several
        assert read_one({**whole, **prompt, "messages": longer[:3]}).prompt == several
    assert read_one({**row, "messages": talk("Who?", "Hello.")}).prompt == (
        "Human: Who?",
        "Assistant: Hello.",
        several[2],
    )


def test_parts_that_repeat_the_prompt_are_read_once():
    row = {"prompt": "Hi", "chosen": "Hello.", "rejected": "Go."}
    for name in ("context", "input", "history"):
        assert read_one({**row, name: "Hi "}).prompt == "Hi"
    assert read_one({**row, "history": talk("Hi")}).prompt == "Hi"
    assert read_one({**row, "messages": talk("Hi ", " Hello.\n")}).prompt == "Hi", "white space at the ends"
    again = read_one({**row, "prompt": "More.", "history": [["Who?", "I."], ["More.", "You."]]}).prompt
    assert again == ("Human: Who?", "Assistant: I.", "Human: More.", "Assistant: You.", "Human: More.")


def test_a_column_of_messages_repeats_conversations_turn_by_turn():
    turns = {"prompt": ["Hi", "Bye"], "response_a": ["a", "b"], "response_b": ["c", "d"]}
    sides = [talk("Hi", "a", "Bye", "b"), talk("Hi", "c", "Bye", "d")]
    vote = {**ROWS["arena_100k"], **dict(zip(("conversation_a", "conversation_b"), sides, strict=True))}
    for messages in (*sides, sides[0][:3]):
        assert read_one({**turns, "messages": messages}).prompt == ("Hi", "Bye")
        assert read_one({**vote, "messages": messages}).prompt == ("Hi", "Bye")
        earlier = read_one({**turns, "messages": talk("Who?", "I.") + messages})
        assert earlier.prompt == ("Human: Who?", "Assistant: I.", "Hi", "Bye")


@pytest.mark.parametrize("missing", [None, "an answer that another column has not"])
def test_a_missing_answer_is_to_the_prompt_that_others_answered_whatever_the_messages_repeat(tmp_path, missing):
    said = talk("Hi", "a", "Bye", "b")
    rows = [
        {"prompt": "Hi", "response": "a", "messages": said[:2]},
        {"prompt": "Hi", "response": None, "messages": [said[0], {"role": "assistant", "content": missing}]},
        {"prompt": ["Hi", "Bye"], "response": ["a", "b"], "messages": said},
        {"prompt": ["Hi", "Bye"], "response": ["a", None], "messages": [*said[:3], {**said[3], "content": missing}]},
        {"prompt": ["Hi", "Bye"], "response": None, "messages": said[:3]},
    ]
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps({**row, "model": f"m{n}"}) + "\n" for n, row in enumerate(rows)), "utf-8")
    answers = read_outputs(path)
    assert [answer.prompt for answer in answers] == ["Hi", "Hi", *[("Hi", "Bye")] * 3]
    assert [answer.response is None for answer in answers] == [False, True, False, True, True]


def test_a_system_prompt_that_a_row_has_twice_is_read_once():
    row = {"prompt": "Hi", "response_a": "a", "response_b": "b"}
    brief, system = say(("system", "Be brief.")), {"system": "Be brief."}
    expected = ("System: Be brief.", "Human: Hi")
    assert read_one({**row, "prompt": brief + talk("Hi"), **system}).prompt == expected
    assert read_one({**row, "messages": brief + talk("Hi"), **system}).prompt == expected
    assert read_one({**row, "prompt": brief + talk("Hi"), "system": "Be kind."}).prompt == (
        "System: Be kind.",
        *expected,
    )


def test_messages_are_a_prompt_of_a_canonical_pair_and_its_answers():
    row = {"prompt": talk("Hi"), "response_a": say(("assistant", "a")), "response_b": "b"}
    pair = read_one(row)
    assert (pair.prompt, pair.response_a, pair.response_b) == ("Hi", "a", "b")
    assert read_one({**row, "prompt": talk("Hi", "x", "Bye")}).prompt == ("Human: Hi", "Assistant: x", "Human: Bye")
    with pytest.raises(
        DataError, match=r"field response_a is \['user', 'assistant'\]; allowed: an answer: messages of"
    ):
        read_one({**row, "response_a": talk("Hi", "a")})


# --- real lists where JSON text is usual, and the other way round


@pytest.mark.parametrize("format", ["arena_100k", "arena_140k", "chatbot_arena", "mt_bench"])
def test_conversations_as_text_are_read_as_lists_are(format):
    row = ROWS[format]
    for write in (json.dumps, str):
        texts = {side: write(row[side]) for side in ("conversation_a", "conversation_b")}
        assert read_one(change(format, **texts)) == read_one(row)


def test_texts_of_the_kaggle_files_are_lists_json_or_plain():
    row = ROWS["arena_55k"]
    lists = {name: json.loads(row[name]) for name in ("prompt", "response_a", "response_b")}
    assert read_one(change("arena_55k", **lists)) == read_one(row)
    plain = read_one(change("arena_55k", prompt="Say it in JSON.", response_a='["a"]', response_b="a"))
    assert (plain.prompt, plain.response_a, plain.winner) == ("Say it in JSON.", '["a"]', "model_b")


def test_chosen_and_rejected_as_json_text():
    row = {"chosen": talk("Hi", "Hello."), "rejected": talk("Hi", "Go.")}
    assert read_one({name: json.dumps(value) for name, value in row.items()}) == read_one(row)


def test_a_prompt_that_the_messages_do_not_repeat_is_refused():
    row = {"chosen": talk("Hi", "Hello."), "rejected": talk("Hi", "Go.")}
    assert read_one({**row, "prompt": "Hi "}).prompt == read_one({**row, "prompt": talk("Hi")}).prompt == "Hi"
    with pytest.raises(
        DataError, match="field prompt is 'Bye'; allowed: what the messages of chosen and rejected begin"
    ):
        read_one({**row, "prompt": "Bye"})


def test_transcripts_beside_a_prompt_that_they_begin_with_are_read_as_transcripts():
    row = {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello.", "rejected": "\n\nHuman: Hi\n\nAssistant: Go."}
    assert read_one({**row, "prompt": "Hi"}) == read_one(row) and read_one(row).prompt == "Hi"
    with pytest.raises(
        DataError, match="field prompt is 'Bye'; allowed: what the messages of chosen and rejected begin"
    ):
        read_one({**row, "prompt": "Bye"})
    assert read_one({**row, "prompt": "\n\nHuman: Hi\n\nAssistant:"}) == read_one(row), "a transcript, too"
    longer = {name: text.replace("Hi", "A?\n\nAssistant: B.\n\nHuman: Hi") for name, text in row.items()}
    asked = longer["chosen"].removesuffix(" Hello.")
    assert read_one({**longer, "prompt": asked}).prompt == ("Human: A?", "Assistant: B.", "Human: Hi")
    with pytest.raises(DataError, match=r"field prompt is .*C\..*; allowed: what the messages"):
        read_one({**longer, "prompt": asked.replace("B.", "C.")})
    one = read_one({**row, "rejected": "Go.", "prompt": "Hi"})
    assert {one.response_a, one.response_b} == {row["chosen"], "Go."}, "an answer may be a transcript"


def test_a_prompt_may_be_a_transcript_up_to_the_answer():
    both = {"chosen": " Hello.", "rejected": " Go."}
    for start in ("\n\nHuman:", "Human:"):
        prompt = f"{start} Who?\n\nAssistant: I.\n\nHuman: Hi\n\nAssistant:"
        pair = read_one({"prompt": prompt, **both})
        whole = read_one({name: prompt + text for name, text in both.items()})
        assert pair.prompt == ("Human: Who?", "Assistant: I.", "Human: Hi") and pair == whole
    assert read_one({"prompt": "Human: what is that?", **both}).prompt == "Human: what is that?"
    assert read_one({"prompt": "Hi", **both}).response_a.startswith(" "), "other answers stay as they are"


def test_answers_that_are_dialogues_are_answers_where_a_column_has_the_prompt():
    both = {name: f"Human: Hi\n\nAssistant: {text}" for name, text in (("chosen", "Hello."), ("rejected", "Go."))}
    pair = read_one({"prompt": "Write a dialogue.", **both})
    assert pair.prompt == "Write a dialogue." and {pair.response_a, pair.response_b} == {*both.values()}
    for prompt in ({}, {"prompt": None}):
        assert read_one({**prompt, **both}).prompt == "Hi"


def test_a_prompt_of_messages_as_text_may_be_what_the_user_said():
    asked = json.dumps(talk("fix this"))
    pair = read_one({"prompt": asked, "chosen": talk(asked, "Hello."), "rejected": talk(asked, "Go.")})
    assert pair.prompt == asked


def test_a_prompt_beside_messages_as_text_is_read_as_they_are(tmp_path):
    both = {"chosen": talk("Hi", "Hello."), "rejected": talk("Hi", "Go.")}
    answers = {name: said[-1:] for name, said in both.items()}
    for texts in (both, answers):
        row = {"prompt": json.dumps(talk("Hi")), **{name: json.dumps(said) for name, said in texts.items()}}
        assert read_one(row).prompt == "Hi"


def test_the_prompt_beside_chosen_and_rejected_may_be_an_instruction_or_a_question():
    row = without("chosen_rejected", "prompt")
    assert read_one({**row, "instruction": "Hi", "input": "x"}).prompt == "Hi\n\nx"
    assert read_one({**row, "question": "Hi", "system": "s"}).prompt == ("System: s", "Human: Hi")


# --- answers


def test_answers_to_different_inputs_never_meet(tmp_path):
    files = []
    for model, order in (("heron", (0, 1, 2)), ("stork", (1, 0, 2))):
        rows = [
            {"instruction": "Sort.", "input": "pear apple", "output": f"{model} fruit"},
            {"instruction": "Sort.", "input": "rock cliff", "output": f"{model} stone"},
            {"instruction": "Name a nut.", "input": "", "output": model},
        ]
        path = tmp_path / f"{model}.json"
        path.write_text(json.dumps([{**rows[n], "generator": model} for n in order]), "utf-8")
        files.append(str(path))
    pairs = battles(gather(files)).pairs
    assert sorted((p.prompt, p.response_a, p.response_b) for p in pairs) == [
        ("Name a nut.", "heron", "stork"),
        ("Sort.\n\npear apple", "heron fruit", "stork fruit"),
        ("Sort.\n\nrock cliff", "heron stone", "stork stone"),
    ]


def test_rows_of_a_data_frame_hold_arrays_in_the_place_of_lists():
    numpy = pytest.importorskip("numpy")

    def arrays(value):
        if isinstance(value, dict):
            return {name: arrays(cell) for name, cell in value.items()}
        return numpy.array([*map(arrays, value), None], dtype=object)[:-1] if isinstance(value, list) else value

    for format in ("arena_140k", "mt_bench", "helpsteer3"):
        row = {**ROWS[format], "history": [["Who?", "I."]]}
        assert read_one(arrays(row)) == read_one(row)
    row = {"prompt": "Hi", "response_a": "a", "response_b": "b", "id": numpy.int64(7), "model_a": numpy.float64("nan")}
    assert (read_one(row).id, read_one(row).model_a) == ("7", None)


@pytest.mark.parametrize("value", ["a.png", ["a.png"], [{"bytes": "x"}], {"url": "x"}])
@pytest.mark.parametrize("column", ["image", "images", "videos", "audio"])
def test_a_prompt_with_pictures_or_sounds_is_refused(column, value, tmp_path):
    refused = rf"row 1: field {column} is .*; allowed: null \(pictures and sounds are .*--ignore {column}"
    for format in ("canonical", "arena_100k", "chosen_rejected", "llama_factory", "helpsteer3", "llmbar"):
        with pytest.raises(DataError, match=refused):
            pairs_from_rows([{**ROWS[format], column: value}])
        assert pairs_from_rows([{**ROWS[format], column: value}], ignore=[column]).pairs
        for nothing in (None, [], "", "[]", False, 0, float("nan")):
            assert pairs_from_rows([{**ROWS[format], column: nothing}]).pairs
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(ANSWER_ROWS["alpaca_eval"] | {column: value}) + "\n", "utf-8")
    with pytest.raises(DataError, match=refused):
        read_outputs(path)


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": "Hi", "images": ["a.png"]},
        {"role": "user", "content": [{"type": "text", "text": "Hi", "image": "a.png", "mimeType": "image/png"}]},
        {"role": "user", "content": [{"type": "input_image", "image_url": "a.png"}]},
        {"role": "user", "content": "Sum up.", "attachments": [{"name": "a.txt"}]},
    ],
)
def test_a_message_with_pictures_is_refused(message):
    with pytest.raises(DataError, match=r"field prompt\[0\]\."):
        read_one({"prompt": [message], "response_a": "a", "response_b": "b"})


def test_one_message_alone_is_a_prompt_or_an_answer():
    sides = {"response_a": say(("assistant", "a"))[0], "response_b": {"from": "gpt", "value": "b"}}
    pair = read_one({"prompt": say(("user", "Hi"))[0], **sides})
    assert (pair.prompt, pair.response_a, pair.response_b) == ("Hi", "a", "b")
    ranked = read_one({"prompt": "Hi", "chosen": sides["response_a"], "rejected": sides["response_b"]})
    assert (ranked.prompt, {ranked.response_a, ranked.response_b}) == ("Hi", {"a", "b"})
    with pytest.raises(DataError, match=r"field response_a is .* allowed: an answer: messages of the assistant only"):
        read_one({"prompt": "Hi", "response_a": say(("user", "a"))[0], "response_b": "b"})


def test_a_developer_is_the_system_and_parts_may_be_those_of_other_apis():
    asked = say(("developer", "Be brief."), ("user", [{"type": "input_text", "text": "Hi"}]))
    said = say(("assistant", [{"type": "output_text", "text": "Hello."}]))
    pair = read_one({"prompt": asked, "response_a": said, "response_b": "b"})
    assert (pair.prompt, pair.response_a) == (("System: Be brief.", "Human: Hi"), "Hello.")
    assert pair.prompt == read_one({"prompt": "Hi", "system": "Be brief.", "response_a": "a", "response_b": "b"}).prompt


def test_a_column_conversation_beside_chosen_and_rejected_messages_is_the_prompt():
    talk_of = {"conversation": [{"from": "human", "value": "Hi"}]}
    sides = {"chosen": {"from": "gpt", "value": "a"}, "rejected": {"from": "gpt", "value": "b"}}
    assert read_one({**talk_of, **sides}).prompt == "Hi"
