"""A judge and what it says of pairs.

`judge` opens a judge, `judgement` is the record of what it said (`judgement_rows` reads it from files,
`judgement_arrays` has many as arrays), `presentations` renders and scores pairs, `probabilities` turns logits into
probabilities, `fit_calibration` fits how, `identity` says who judged, `store` keeps scores by content, `judge_metrics`
sums up judgements of pairs whose winners are known, `surface` is the baseline of surface features. torch is imported
when a judge is opened.
"""

from harness_plugin.scoring.judgement import Judgement

__all__ = ["Judge", "Judgement", "LocalJudge", "open_judge"]


def __getattr__(name: str):
    if name in ("Judge", "LocalJudge", "open_judge"):
        from harness_plugin.scoring import judge

        return getattr(judge, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
