"""Token sequences that begin alike as one tree, in which every shared beginning is stored once.

The episodes of a GRPO group share their prompt, and often their first turns with what the graph returned; names that
are weighed as a whole share their first words. Laid out as a tree, tokens that stand behind the same tokens are one
token, and nothing is padding.

The nodes follow each other in the order in which they are met on the way down: a parent before its children, and the
first child directly behind its parent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Node:
    """A run of tokens without a branch, places ``start`` to ``stop`` (exclusive) of the tree.

    ``above`` are the indices of the nodes on the way from the root to this one, which is not among them.
    """

    start: int
    stop: int
    above: tuple[int, ...]


@dataclass(frozen=True)
class TokenTree:
    """B sequences in N places. ``ids`` and ``positions`` (N,): tokens and how many stand before each in its sequence.

    ``places[b]`` (T_b,) is where each token of sequence b stands.
    """

    ids: tuple[int, ...]
    positions: tuple[int, ...]
    nodes: tuple[Node, ...]
    places: tuple[tuple[int, ...], ...]


def build_tree(sequences: Sequence[Sequence[int]]) -> TokenTree:
    """Lay out sequences of token ids, none of them empty.

    >>> tree = build_tree([[7, 8, 9], [7, 8, 5, 4]])
    >>> tree.ids
    (7, 8, 9, 5, 4)
    >>> tree.places[1]
    (0, 1, 3, 4)
    """
    ids: list[int] = []
    positions: list[int] = []
    nodes: list[Node] = []
    places: list[list[int]] = [[] for _ in sequences]
    # What is still to be laid out: rows that are equal up to a depth and have more tokens, and the nodes above them.
    pending: list[tuple[list[int], int, tuple[int, ...]]] = [(list(range(len(sequences))), 0, ())]
    while pending:
        rows, depth, above = pending.pop()
        branches: dict[int, list[int]] = {}
        for row in rows:
            if len(sequences[row]) > depth:
                branches.setdefault(sequences[row][depth], []).append(row)
        if len(branches) > 1:  # each branch on its own, the first one next
            pending.extend((branch, depth, above) for branch in reversed(branches.values()))
            continue
        for branch in branches.values():
            stop = _common_depth([sequences[row] for row in branch], depth)
            start = len(ids)
            ids.extend(sequences[branch[0]][depth:stop])
            positions.extend(range(depth, stop))
            nodes.append(Node(start, len(ids), above))
            for row in branch:
                places[row].extend(range(start, len(ids)))
            pending.append((branch, stop, (*above, len(nodes) - 1)))
    return TokenTree(tuple(ids), tuple(positions), tuple(nodes), tuple(map(tuple, places)))


def _common_depth(sequences: Sequence[Sequence[int]], depth: int) -> int:
    """How many tokens the sequences have in common from the start, knowing that it is more than ``depth``."""
    shortest = min(map(len, sequences))
    first = sequences[0]
    while depth < shortest and all(sequence[depth] == first[depth] for sequence in sequences[1:]):
        depth += 1
    return depth
