"""compar:IA's votes (`ministere-culture/comparia-votes`): a conversation on each side and the model that was chosen."""

from harness_plugin.files.checked import is_absent, optional_id, optional_text, required, wrong_value
from harness_plugin.pairs.formats import chat
from harness_plugin.pairs.formats.columns import Fields, rest
from harness_plugin.pairs.formats.prompt_columns import with_parts
from harness_plugin.pairs.pair import Pair, Winner

_TALKS = ("conversation_a", "conversation_b")
_SYSTEM = ("system_prompt_a", "system_prompt_b")
_MODELS = ("model_a_name", "model_b_name")
_SPELT = {"true": True, "false": False}


def pair(row: Fields) -> Pair:
    """A vote: `chosen_model_name` names the winner, `both_equal` is a tie; neither: nobody voted.

    A system prompt that both sides had is the first turn of the prompt. Raises RowError where only one side had it,
    since then the two did not answer the same.
    """
    a, b = zip(_TALKS, required(row, *_TALKS), strict=True)
    prompt, response_a, response_b = chat.conversation(a, b)
    system_a, system_b = (optional_text(row, name) or None for name in _SYSTEM)
    if system_a != system_b:
        raise wrong_value(_SYSTEM[1], system_b, f"the same as {_SYSTEM[0]}, since both sides answer one prompt")
    model_a, model_b = (optional_text(row, name) for name in _MODELS)
    return Pair(
        with_parts({"system_prompt": system_a}, with_parts(row, prompt, (), (response_a, response_b))),
        response_a,
        response_b,
        id=optional_id(row, "id"),
        winner=_winner(row, model_a, model_b),
        model_a=model_a,
        model_b=model_b,
        category=optional_text(row, "selected_category"),
        meta=rest(row, *_TALKS, *_SYSTEM, *_MODELS, "id", "chosen_model_name", "both_equal", "selected_category"),
    )


def _winner(row: Fields, model_a: str | None, model_b: str | None) -> Winner | None:
    equal = row.get("both_equal")
    equal = _SPELT.get(equal.lower(), equal) if isinstance(equal, str) else equal
    if not is_absent(equal) and not isinstance(equal, bool):
        raise wrong_value("both_equal", equal, "true, false or null")
    if equal is True:
        return Winner.TIE
    chosen = row.get("chosen_model_name")
    if is_absent(chosen):
        return None
    named = [winner for winner, name in ((Winner.MODEL_A, model_a), (Winner.MODEL_B, model_b)) if name == chosen]
    if len(named) != 1:
        raise wrong_value("chosen_model_name", chosen, f"one of the two models, {model_a!r} and {model_b!r}")
    return named[0]
