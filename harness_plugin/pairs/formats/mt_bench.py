"""MT-bench's judgments: `lmsys/mt_bench_human_judgments`, those of people and those of GPT-4."""

from harness_plugin.files.checked import required
from harness_plugin.pairs.formats import arena
from harness_plugin.pairs.formats.columns import Fields, rest
from harness_plugin.pairs.formats.two_conversations import COLUMNS, Words, battle
from harness_plugin.pairs.pair import Pair, Winner

_WORDS: Words = {**arena.WORDS, "tie (inconsistent)": (Winner.TIE, "inconsistent")}


def pair(row: Fields) -> Pair:
    """A judgment: the conversations up to the judged `turn`.

    `question_id` names a question and not a row, so that the id is that of the content.
    """
    (turn,) = required(row, "turn")
    meta = rest(row, *COLUMNS)
    if row.get("judge") is not None:
        meta["judge"] = row["judge"]  # GPT-4's rows name it with a list, which `rest` leaves out
    return battle(row, _WORDS, "", meta, turns=turn)
