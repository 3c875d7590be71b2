"""Rows of the benchmarks of judges and of preference data, in their publishers' columns: what each becomes."""

import json

import pytest
from pair_rows import ROWS, change, message, say, talk, vote, without, write_lines

from harness_plugin.errors import DataError
from harness_plugin.pairs import Winner, pairs_from_rows, read_pairs
from harness_plugin.pairs.formats.candidates import Cell, cell_of


def read(*rows, **options):
    return pairs_from_rows(rows, **options)


def one(row):
    (pair,) = read(row).pairs
    return pair


def better(pair):
    return {Winner.MODEL_A: pair.response_a, Winner.MODEL_B: pair.response_b}[pair.winner]


# --- RewardBench 2 and RM-Bench


def test_each_right_answer_meets_each_wrong_one():
    found = read(ROWS["rewardbench2"])
    assert found.format == "rewardbench2"
    assert [pair.id for pair in found.pairs] == ["4/1of1-1of3", "4/1of1-2of3", "4/1of1-3of3"]
    assert {better(pair) for pair in found.pairs} == {"Hello."}
    assert {pair.prompt for pair in found.pairs} == {"Hi"} and {pair.category for pair in found.pairs} == {"Focus"}
    sides = [{pair.response_a, pair.response_b} - {"Hello."} for pair in found.pairs]
    assert sides == [{"Go."}, {"No."}, {"Hm."}]


def test_ties_and_styles_make_a_pair_for_each_cell():
    tied = change("rewardbench2", id="tied:3", chosen=["red", "green"], rejected=["brown", "black"], subset="Ties")
    cells = [cell_of(pair.id) for pair in read(tied).pairs]
    assert cells == [Cell("tied:3", i, j, (2, 2)) for i in range(2) for j in range(2)]
    found = read(ROWS["rm_bench"])
    assert found.format == "rm_bench" and len(found.pairs) == 9
    assert [cell_of(pair.id) for pair in found.pairs][3] == ("chat:7", 1, 0, (3, 3))
    assert {pair.category for pair in found.pairs} == {"chat"}


def test_the_side_of_the_right_answer_does_not_depend_on_the_label():
    pairs = read(*(change("rewardbench2", id=str(n), prompt=f"Hi {n}") for n in range(40))).pairs
    assert 40 < sum(pair.winner is Winner.MODEL_A for pair in pairs) < 80


def test_an_absent_answer_leaves_the_row_out_and_other_values_are_refused():
    found = read(ROWS["rewardbench2"], change("rewardbench2", id="5", rejected=["Go.", None]))
    assert len(found.pairs) == 3 and len(found.missing) == 1
    with pytest.raises(DataError, match=r"row 2: field rejected is 7; allowed: a list of answers"):
        read(ROWS["rewardbench2"], change("rewardbench2", id="5", rejected=7))


def test_one_answer_may_stand_alone_beside_a_list():
    rows = [{"prompt": "Hi", "chosen": "Hello.", "rejected": ["Go.", "No."]}]
    rows += [{"prompt": "Hi", "chosen": ["Hello."], "rejected": "Go."}]
    assert [[(p.response_a, p.response_b) for p in read(row).pairs] for row in rows] == [
        [("Hello.", "Go."), ("Hello.", "No.")],
        [("Hello.", "Go.")],
    ]


def test_tables_spell_the_lists_in_json(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text('id,prompt,chosen,rejected,num_correct\n1,Hi,"[""a""]","[""b"", ""c""]",1\n', "utf-8")
    assert read_pairs(path).format == "rewardbench2" and len(read_pairs(path).pairs) == 2
    write_lines(tmp_path / "x.jsonl", {"prompt": "A JSON list?", "chosen": '["a"]', "rejected": '["b"'})
    assert read_pairs(tmp_path / "x.jsonl").format == "chosen_rejected", "a text may be JSON"


def test_ids_of_cells_are_read_back():
    cell = Cell("ref:1/x", 0, 12, (1, 13))
    assert cell.id == "ref:1/x/1of1-13of13" and cell_of(cell.id) == cell
    assert cell_of("a/1of1-2of3-2") == Cell("a-2", 0, 1, (1, 3))
    assert cell_of("a/1") is None and cell_of("1of1-2of3") is None
    twice = read(ROWS["rm_bench"], ROWS["rm_bench"]).pairs
    assert len({pair.id for pair in twice}) == 18
    assert {cell_of(pair.id).row for pair in twice} == {"chat:7", "chat:7-2"}


# --- two answers and a word


@pytest.mark.parametrize(
    ("format", "fields", "winner"),
    [
        ("judgebench", {}, "model_a"),
        ("judgebench", {"label": "B>A"}, "model_b"),
        ("judgebench", {"label": "A=B"}, "tie"),
        ("judgebench", {"label": None}, None),
        ("llmbar", {}, "model_b"),
        ("llmbar", {"label": 1}, "model_a"),
        ("llmbar", {"label": 1.0}, "model_a"),
        ("llmbar", {"label": "2"}, "model_b"),
        ("llmbar", {"label": None}, None),
        ("ppe", {}, "model_b"),
        ("ppe", {"winner": "model_1"}, "model_a"),
        ("ppe", {"winner": "model_2"}, "model_b"),
        ("ppe", {"winner": "tie (bothbad)"}, "tie"),
        ("helpsteer2", {}, "model_b"),
        ("helpsteer2", {"preference_strength": -2}, "model_a"),
        ("helpsteer2", {"preference_strength": 0}, "tie"),
        ("helpsteer2", {"preference_strength": None}, None),
        ("helpsteer3", {}, "model_b"),
        ("helpsteer3", {"overall_preference": -3}, "model_a"),
        ("helpsteer3", {"overall_preference": 0}, "tie"),
        ("helpsteer3", {"overall_preference": None}, None),
        ("comparia", {}, "model_b"),
        ("comparia", {"chosen_model_name": "heron"}, "model_a"),
        ("comparia", {"chosen_model_name": None, "both_equal": True}, "tie"),
        ("comparia", {"chosen_model_name": None}, None),
        ("comparia", {"chosen_model_name": float("nan"), "both_equal": None}, None),
    ],
)
def test_labels_mean_what_their_publishers_say(format, fields, winner):
    found = read(change(format, **fields))
    assert found.format == format
    assert found.pairs[0].winner == winner


@pytest.mark.parametrize(
    ("format", "fields", "message"),
    [
        ("judgebench", {"label": "A"}, "field label is 'A'; allowed: 'A>B', 'B>A', 'A=B', or null"),
        ("llmbar", {"label": 3}, "field label is 3; allowed: 1 or 2, or null"),
        ("llmbar", {"label": True}, "field label is True; allowed: 1 or 2"),
        ("ppe", {"winner": "ibis"}, "field winner is 'ibis'; allowed: 'model_a'"),
        (
            "helpsteer2",
            {"preference_strength": "much"},
            "field preference_strength is 'much'; allowed: a finite number f",
        ),
        (
            "helpsteer3",
            {"overall_preference": 4},
            "field overall_preference is 4; allowed: a finite number from -3",
        ),
        ("helpsteer3", {"context": 4}, "field context is 4; allowed: "),
        (
            "multipref",
            {"normal_worker_annotations": [vote("A")]},
            "normal_worker_annotations[0].overall_pref is 'A'",
        ),
        (
            "multipref",
            {"normal_worker_annotations": [{}]},
            "_annotations[0]: field overall_pref is missing",
        ),
        ("multipref", {"expert_worker_annotations": "x"}, "field expert_worker_annotations is 'x'; allowed: a list of"),
        (
            "comparia",
            {"chosen_model_name": "ibis"},
            "field chosen_model_name is 'ibis'; allowed: one of",
        ),
        ("comparia", {"model_b_name": "heron", "chosen_model_name": "heron"}, "field chosen_model_name is 'heron'"),
        ("comparia", {"both_equal": "maybe"}, "field both_equal is 'maybe'; allowed: true, false or null"),
        ("comparia", {"system_prompt_b": None}, "field system_prompt_b is None; allowed: the same as system_prompt_a"),
        ("llama_factory", {"conversations": [{"from": "tool", "value": "x"}]}, "field conversations[0].from is 'tool'"),
        ("llama_factory_ranked", {"output": ["Hello."]}, "field output is ['Hello.']; allowed: a list of two answers"),
        ("llama_factory", {"chosen": {"from": "human", "value": "x"}}, "field chosen is"),
        ("webgpt", {"score_1": "high"}, "field score_1 is 'high'; allowed: a finite number"),
        ("webgpt", {"question": "Hi"}, "field question is 'Hi'; allowed: an object with full_text"),
        ("webgpt", {"question": {"id": "q1"}}, "question: field full_text is missing"),
        ("summaries", {"choice": 2}, "field choice is 2; allowed: 0 or 1, or null"),
        ("summaries", {"summaries": [{"text": "x"}]}, "field summaries is [{'text': 'x'}]; allowed: a list of two"),
        ("summaries", {"info": {"post": "x"}}, "info: field subreddit is missing"),
        ("summaries", {"info": {"article": ""}}, "info: field article is ''; allowed: a string that is not empty"),
    ],
)
def test_what_a_label_cannot_mean_is_refused(format, fields, message):
    with pytest.raises(DataError) as caught:
        read(change(format, **fields), format=format)
    assert message in str(caught.value)


def test_the_texts_and_names_of_each_benchmark():
    pair = one(ROWS["judgebench"])
    assert (pair.id, pair.prompt, pair.response_a, pair.category) == (
        "j-1",
        "What is 3 times 3?",
        "9",
        "livebench-math",
    )
    assert pair.meta["response_model"] == "heron"
    pair = one(ROWS["llmbar"])
    assert (pair.prompt, pair.response_a, pair.response_b) == ("Hi", "Go.", "Hello.")
    pair = one(ROWS["ppe"])
    assert (pair.id, pair.model_a, pair.model_b, pair.response_b) == ("p-1", "heron", "stork", "Yes?")
    pair = one({**without("ppe", "model_a", "model_b"), "model_1": "ibis", "model_2": "egret"})
    assert (pair.model_a, pair.model_b) == ("ibis", "egret")
    assert one(change("ppe", winner="tie (bothbad)")).meta["both_bad"] is True
    pair = one(ROWS["helpsteer3"])
    assert pair.prompt == ("Human: Hi", "Assistant: Hello.", "Human: Count.") and pair.category == "general"
    pair = one(ROWS["comparia"])
    assert pair.prompt == ("System: Be brief.", "Hi")
    assert (pair.id, pair.model_a, pair.category) == ("5", "heron", "greetings")


def test_people_compared_the_answers_of_webgpt_by_scores():
    pair = one(ROWS["webgpt"])
    assert (pair.prompt, pair.response_a, pair.response_b, pair.category) == ("Hi", "Hello. [1]", "Yes?", "eli5")
    assert pair.winner is Winner.MODEL_B and pair.meta == {}
    scores = [(0.5, -0.5), (0, 0), (None, None)]
    pairs = [one(change("webgpt", score_0=a, score_1=b)) for a, b in scores]
    assert [pair.winner for pair in pairs] == [Winner.MODEL_A, Winner.TIE, None]


def test_summaries_answer_the_query_that_asked_for_them():
    pair = one(ROWS["summaries"])
    assert pair.prompt == "SUBREDDIT: r/birds\n\nTITLE: A heron\n\nPOST: I saw a heron.\n\nTL;DR:"
    assert (pair.response_a, pair.response_b, pair.winner) == (" Saw a heron.", " A bird.", Winner.MODEL_A)
    assert (pair.model_a, pair.model_b, pair.meta["worker"]) == ("sup1", "ref", "w-1")
    article = {"post": None, "title": None, "subreddit": None, "article": "A heron was seen."}
    assert one(change("summaries", info=article, choice=1)).prompt == "A heron was seen.\n\nTL;DR:"
    absent = change("summaries", summaries=[{"text": "x"}, {"text": None}])
    assert len(read(ROWS["summaries"], absent).missing) == 1


def test_most_annotators_of_multipref_decide():
    pair = one(ROWS["multipref"])
    assert (pair.winner, pair.p_b, pair.id, pair.meta["votes"]) == (Winner.MODEL_A, 0.375, "c-1", 4)
    split = [vote("A-is-clearly-better"), vote("A-is-slightly-better")]
    other = [vote("B-is-clearly-better"), vote("B-is-clearly-better")]
    pair = one(change("multipref", normal_worker_annotations=split, expert_worker_annotations=other))
    assert (pair.winner, pair.p_b) == (Winner.TIE, 0.5)
    pair = one(change("multipref", normal_worker_annotations=[], expert_worker_annotations=None))
    assert (pair.winner, pair.p_b) == (None, None)


# --- preference data for training


TRL_AND_LLAMA_FACTORY = {
    "TRL, prompt and answers as text": {"prompt": "Hi", "chosen": "Hello.", "rejected": "Go."},
    "TRL, conversations with a prompt": {
        "prompt": talk("Hi"),
        "chosen": say(("assistant", "Hello.")),
        "rejected": say(("assistant", "Go.")),
    },
    "TRL, whole conversations": {"chosen": talk("Hi", "Hello."), "rejected": talk("Hi", "Go.")},
    "LLaMA-Factory, Alpaca": {"instruction": "Hi", "input": "", "chosen": "Hello.", "rejected": "Go."},
    "LLaMA-Factory, ranked": {"instruction": "Hi", "input": "", "output": ["Hello.", "Go."]},
    "LLaMA-Factory, ShareGPT": ROWS["llama_factory"],
    "LLaMA-Factory, OpenAI": {
        "messages": talk("Hi"),
        "chosen": {"role": "assistant", "content": "Hello."},
        "rejected": {"role": "assistant", "content": "Go."},
    },
    "Intel/orca_dpo_pairs": {"system": "", "question": "Hi", "chosen": "Hello.", "rejected": "Go."},
}


@pytest.mark.parametrize("layout", TRL_AND_LLAMA_FACTORY)
def test_layouts_of_training_data_are_the_same_pair(layout):
    pair = one(TRL_AND_LLAMA_FACTORY[layout])
    assert (pair.prompt, better(pair)) == ("Hi", "Hello.")
    assert {pair.response_a, pair.response_b} == {"Hello.", "Go."}


def test_the_system_prompt_and_turns_of_a_sharegpt_row_are_read():
    turns = [("human", "Hi"), ("gpt", "Hello."), ("human", "Count.")]
    row = change(
        "llama_factory", conversations=[{"from": who, "value": what} for who, what in turns], system="Be brief."
    )
    assert one(row).prompt == ("System: Be brief.", "Human: Hi", "Assistant: Hello.", "Human: Count.")


def test_the_arenas_expert_votes_hold_conversations_as_json_text():
    row = {
        "id": "e1",
        "model_a": "heron",
        "model_b": "stork",
        "winner": "both_bad",
        "evaluation_order": 1,
        "conversation_a": json.dumps(talk("Name the enzyme.", "Lipase")),
        "conversation_b": json.dumps(talk("Name the enzyme.", "Rock")),
        "full_conversation": "[]",
        "language": "en",
        "occupational_tags": {"life_and_physical_and_social_science": True},
    }
    pair = one(row)
    assert (pair.prompt, pair.response_a, pair.response_b) == ("Name the enzyme.", "Lipase", "Rock")
    assert (pair.winner, pair.id) == (Winner.TIE, "e1")


# --- how much is read, and what is no file of pairs


def test_only_as_much_is_read_as_is_asked_for(tmp_path):
    path = write_lines(
        tmp_path / "x.jsonl", *(change("canonical", id=f"p{n}", prompt=f"Hi {n}") for n in range(5)), "no JSON"
    )
    assert [pair.id for pair in read_pairs(path, limit=2).pairs] == ["p0", "p1"]
    assert [pair.id for pair in read_pairs(path, until="p2").pairs] == ["p0", "p1", "p2"]
    assert "row 6" in message(path) and "row 6" in message(path, until="p9") and "row 6" in message(path, limit=6)


def test_answers_of_one_model_are_sent_to_the_command_that_judges_them(tmp_path):
    path = write_lines(tmp_path / "x.jsonl", {"instruction": "Hi", "output": "Hello.", "generator": "heron"})
    text = message(path)
    assert "holds single answers of one model" in text and "`arena-rm judge`" in text


# --- PKU-SafeRLHF and SHP


@pytest.mark.parametrize(
    ("format", "column", "winners"),
    [
        ("pku_saferlhf", "better_response_id", {0: "model_a", 1: "model_b", None: None}),
        ("shp", "labels", {1: "model_a", 0: "model_b", None: None}),
    ],
)
def test_numbers_of_the_better_answer_mean_what_the_publisher_says(format, column, winners, tmp_path):
    assert {value: one(change(format, **{column: value})).winner for value in winners} == winners
    for value in (2, -1, True, "x"):
        with pytest.raises(DataError, match=f"field {column} is {value!r}; allowed: "):
            read(change(format, **{column: value}))
    path = tmp_path / "x.csv"
    names = [name for name, value in ROWS[format].items() if isinstance(value, (str, int))]
    path.write_text(f"{','.join(names)}\n{','.join(str(ROWS[format][name]) for name in names)}\n", "utf-8")
    assert read_pairs(path).pairs[0].winner == one(ROWS[format]).winner


def test_the_other_label_of_pku_saferlhf_can_be_named():
    row = ROWS["pku_saferlhf"]
    assert one(row).winner == "model_b" and one(row).meta["safer_response_id"] == 0
    assert read(row, fields={"winner": "safer_response_id"}).pairs[0].winner == "model_a"


def test_the_post_of_shp_is_the_prompt():
    pair = one(ROWS["shp"])
    assert (pair.prompt, pair.response_a, pair.response_b, pair.category) == ("Hi", "Hello.", "Go.", "askbirds_test")
    assert one(change("shp", system="Be brief.")).prompt == ("System: Be brief.", "Human: Hi")


# --- preference data for fine-tuning


ARGILLA = {
    "source": "made up",
    "instruction": "Hi",
    "chosen_response": "Hello.",
    "rejected_response": "Go.",
    "chosen_avg_rating": 4.5,
    "rejected_avg_rating": 2.0,
    "chosen_model": "heron",
}


def test_argillas_columns_of_answers_are_read():
    pair = one(ARGILLA)
    assert (pair.prompt, better(pair), read(ARGILLA).format) == ("Hi", "Hello.", "chosen_rejected")
    assert {pair.model_a, pair.model_b} == {"heron", None} and pair.meta["source"] == "made up"
    assert len(read(ARGILLA, {**ARGILLA, "chosen_response": None}).missing) == 1
    for fields, said in (
        ({"rejected_response": 3}, "field rejected_response is 3"),
        ({"instruction": None}, "field chosen_response is 'Hello.', and no column holds the prompt"),
    ):
        with pytest.raises(DataError, match=f"row 1: {said}"):
            read({**ARGILLA, **fields})


@pytest.mark.parametrize("format", ["openai_preferences", "ms_swift"])
def test_the_better_answer_of_preference_data_wins(format):
    pair = one(ROWS[format])
    assert (pair.prompt, better(pair)) == ("Hi", "Hello.") and {pair.response_a, pair.response_b} == {"Hello.", "Go."}
    assert read(ROWS[format]).format == format


def test_a_conversation_before_the_answers_is_the_prompt():
    before = say(("system", "Be brief."), ("user", "Hi"), ("assistant", "Yes?"), ("user", "Count."))
    wanted = ("System: Be brief.", "Human: Hi", "Assistant: Yes?", "Human: Count.")
    assert one(change("openai_preferences", input={"messages": before})).prompt == wanted
    assert one(change("ms_swift", messages=[*before, *say(("assistant", "1 2"))])).prompt == wanted


@pytest.mark.parametrize(
    ("format", "fields", "said"),
    [
        ("openai_preferences", {"input": "Hi"}, "field input is 'Hi'; allowed: an object with messages"),
        ("openai_preferences", {"input": {"messages": []}}, "field input.messages is .*; allowed: a list of messages"),
        ("openai_preferences", {"input": {"messages": talk("Hi"), "tools": [{}]}}, "field input.tools is .*; allowed"),
        ("openai_preferences", {"preferred_output": talk("Hi", "a")}, "field preferred_output is .* user, assistant"),
        ("ms_swift", {"messages": talk("Hi")}, "field messages is .*; allowed: a conversation that ends"),
        ("ms_swift", {"messages": say(("assistant", "a"))}, "field messages is .*; allowed: a conversation that ends"),
        ("ms_swift", {"rejected_response": ["a"]}, "field rejected_response is "),
    ],
)
def test_other_values_of_preference_data_are_refused(format, fields, said):
    with pytest.raises(DataError, match=f"row 1: {said}"):
        read(change(format, **fields))


def test_a_missing_answer_of_preference_data_leaves_the_row_out():
    for format, fields in (
        ("openai_preferences", {"preferred_output": []}),
        ("openai_preferences", {"non_preferred_output": say(("assistant", None))}),
        ("ms_swift", {"messages": talk("Hi", None)}),
        ("ms_swift", {"rejected_response": None}),
    ):
        found = read(ROWS[format], change(format, **fields))
        assert len(found.pairs) == len(found.missing) == 1, (format, fields)


def test_input_is_the_prompt_of_answers_that_come_without_another_one():
    row = {"system": "Be brief.", "input": "Hi", "chosen": "Hello.", "rejected": "Go."}
    assert one(row).prompt == ("System: Be brief.", "Human: Hi")
    alone = {name: say(("assistant", row[name])) for name in ("chosen", "rejected")}
    assert one({"input": "Hi", **alone}).prompt == "Hi"
    talks = {name: talk("Sum up.", row[name]) for name in ("chosen", "rejected")}
    assert one({"input": "Hi", **talks}).prompt == "Sum up.\n\nHi"
    assert one({**row, "prompt": "Sum up."}).prompt == ("System: Be brief.", "Human: Sum up.\n\nHi")


def test_turns_in_the_place_of_answers_are_refused():
    turns = {"prompt": "Hi", "chosen": ["Hi", "Hello."], "rejected": ["Hi", "Go."]}
    with pytest.raises(DataError, match=r"field rejected\[0\] is 'Hi'; allowed: another answer than in chosen"):
        read(turns)
