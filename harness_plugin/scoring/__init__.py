"""What a judge said of pairs, and what follows from it.

`judgement` is the record (`judgement_rows` reads it from files, `judgement_arrays` has many as arrays), `probabilities`
turns logits into probabilities, `fit_calibration` fits how, `identity` says who judged, `store` keeps scores by
content, `judge_metrics` sums up judgements of pairs whose winners are known, `surface` is the baseline of surface
features, `abstention` says when a judge is not sure enough.
"""

from harness_plugin.scoring.judgement import Judgement

__all__ = ["Judgement"]
