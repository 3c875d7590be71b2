"""Chatbots' answers -> battles -> verdicts -> a leaderboard with errors.

`match` joins answers by prompt, `verdicts` has them judged, `leaderboard` ranks, `files` writes what a run leaves;
`ray_engine` judges on a cluster, `places` reaches files elsewhere, `cost` says what judging takes.
"""

from harness_plugin.judge.files import write_run
from harness_plugin.judge.leaderboard import leaderboard
from harness_plugin.judge.match import Answers, Battles, battles, find_files, gather
from harness_plugin.judge.verdicts import collect_verdicts, judge_battles

__all__ = [
    "Answers",
    "Battles",
    "battles",
    "collect_verdicts",
    "find_files",
    "gather",
    "judge_battles",
    "leaderboard",
    "write_run",
]
