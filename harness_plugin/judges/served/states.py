"""The ways in which a question can stay without a verdict. Each is counted apart; none is a tie, and none is a zero."""

REFUSED = "refused"  # the judge declined to judge
FILTERED = "filtered"  # a filter of the server stopped the answer
EMPTY = "empty"  # an answer without text
CUT = "cut"  # the answer reached its limit of tokens before its end
UNPARSEABLE = "without a legal verdict"
UNLIKELY = "with too little probability on the legal verdicts"
UNLISTED = "without log probabilities"  # of a server that gave them before
REJECTED = "rejected"  # the server says that the question is wrong, so that asking again is of no use
FORBIDDEN = "forbidden"  # the server does not let this key ask this
FAILED = "failed after retries"


class Unusable(Exception):
    """An answer that gives no verdict. `state`: one of the above; `detail`: what the server said, on one line."""

    def __init__(self, state: str, detail: str):
        super().__init__(f"{state}: {detail}")
        self.state, self.detail = state, detail


class Malformed(Exception):
    """A response that is not what the server's protocol says, such as half of one. Asking again may help."""


class Stopped(Exception):
    """The run is ending, so that the question was not asked."""
