"""Sequences of token ids become packs: no padding, and a prefix that several sequences share is stored once.

After sorting, sequences with a common beginning are neighbours, so one pass over neighbours finds every shared prefix.
The rows of a pack are the tokens of a trie: each node of the trie is a run of neighbouring rows, and a sequence is the
path from the root to the node with its last token. Both orders of a pair share the prompt; in a tournament, all
opponents of one answer share the prompt and that answer. This module uses only numpy; it knows no model and no device.

An example: two sequences share the 20 ids P and continue with 3 ids a and with 2 ids b.

    node         P          a           b
    row          0 .. 19    20 21 22    23 24        25 rows instead of 23 + 22
    position     0 .. 19    20 21 22    20 21        where the token stands in its own sequence

A segment is a run of query rows that attend to the same runs of key rows, here one segment for each node:

    segment 0    queries P     keys P                q_start  = [0, 20, 23]
    segment 1    queries a     keys P, then a        q_length = [20, 3, 2]
    segment 2    queries b     keys P, then b        ptr      = [0, 1, 3, 5]
                                                     start    = [0, 0, 20, 0, 23]
                                                     length   = [20, 20, 3, 20, 2]

The keys of a segment end with the segment's own rows, so "causal" means: the last query sees all keys, the query before
it all keys but one, and so on. A token thus attends to every token before it in its own sequence, and to no other.

Letters in the comments on shapes, here and in the rest of `engine`:
    N rows of a pack            M members (sequences) of a pack        S segments        R runs of keys of all segments
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

LEAST_SHARED = 8  # ids; for a shorter common piece, the bookkeeping costs more than computing it twice


@dataclass(frozen=True)
class Layout:
    """Which rows attend to which rows; all arrays are int32.

    The queries of segment s are the rows from q_start[s] up to, but without, q_start[s] + q_length[s]. Its keys are the
    runs r from ptr[s] up to, but without, ptr[s + 1]; run r is the rows from start[r] up to start[r] + length[r]. The
    runs of a segment follow each other by position, from position 0 and without gaps, and the last query of a segment
    has the same position as its last key.
    """

    q_start: np.ndarray  # (S,)
    q_length: np.ndarray  # (S,)
    ptr: np.ndarray  # (S + 1,)
    start: np.ndarray  # (R,)
    length: np.ndarray  # (R,)

    @property
    def keys(self) -> np.ndarray:
        """The number of keys of each segment, (S,)."""
        return np.add.reduceat(self.length, self.ptr[:-1]) if len(self.q_start) else self.length

    def rows(self) -> np.ndarray:
        """The rows of the keys of all segments, one segment after the other, (sum of `keys`,)."""
        # Run r fills the output from offsets[r] on with start[r], start[r] + 1, ...: its rows minus their places in the
        # output are the constant start[r] - offsets[r].
        offsets = np.cumsum(self.length) - self.length
        return np.repeat(self.start - offsets, self.length) + np.arange(int(self.length.sum()))


@dataclass(frozen=True)
class Pack:
    """Rows that are computed together.

    `layout` says which rows attend to which. `last_layout` says it for the last layer, where only the last token of
    each member is a query: it has one segment of one query for each member, in the order of `members`.
    """

    ids: np.ndarray  # (N,) int64
    positions: np.ndarray  # (N,) int32, from 0 within each sequence
    members: list[int]  # M places in the list of sequences that was packed
    last: np.ndarray  # (M,) int64, the row of each member's last token
    layout: Layout
    last_layout: Layout


def packed(
    sequences: Sequence[Sequence[int]], budget: int, most: int | None = None, share: bool = True
) -> Iterator[Pack]:
    """Packs of at most `budget` rows and at most `most` sequences; every sequence is in exactly one pack.

    A sequence that is longer than `budget` becomes a pack of its own. With `share=False` no row serves two sequences.
    """
    order = sorted(range(len(sequences)), key=lambda i: (tuple(sequences[i]), i))
    arrays = [np.asarray(sequences[i], dtype=np.int64) for i in order]  # each (length of the sequence,)
    # shared[n]: how many leading ids sequence n has in common with the one before it in sorted order
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
    """One pack that holds all the sequences."""
    (whole,) = packed(sequences, budget=sum(map(len, sequences)))
    return whole


def _common(a: np.ndarray, b: np.ndarray) -> int:
    """The number of leading ids that two sequences have in common."""
    least = min(len(a), len(b))
    differ = a[:least] != b[:least]
    return int(differ.argmax()) if differ.any() else least


class _Trie:
    """The trie of one pack while it is built.

    Node n is the run of rows from row[n] on, for the positions begin[n] up to end[n] of every sequence through it;
    parent[n] is the node before it, -1 for none. `path` holds the nodes of the sequence that was added last, root
    first. `leaves` holds the last node of each member, `parts` the ids of the rows, piece by piece.
    """

    def __init__(self):
        self.begin, self.end, self.row, self.parent = [], [], [], []
        self.path, self.members, self.leaves, self.parts, self.rows = [], [], [], [], 0

    def fork(self, shared: int) -> int:
        """The position from which the next sequence needs rows of its own, if its first `shared` ids are those of the
        sequence that was added last.

        This is `shared`, unless it lies inside a node and fewer than LEAST_SHARED ids from its beginning: the node is
        then not cut, and the next sequence gets rows of its own from the beginning of that node on.
        """
        for node in reversed(self.path):
            if self.begin[node] < shared:
                worth = shared == self.end[node] or shared - self.begin[node] >= LEAST_SHARED
                return shared if worth else self.begin[node]
        return 0

    def add(self, member: int, ids: np.ndarray, fork: int) -> None:
        """Adds a sequence that shares its first `fork` ids with the sequence that was added last."""
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
        """Cuts a node in two at position `depth`. The first part becomes a new node on the path; the second part keeps
        the node's number, so that its children and leaves need no change. No row moves."""
        head = self._node(self.begin[node], depth, self.row[node], self.parent[node])
        self.row[node] += depth - self.begin[node]
        self.begin[node], self.parent[node] = depth, head
        self.path.append(head)

    def _node(self, begin: int, end: int, row: int, parent: int) -> int:
        for values, value in ((self.begin, begin), (self.end, end), (self.row, row), (self.parent, parent)):
            values.append(value)
        return len(self.row) - 1

    def _chain(self, node: int) -> list[int]:
        """The nodes from the root to `node`."""
        chain = []
        while node >= 0:
            chain.append(node)
            node = self.parent[node]
        return chain[::-1]

    def pack(self) -> Pack:
        """The pack of all the sequences added so far: one segment for each node, in the order of the rows."""
        length = [e - b for b, e in zip(self.begin, self.end, strict=True)]
        nodes = range(len(length))
        positions = np.zeros(self.rows, dtype=np.int32)  # (N,)
        for n in nodes:
            positions[self.row[n] : self.row[n] + length[n]] = np.arange(self.begin[n], self.end[n])
        in_order = sorted(nodes, key=lambda n: self.row[n])  # attention kernels want the queries in order, without gaps
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
        """Segments with these queries; the keys of segment s are the nodes chains[s], one run each."""
        ptr = np.cumsum([0, *map(len, chains)])  # (S + 1,)
        runs = [n for chain in chains for n in chain]
        columns = (q_start, q_length, ptr, [self.row[n] for n in runs], [length[n] for n in runs])
        return Layout(*(np.array(column, dtype=np.int32) for column in columns))
