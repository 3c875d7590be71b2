"""People's labels: which battles are shown to them, and what is done with the files that they send back.

`candidates` reads what could be labelled, `design` draws from it with known probabilities, `design_file` stores that
before anybody votes, and `merge` puts several annotators' exports together. The page that people vote on is
`report.label_page`. No model is loaded here.
"""

from harness_plugin.label.candidates import Candidate, candidates_of_folder, candidates_of_pairs
from harness_plugin.label.design import KINDS, Design, draw
from harness_plugin.label.design_file import design_path, store
from harness_plugin.label.merge import (
    Vote,
    agreement,
    annotators,
    check_replaced,
    merged,
    merged_text,
    read_votes,
    say_lookalikes,
)

__all__ = [
    "KINDS",
    "Candidate",
    "Design",
    "Vote",
    "agreement",
    "annotators",
    "candidates_of_folder",
    "candidates_of_pairs",
    "check_replaced",
    "design_path",
    "draw",
    "merged",
    "merged_text",
    "read_votes",
    "say_lookalikes",
    "store",
]
