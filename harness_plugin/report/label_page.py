"""The page that people vote on: the drawn battles with their texts, and what the file of votes must say of the draw.

Neither the judge's verdict nor its confidence is on the page. The models' names are in its data, since the saved file
names them, and are never shown.
"""

from harness_plugin import __version__
from harness_plugin.label import Design
from harness_plugin.label.design import DesignBattle
from harness_plugin.label.design_file import design_hash
from harness_plugin.report.html_page import assembled

STYLES = ("base.css", "label.css")
SCRIPTS = ("dom.js", "markdown.js", "label.js")
SHOWN = ("id", "prompt", "response_a", "response_b", "model_a", "model_b", "category")


def label_page(design: Design) -> str:
    """The page as HTML text, for the battles that the design draws, in its order."""
    data = {
        "version": __version__,
        "design": design_hash(design),
        "kind": design.kind,
        "seed": design.seed,
        "battles": [_battle(battle) for battle in design.drawn],
    }
    return assembled("label.html", f"Label {len(design.drawn)} battles", STYLES, SCRIPTS, data)


def _battle(battle: DesignBattle) -> dict:
    row = battle.pair.to_dict()
    known = {name: row[name] for name in SHOWN if name in row}
    return known | {"stratum": battle.stratum, "sampling_probability": battle.probability, "first": battle.first}
