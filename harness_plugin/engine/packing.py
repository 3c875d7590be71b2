"""Sequences of ids -> packs without padding, in which a prefix that several sequences share stands once.

Sorted, sequences with a common beginning stand side by side, so one pass over neighbours finds every shared prefix: the
rows of a pack are the nodes of a trie. Both orders of a pair share the prompt; in a tournament the opponents of one
answer share the prompt and that answer. numpy only: knows no model and no device.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

LEAST_SHARED = 8  # ids; a shorter common piece costs more in bookkeeping than in computing it again


@dataclass(frozen=True)
class Layout:
    """Who attends to whom. Segment s: the query rows q_start[s] .. + q_length[s]; its keys are the runs of rows
    start[r] .. + length[r] for r in ptr[s] .. ptr[s + 1], by position from 0 without gaps; its last query stands at its
    last key. All int32."""

    q_start: np.ndarray
    q_length: np.ndarray
    ptr: np.ndarray
    start: np.ndarray
    length: np.ndarray

    @property
    def keys(self) -> np.ndarray:
        """How many keys each segment has."""
        return np.add.reduceat(self.length, self.ptr[:-1]) if len(self.q_start) else self.length

    def rows(self) -> np.ndarray:
        """The rows of all segments' keys, one segment after the other."""
        offsets = np.cumsum(self.length) - self.length
        return np.repeat(self.start - offsets, self.length) + np.arange(int(self.length.sum()))


@dataclass(frozen=True)
class Pack:
    """Rows that are computed together. ids, positions: (rows,); members: the sequences' places in the list that was
    packed; last: (members,) the row of each one's last token; layout: attention among the rows; last_layout: the same
    for the last rows alone, query i being member i's."""

    ids: np.ndarray
    positions: np.ndarray
    members: list[int]
    last: np.ndarray
    layout: Layout
    last_layout: Layout


def packed(
    sequences: Sequence[Sequence[int]], budget: int, most: int | None = None, share: bool = True
) -> Iterator[Pack]:
    """Packs of at most `budget` rows (one sequence may exceed it alone) and at most `most` sequences, each sequence in
    one of them. Without `share` no row serves two sequences."""
    order = sorted(range(len(sequences)), key=lambda i: (tuple(sequences[i]), i))
    arrays = [np.asarray(sequences[i], dtype=np.int64) for i in order]
    shared = [0, *(_common(a, b) if share else 0 for a, b in pairwise(arrays))][: len(order)]
    trie = _Trie()
    for member, ids, prefix in zip(order, arrays, shared, strict=True):
        if trie.members and (trie.rows + len(ids) - trie.fork(prefix) > budget or len(trie.members) == most):
            yield trie.pack()
            trie = _Trie()
        trie.add(member, ids, trie.fork(prefix))
    if trie.members:
        yield trie.pack()


def pack_of(sequences: Sequence[Sequence[int]]) -> Pack:
    """All of them in one pack."""
    (whole,) = packed(sequences, budget=sum(map(len, sequences)))
    return whole


def _common(a: np.ndarray, b: np.ndarray) -> int:
    """How many leading ids two sequences have in common."""
    least = min(len(a), len(b))
    differ = a[:least] != b[:least]
    return int(differ.argmax()) if differ.any() else least


class _Trie:
    """Nodes are runs of rows at depths begin .. end; `path` leads to the sequence that was added last."""

    def __init__(self):
        self.begin, self.end, self.row, self.parent = [], [], [], []
        self.path, self.members, self.leaves, self.parts, self.rows = [], [], [], [], 0

    def fork(self, shared: int) -> int:
        """From which depth on the next sequence needs rows of its own, if it has `shared` ids in common with the last:
        there, or where the node begins that would be cut too near to its beginning to be worth it."""
        for node in reversed(self.path):
            if self.begin[node] < shared:
                worth = shared == self.end[node] or shared - self.begin[node] >= LEAST_SHARED
                return shared if worth else self.begin[node]
        return 0

    def add(self, member: int, ids: np.ndarray, fork: int) -> None:
        while self.path and self.begin[self.path[-1]] >= fork:
            self.path.pop()
        if self.path and fork < self.end[self.path[-1]]:
            self._cut(self.path.pop(), fork)
        if fork < len(ids):
            parent = self.path[-1] if self.path else -1
            self.path.append(self._node(fork, len(ids), self.rows, parent))
            self.parts.append(ids[fork:])
            self.rows += len(ids) - fork
        self.members.append(member)
        self.leaves.append(self.path[-1])

    def _cut(self, node: int, depth: int) -> None:
        """Its rows up to `depth` become a node of their own, on the path; the rest keeps what hangs on it."""
        head = self._node(self.begin[node], depth, self.row[node], self.parent[node])
        self.row[node] += depth - self.begin[node]
        self.begin[node], self.parent[node] = depth, head
        self.path.append(head)

    def _node(self, begin: int, end: int, row: int, parent: int) -> int:
        for values, value in ((self.begin, begin), (self.end, end), (self.row, row), (self.parent, parent)):
            values.append(value)
        return len(self.row) - 1

    def _chain(self, node: int) -> list[int]:
        chain = []
        while node >= 0:
            chain.append(node)
            node = self.parent[node]
        return chain[::-1]

    def pack(self) -> Pack:
        length = [e - b for b, e in zip(self.begin, self.end, strict=True)]
        nodes = range(len(length))
        positions = np.zeros(self.rows, dtype=np.int32)
        for n in nodes:
            positions[self.row[n] : self.row[n] + length[n]] = np.arange(self.begin[n], self.end[n])
        in_order = sorted(nodes, key=lambda n: self.row[n])  # attention kernels take queries without gaps, in order
        chains = [self._chain(n) for n in nodes]
        return Pack(
            np.concatenate(self.parts),
            positions,
            self.members,
            np.array([self.row[n] + length[n] - 1 for n in self.leaves], dtype=np.int64),
            self._layout(
                [self.row[n] for n in in_order], [length[n] for n in in_order], [chains[n] for n in in_order], length
            ),
            self._layout(range(len(self.leaves)), [1] * len(self.leaves), [chains[n] for n in self.leaves], length),
        )

    def _layout(self, q_start, q_length, chains: list[list[int]], length: list[int]) -> Layout:
        ptr = np.cumsum([0, *map(len, chains)])
        runs = [n for chain in chains for n in chain]
        columns = (q_start, q_length, ptr, [self.row[n] for n in runs], [length[n] for n in runs])
        return Layout(*(np.array(column, dtype=np.int32) for column in columns))
