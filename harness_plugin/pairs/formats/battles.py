"""Rows that name their two sides and the winner: canonical pairs, arena and MT-bench data, lm-eval's own samples.

Label words are closed tables: a word that is not in its format's table is an error, never a guess. This file knows
columns and labels; it must not know files, or how rows are counted and skipped.
"""

from collections.abc import Mapping
from typing import Any

from harness_plugin.files.checked import optional_id, optional_text, refuse_surrogates, required, wrong_value
from harness_plugin.pairs.formats import chat
from harness_plugin.pairs.formats.columns import Fields, json_turns, rest
from harness_plugin.pairs.pair import REQUIRED, Pair, Winner

Words = Mapping[str, tuple[Winner, str | None]]
"""Word -> outcome, and the flag that `meta` gets for it."""

_SIDES: Words = {"model_a": (Winner.MODEL_A, None), "model_b": (Winner.MODEL_B, None), "tie": (Winner.TIE, None)}
ARENA_WORDS: Words = {**_SIDES, "tie (bothbad)": (Winner.TIE, "both_bad")}
ARENA_140K_WORDS: Words = {**_SIDES, "both_bad": (Winner.TIE, "both_bad")}
MT_BENCH_WORDS: Words = {**ARENA_WORDS, "tie (inconsistent)": (Winner.TIE, "inconsistent")}

_ONE_HOT = {"winner_model_a": Winner.MODEL_A, "winner_model_b": Winner.MODEL_B, "winner_tie": Winner.TIE}
_TALKS = ("conversation_a", "conversation_b")
_MODELS = ("model_a", "model_b")


def arena_55k(row: Fields) -> Pair:
    """A row of the Kaggle LMSYS files: JSON lists of turns in text cells, a null turn is empty; one-hot winner."""
    prompt, response_a, response_b = (
        _turns(name, cell) for name, cell in zip(REQUIRED, required(row, *REQUIRED), strict=True)
    )
    return Pair(
        prompt,
        response_a,
        response_b,
        id=optional_id(row, "id"),
        winner=_one_hot(row),
        model_a=optional_text(row, "model_a"),
        model_b=optional_text(row, "model_b"),
        meta=rest(row, *REQUIRED, *_ONE_HOT, *_MODELS, "id"),
    )


def _turns(name: str, cell: Any) -> tuple[str, ...]:
    turns = json_turns(cell)
    if turns is None:
        raise wrong_value(name, cell, "a JSON list of strings or nulls, one for each turn")
    for turn in turns:
        refuse_surrogates(name, turn)
    return turns


def _one_hot(row: Fields) -> Winner | None:
    if all(row.get(name) is None for name in _ONE_HOT):
        return None
    values = dict(zip(_ONE_HOT, required(row, *_ONE_HOT), strict=True))
    for name, value in values.items():
        if not isinstance(value, (int, float)) or value not in (0, 1):
            raise wrong_value(name, value, "0 or 1")
    won = [name for name, value in values.items() if value == 1]
    if len(won) != 1:
        raise wrong_value(", ".join(_ONE_HOT), tuple(values.values()), "exactly one 1")
    return _ONE_HOT[won[0]]


def arena(words: Words, id_column: str, row: Fields) -> Pair:
    """A row of the arena data with one list of messages for each side."""
    return _battle(row, words, optional_id(row, id_column), rest(row, *_TALKS, *_MODELS, "winner", id_column))


def mt_bench(row: Fields) -> Pair:
    """A row of MT-bench's judgments: the conversations up to the judged `turn`.

    `question_id` names a question, not a row, so the id is the content's.
    """
    (turn,) = required(row, "turn")
    meta = rest(row, *_TALKS, *_MODELS, "winner")
    if row.get("judge") is not None:
        meta["judge"] = row["judge"]  # GPT-4's rows name it with a list
    return _battle(row, MT_BENCH_WORDS, "", meta, turns=turn)


def _battle(row: Fields, words: Words, id: str, meta: dict[str, Any], **cut: Any) -> Pair:
    talks = zip(_TALKS, required(row, *_TALKS), strict=True)
    prompt, response_a, response_b = chat.conversation(*talks, **cut)
    winner, flag = _winner_word(row.get("winner"), words)
    return Pair(
        prompt,
        response_a,
        response_b,
        id=id,
        winner=winner,
        model_a=optional_text(row, "model_a"),
        model_b=optional_text(row, "model_b"),
        meta={**meta, flag: True} if flag else meta,
    )


def _winner_word(word: Any, words: Words) -> tuple[Winner | None, str | None]:
    if word is None:
        return None, None
    if not isinstance(word, str) or word not in words:
        raise wrong_value("winner", word, ", ".join(map(repr, words)) + ", or null where nobody judged")
    return words[word]


def lm_eval_sample(row: Fields) -> Pair | None:
    """The pair of a row of lm-eval's `samples_*.jsonl`; None for the swapped document of a pair.

    The document is a canonical row with `pair_id` and `swapped`; one without them is taken as it stands.
    """
    (doc,) = required(row, "doc")
    if not is_pair_doc(doc):
        raise wrong_value("doc", doc, "an object with prompt, response_a and response_b")
    swapped = doc.get("swapped", False)
    if not isinstance(swapped, bool):
        raise wrong_value("doc.swapped", swapped, "true or false")
    if swapped:
        return None
    fields = {name: value for name, value in doc.items() if name not in ("swapped", "pair_id")}
    return Pair.from_dict({**fields, "id": optional_id(doc, "pair_id") or doc.get("id")})


def is_pair_doc(doc: Any) -> bool:
    """Whether an lm-eval document is a pair."""
    return isinstance(doc, Mapping) and set(REQUIRED) <= set(doc)
