"""A judge without a model, for tests of what happens around judging: it likes the answer with more words."""

from contextlib import contextmanager

from harness_plugin.model.calibration import Calibration
from harness_plugin.scoring.judgement import judged


class StubJudge:
    """`asked`: the keys of all pairs that it was asked to judge, in order."""

    identity = {"kind": "stub", "base": "stub", "temperature": 1.0}  # noqa: RUF012 - as of every judge
    hash = "0123456789abcdef"
    calibration = Calibration()

    def __init__(self):
        self.asked = []

    def judge(self, pairs, done=None):
        for pair in pairs:
            self.asked.append(pair.key)
            z = 0.5 * (len(pair.response_b.split()) - len(pair.response_a.split()))
            yield from judged([pair], [(z + 0.1,)], [(0.1 - z,)], self.calibration, self.hash)
            if done:
                done(1)

    @contextmanager
    def opened(self, *args, **options):
        """In the place of `open_judge`."""
        yield self
