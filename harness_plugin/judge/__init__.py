"""Chatbots' answers -> battles -> verdicts -> a leaderboard with errors.

`match` joins answers by prompt, `verdicts` has them judged, `leaderboard` ranks, `files` and `answers` write what a run
leaves.
"""

from harness_plugin.judge.answers import write_answers
from harness_plugin.judge.files import write_run
from harness_plugin.judge.leaderboard import leaderboard
from harness_plugin.judge.match import Answers, Battles, battles, find_files, gather
from harness_plugin.judge.verdicts import judge_battles

__all__ = [
    "Answers",
    "Battles",
    "battles",
    "find_files",
    "gather",
    "judge_battles",
    "leaderboard",
    "write_answers",
    "write_run",
]
