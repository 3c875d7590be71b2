"""The names of what a run of `arena-rm judge` leaves in its folder. Every reader and writer takes them from here."""

import re

VERDICTS_FILE = "verdicts.jsonl"
RED_TEAM_FILE = "red_team.jsonl"
ANSWERS_FILE = "judged_answers.jsonl"
BOARD_FILE = "leaderboard.json"
TABLE_FILE = "leaderboard.csv"
REPORT_FILE = "report.md"
PAGE_FILE = "report.html"
SCORES_FOLDER = "scores"
PART = ".part"  # behind the name of a file that a run has not finished

OWN = frozenset({VERDICTS_FILE, RED_TEAM_FILE, ANSWERS_FILE, BOARD_FILE, TABLE_FILE})
"""Files of a run that could be taken for files of answers."""

_COMPANIONS = re.compile(r"results(_\d{4}-.*)?\.json|question\.jsonl|(README|LICENSE)(\.md|\.txt)?|\..*")
_REPORT = re.compile(rf"{re.escape(REPORT_FILE)}|{re.escape(PAGE_FILE)}|{SCORES_FOLDER}|.*\.png|.*{re.escape(PART)}")


def is_companion(name: str) -> bool:
    """Whether a file in a folder of answers holds none: a run left it, lm-eval or Arena-Hard put it beside them,
    or it describes them."""
    return name in OWN or _COMPANIONS.fullmatch(name) is not None


def is_of_report(name: str) -> bool:
    """Whether a run leaves such a file or folder beside those that could be taken for files of answers."""
    return _REPORT.fullmatch(name) is not None
