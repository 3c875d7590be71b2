"""The registry of formats: which columns tell each one, and which function reads its rows.

To add a format: write a function in the file of its family (or in a new file) that turns a row into a `Pair` or an
`Answer`, reads the prompt with `prompt_of` or `with_parts` and the answers with `answers_of` or `answer_or_none`, and
raises `wrong_value` or `missing_field` for what the format does not allow; then add one entry to PAIR_FORMATS or
ANSWER_FORMATS, which says in `uses` what is read from which column. For the tests, add a row of it to ROWS or
ANSWER_ROWS in tests/pair_rows.py.
"""

from harness_plugin.errors import UsageError
from harness_plugin.files.checked import excerpt
from harness_plugin.pairs.formats import (
    alpaca_eval,
    arena,
    arena_hard,
    benchmarks,
    candidates,
    canonical,
    comparia,
    fine_tuning,
    llama_factory,
    lm_eval_samples,
    mt_bench,
    openai_batch,
    preferences,
    ranked,
    wildbench,
)
from harness_plugin.pairs.formats.format import AnswerFormat, PairFormat
from harness_plugin.pairs.pair import FIELDS

_TEXTS = "prompt response_a response_b"
_TALKS = "conversation_a conversation_b"
_ONE_HOT = "winner_model_a winner_model_b winner_tie"

_SIDES = "response_a=conversation_a response_b=conversation_b winner model_a model_b"
_TALK = "prompt=conversation_a+conversation_b"

PAIR_FORMATS = (
    PairFormat(
        "canonical",
        _TEXTS,
        canonical.pair,
        " ".join(FIELDS),
        without=_ONE_HOT,
        texts=_TEXTS,
        numbers="p_b",
    ),
    PairFormat(
        "arena_55k",
        f"{_TEXTS} winner_model_a winner_model_b",
        arena.pair_55k,
        f"id {_TEXTS} winner={_ONE_HOT.replace(' ', '+')} model_a model_b",
        texts=_TEXTS,
        numbers=_ONE_HOT,
    ),
    PairFormat(
        "arena_100k",
        _TALKS,
        arena.pair_100k,
        f"id=question_id {_TALK} {_SIDES}",
        without="full_conversation judge both_equal",
        doubt=arena.doubt,
    ),
    PairFormat(
        "arena_140k",
        f"{_TALKS} full_conversation",
        arena.pair_140k,
        f"id prompt=full_conversation+conversation_a+conversation_b {_SIDES}",
        without="both_equal",
    ),
    PairFormat(
        "comparia",
        f"{_TALKS} chosen_model_name both_equal",
        comparia.pair,
        "id prompt=system_prompt_a+system_prompt_b+conversation_a+conversation_b response_a=conversation_a "
        "response_b=conversation_b winner=chosen_model_name+both_equal model_a=model_a_name model_b=model_b_name "
        "category=selected_category",
    ),
    PairFormat(
        "chatbot_arena",
        f"{_TALKS} judge tstamp",
        arena.pair_100k,
        f"id=question_id {_TALK} {_SIDES}",
        without="full_conversation",
    ),
    PairFormat(
        "mt_bench",
        f"{_TALKS} judge turn",
        mt_bench.pair,
        f"{_TALK} turns=turn {_SIDES}",
        without="full_conversation tstamp",
        numbers="turn",
    ),
    PairFormat(
        "chosen_rejected",
        "",
        preferences.pair,
        f"id prompt={'|'.join(preferences.PROMPTS)} better={'|'.join(preferences.BETTER)} "
        f"worse={'|'.join(preferences.WORSE)} better_model=chosen_model worse_model=rejected_model category=subset",
        fits=lambda row: (
            preferences.names_of(row) is not None
            and not candidates.holds_lists(row)
            and not llama_factory.holds_messages(row)
        ),
        texts=" ".join((*preferences.PROMPTS, *preferences.BETTER, *preferences.WORSE)),
        unique_ids=False,
    ),
    PairFormat(
        "openai_preferences",
        "input preferred_output non_preferred_output",
        fine_tuning.openai,
        "id prompt=input preferred_output non_preferred_output",
        unique_ids=False,
    ),
    PairFormat(
        "ms_swift",
        "messages rejected_response",
        fine_tuning.swift,
        "id prompt=messages rejected_response",
        without="chosen chosen_response",
        texts="rejected_response",
        unique_ids=False,
    ),
    PairFormat(
        "llama_factory",
        "chosen rejected",
        llama_factory.pair,
        "id prompt=conversations|messages|conversation better=chosen worse=rejected category=subset",
        fits=llama_factory.holds_messages,
        unique_ids=False,
    ),
    PairFormat(
        "llama_factory_ranked",
        "instruction output",
        llama_factory.ranked,
        "id prompt=instruction ranked=output category=subset",
        fits=llama_factory.holds_ranking,
        unique_ids=False,
    ),
    PairFormat(
        "rewardbench2",
        "prompt chosen rejected",
        candidates.rewardbench2,
        "id prompt better=chosen worse=rejected category=subset",
        without="domain",
        fits=candidates.holds_lists,
    ),
    PairFormat(
        "rm_bench",
        "prompt chosen rejected domain",
        candidates.rm_bench,
        "id prompt better=chosen worse=rejected category=domain",
        fits=candidates.holds_lists,
        unique_ids=False,
    ),
    PairFormat(
        "ultrafeedback",
        "instruction completions",
        ranked.ultrafeedback,
        "prompt=instruction completions",
        fits=ranked.holds_ranking("completions", "response"),
        texts="instruction",
        unique_ids=False,
    ),
    PairFormat(
        "nectar",
        "prompt answers",
        ranked.nectar,
        "prompt answers",
        fits=ranked.holds_ranking("answers", "answer"),
        texts="prompt",
        unique_ids=False,
    ),
    PairFormat(
        "alpaca_eval",
        "instruction output_1 output_2",
        alpaca_eval.pair,
        "prompt=instruction response_a=output_1 response_b=output_2 winner=preference model_a=generator_1 "
        "model_b=generator_2 category=dataset",
        texts="instruction output_1 output_2",
        numbers="preference",
        doubt=alpaca_eval.doubt,
    ),
    PairFormat(
        "judgebench",
        "question response_A response_B",
        benchmarks.judgebench,
        "id=pair_id prompt=question response_a=response_A response_b=response_B winner=label category=source",
        texts="question response_A response_B",
    ),
    PairFormat(
        "llmbar",
        "input output_1 output_2 label",
        benchmarks.llmbar,
        "prompt=input response_a=output_1 response_b=output_2 winner=label category",
        without="instruction",
        texts="input output_1 output_2",
    ),
    PairFormat(
        "ppe",
        "prompt response_1 response_2",
        benchmarks.ppe,
        "id=question_id prompt response_a=response_1 response_b=response_2 winner model_a=model_a|model_1 "
        "model_b=model_b|model_2",
        without="preference_statement",
        texts="prompt response_1 response_2",
        unique_ids=False,
    ),
    PairFormat(
        "helpsteer2",
        "prompt response_1 response_2 preference_statement",
        benchmarks.helpsteer2,
        "prompt response_a=response_1 response_b=response_2 winner=preference_strength",
        texts="prompt response_1 response_2",
        numbers="preference_strength",
    ),
    PairFormat(
        "helpsteer3",
        "context response1 response2",
        benchmarks.helpsteer3,
        "prompt=context response_a=response1 response_b=response2 winner=overall_preference category=domain",
        texts="response1 response2",
        numbers="overall_preference",
    ),
    PairFormat(
        "pku_saferlhf",
        "prompt response_0 response_1",
        benchmarks.pku_saferlhf,
        "prompt response_a=response_0 response_b=response_1 winner=better_response_id",
        texts="prompt response_0 response_1",
        numbers="better_response_id",
    ),
    PairFormat(
        "shp",
        "history human_ref_A human_ref_B",
        benchmarks.shp,
        "prompt=history response_a=human_ref_A response_b=human_ref_B winner=labels category=domain",
        texts="history human_ref_A human_ref_B",
        numbers="labels",
    ),
    PairFormat(
        "webgpt",
        "question answer_0 answer_1",
        benchmarks.webgpt,
        "prompt=question response_a=answer_0 response_b=answer_1 winner=score_0+score_1",
        texts="answer_0 answer_1",
        numbers="score_0 score_1",
    ),
    PairFormat(
        "summaries",
        "info summaries",
        benchmarks.summaries,
        "prompt=info response_a=summaries response_b=summaries winner=choice",
        fits=ranked.holds_ranking("summaries", "text"),
        numbers="choice",
    ),
    PairFormat(
        "multipref",
        "text completion_a completion_b",
        benchmarks.multipref,
        "id=comparison_id prompt=text response_a=completion_a response_b=completion_b "
        "winner=normal_worker_annotations+expert_worker_annotations model_a model_b category",
        texts="text completion_a completion_b",
    ),
    PairFormat(
        "lm_eval",
        "doc resps",
        lm_eval_samples.pair,
        "pair=doc filter",
        fits=lm_eval_samples.holds_pair,
        first_of="filter",
    ),
)
"""A row must fit exactly one of these."""

_OF_PAIRS = (
    "response_a response_b response_1 response_2 output_1 output_2 chosen rejected chosen_response rejected_response"
)
"""Columns beside which a column of messages is that of a pair."""

ANSWER_FORMATS = (
    AnswerFormat(
        "alpaca_eval",
        "instruction output",
        alpaca_eval.answer,
        "prompt=instruction response=output model=generator category=category|dataset",
        texts="instruction output",
    ),
    AnswerFormat(
        "wildbench",
        "chat_history output",
        wildbench.answer,
        "id=session_id prompt=chat_history response=output model=generator category=primary_tag",
        unique_ids=True,
    ),
    AnswerFormat(
        "canonical",
        "prompt response",
        canonical.answer,
        "prompt response model category",
        texts="prompt response",
    ),
    AnswerFormat(
        "arena_hard_v0.1",
        "choices model_id",
        arena_hard.answer_v01,
        "id=question_id|uid response=choices model=model_id category",
        unique_ids=True,
    ),
    AnswerFormat(
        "openai_batch",
        "custom_id response",
        openai_batch.answer,
        "id=custom_id response error",
        unique_ids=True,
    ),
    AnswerFormat(
        "lm_eval",
        "doc resps arguments",
        lm_eval_samples.answer,
        "id=doc_hash|doc_id prompt=arguments response=resps|filtered_resps filter category=category+doc",
        first_of="filter",
    ),
    AnswerFormat(
        "sharegpt",
        "conversations",
        arena_hard.sharegpt,
        "id=question_id|uid prompt=conversations response=response|output|choices|conversations model category",
        without=_OF_PAIRS,
        unique_ids=True,
    ),
    AnswerFormat(
        "arena_hard_v2",
        "messages",
        arena_hard.answer_v2,
        "id=question_id|uid prompt=messages response=response|output|choices|messages model category",
        without=_OF_PAIRS,
        unique_ids=True,
    ),
)
"""The first that fits a row is taken."""

FORMATS = tuple(format.name for format in PAIR_FORMATS)
"""The names of the formats that `read_pairs` takes."""

COLUMNS_OF_PAIRS = frozenset(name for format in PAIR_FORMATS for name in (*format.used, *format.roles))
"""Columns of the formats of pairs, and what they are used for: a user may name columns for these too."""

ANSWER_FIELDS = ("prompt", "response", "model", "category")
"""The fields of an answer."""

TEXT_COLUMNS = frozenset(name for format in (*PAIR_FORMATS, *ANSWER_FORMATS) for name in format.texts.split())
NUMBER_COLUMNS = frozenset(name for format in PAIR_FORMATS for name in format.numbers.split())


def get_format(name: str) -> PairFormat:
    """The format of pairs of that name. Raises UsageError for an unknown one."""
    for format in PAIR_FORMATS:
        if format.name == name:
            return format
    raise UsageError(f"format {excerpt(name)} is unknown", f"formats known: {', '.join(FORMATS)}", "name one of them")
