"""A panel of judges that have judged the same pairs, and what it is worth beside its members."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from harness_plugin.comparison.entries import Entry, Timing
from harness_plugin.comparison.figures import Judgements, as_json, credits_of
from harness_plugin.errors import UsageError
from harness_plugin.judges.panel import panel_identity, panel_judgement
from harness_plugin.pairs import Pair
from harness_plugin.scoring.identity import identity_hash
from harness_plugin.scoring.judgement import Judgement
from harness_plugin.stats import share_difference
from harness_plugin.stats.panels import disagreement, effective_judges, error_correlations


def panel_entry(label: str, members: Sequence[Entry], pairs: Sequence[Pair]) -> Entry:
    """The panel of these judges, on the pairs that at least one of them has judged. A member that has not judged a pair
    casts no vote on it. Raises UsageError for fewer than two members."""
    if len(members) < 2:
        raise UsageError(f"a panel of {len(members)}", "a panel has several members", "name at least two judges")
    identity = panel_identity({member.label: member.identity for member in members})
    judge = identity_hash(identity)
    votes = {pair.key: {member.label: member.of(pair) for member in members} for pair in pairs}
    judgements = {
        pair.key: panel_judgement(pair, votes[pair.key], judge) for pair in pairs if any(votes[pair.key].values())
    }
    return Entry(
        label, f"panel of {', '.join(m.label for m in members)}", identity, judgements, _time_of(members), votes_on
    )


def votes_on(judgement: Judgement) -> int:
    """How many members voted."""
    return sum(vote is not None for vote in judgement.votes.values())


def _time_of(members: Sequence[Entry]) -> Timing:
    """How long all members take for a pair, where each was timed."""
    if not all(member.timing.pairs for member in members):
        return Timing()
    pairs = min(member.timing.pairs for member in members)
    return Timing(sum(m.timing.seconds / m.timing.pairs for m in members) * pairs, pairs)


def panel_figures(
    panel: Entry, members: Sequence[Entry], judgements: Judgements, asked: Sequence[Pair]
) -> dict[str, Any]:
    """What a panel is worth, as JSON: how often its members disagree, how many independent judges they are worth, how
    alike their errors are, the best member and the panel's difference to it, and how many votes were cast on the pairs
    that were `asked`. The best member is chosen by the same pairs, which favours it."""
    labels = [member.label for member in members]
    arrays = judgements.arrays()
    decisive, prompts = ~np.isnan(credits_of(arrays[labels[0]])), arrays[labels[0]].clusters
    credit = {label: credits_of(arrays[label])[decisive] for label in [*labels, panel.label]}
    verdicts = [j for pair in asked if (j := panel.of(pair)) is not None]
    wrong = 1 - np.stack([credit[label] for label in labels], axis=1)
    best = max(labels, key=lambda label: float(credit[label].mean()) if decisive.any() else 0.0)
    return {
        "judge": panel.label,
        "members": labels,
        "disagreement": as_json(
            disagreement(np.stack([np.sign(arrays[label].score) for label in labels], axis=1), prompts)
        ),
        "effective_judges": as_json(effective_judges(wrong, prompts[decisive])),
        "error_correlations": _named(labels, error_correlations(wrong)),
        "best_member": best,
        "less_best_member": as_json(share_difference(credit[panel.label], credit[best], prompts[decisive])),
        "votes_cast": _votes_cast(verdicts),
        "votes_missing": {label: sum(j.votes[label] is None for j in verdicts) for label in labels},
    }


def _named(labels: Sequence[str], matrix: np.ndarray) -> list[dict[str, Any]]:
    """The upper half of a symmetric matrix, one entry for each pair of members."""
    return [
        {"judge": one, "other": labels[b], "correlation": None if np.isnan(matrix[a, b]) else float(matrix[a, b])}
        for a, one in enumerate(labels)
        for b in range(a + 1, len(labels))
    ]


def _votes_cast(verdicts: Sequence[Judgement]) -> dict[str, int]:
    """How many pairs have so many votes, the most votes first."""
    counts = Counter(map(votes_on, verdicts))
    return {str(votes): counts[votes] for votes in sorted(counts, reverse=True)}
