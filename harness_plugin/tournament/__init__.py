"""Chatbots' answers -> battles -> verdicts -> a leaderboard with errors.

`answer_files` says which files are read and whose answers they hold, `battles` joins answers by prompt
(`same_documents` where lm-eval's chat templates differ; `lookalikes` warns of what should meet and does not),
`meetings` says which meet, `verdicts` has them judged, with a `record` of where each judgement stands, `leaderboard`
ranks, also at equal `style` of the answers; `families` are read from models' names; `red_team` attacks the judge,
`labels` compares it with people, `people` ranks by both together, `board_numbers` are as leaderboard.json has them;
`kept_answers` keeps the texts and reads them again, `folder` names the files of a run, `stopping` ends it when the
comparisons are clear. `ray_judge` judges on a cluster, by its `ray_workers`, and keeps its scores in `blocks`, `cost`
says what judging takes. What else a run leaves on disk is `report`'s.
"""

from harness_plugin.tournament.answer_files import find_files, read_files
from harness_plugin.tournament.battles import Answers, Battles, battles, gather, joined
from harness_plugin.tournament.folder import RED_TEAM_FILE, VERDICTS_FILE
from harness_plugin.tournament.kept_answers import write_answers
from harness_plugin.tournament.labels import OF_VOTES, Labels, Votes, agreement, check_labels, labels_of, votes_of
from harness_plugin.tournament.leaderboard import leaderboard, summary
from harness_plugin.tournament.meetings import Meetings
from harness_plugin.tournament.people import for_people, plan_for_people
from harness_plugin.tournament.red_team import median_model, red_team_battles, red_team_report
from harness_plugin.tournament.stopping import Part, Stopped, all_clear, board_at, parts_of
from harness_plugin.tournament.style import styles
from harness_plugin.tournament.verdicts import Judged, collect_until, collect_verdicts

__all__ = [
    "OF_VOTES",
    "RED_TEAM_FILE",
    "VERDICTS_FILE",
    "Answers",
    "Battles",
    "Judged",
    "Labels",
    "Meetings",
    "Part",
    "Stopped",
    "Votes",
    "agreement",
    "all_clear",
    "battles",
    "board_at",
    "check_labels",
    "collect_until",
    "collect_verdicts",
    "find_files",
    "for_people",
    "gather",
    "joined",
    "labels_of",
    "leaderboard",
    "median_model",
    "parts_of",
    "plan_for_people",
    "read_files",
    "red_team_battles",
    "red_team_report",
    "styles",
    "summary",
    "votes_of",
    "write_answers",
]
