"""One direction of the edges of a graph: for every entity its (relation, neighbour) pairs, sorted.

Arrays in compressed sparse row form (n entities, m edges): ``offsets`` (n + 1,) int64, ``relations`` (m,) uint16 or
int32, ``neighbours`` (m,) int32; in a graph with dates also ``starts`` and ``ends`` (m,) int32, see
:mod:`kgr1.graph.temporal`. The edges of entity ``e`` are ``offsets[e] : offsets[e + 1]``, ordered by relation,
neighbour and dates. One instance holds the facts by subject, another one by object.

:class:`Edges` is what retrieval asks of a direction; a question graph answers the same with some of the edges only
(:mod:`kgr1.graph.question_graphs`).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

ARRAY_TYPES = {"offsets": "<i8", "relations": "<i4", "neighbours": "<i4", "starts": "<i4", "ends": "<i4"}
OPTIONAL_ARRAYS = frozenset({"starts", "ends"})

_MANY = 50  # positions from which numpy gathers them faster

Numbers = npt.NDArray[np.generic]


class Edges(Protocol):
    """Edges of one direction."""

    dated: bool

    def degree(self, entity: int) -> int:
        """Number of edges at an entity."""
        ...

    def relations(self, entity: int) -> list[int]:
        """Distinct relations at an entity, ascending."""
        ...

    def positions(self, entity: int, relation: int) -> Sequence[int]:
        """Where the edges of an entity with this relation stand in the arrays, ascending."""
        ...

    def at(self, positions: Sequence[int]) -> list[int]:
        """The neighbours at some positions, in their order."""
        ...

    def facts(self, positions: Sequence[int]) -> tuple[Numbers, Numbers, Numbers]:
        """Neighbours, starts and ends, (k,) each, at some positions of a graph with dates."""
        ...


class Adjacency:
    """All edges of one direction. Immutable.

    Queries read single numbers, and a memoryview gives those out several times faster than numpy does.
    """

    def __init__(self, arrays: Mapping[str, npt.NDArray[np.generic]]) -> None:
        self.dated = "starts" in arrays
        self._arrays = arrays
        self.offsets = arrays["offsets"].data
        self.edge_relations = arrays["relations"].data
        self.edge_neighbours = arrays["neighbours"].data

    def degree(self, entity: int) -> int:
        """Number of edges at an entity."""
        return int(self.offsets[entity + 1] - self.offsets[entity])

    def relations(self, entity: int) -> list[int]:
        """Distinct relations at an entity, ascending. Leaps from one relation to the next: fast at hubs too."""
        edges = self.edge_relations
        position, end = self.offsets[entity], self.offsets[entity + 1]
        found: list[int] = []
        while position < end:
            relation = edges[position]
            found.append(relation)
            if edges[end - 1] == relation:
                break
            position = bisect_right(edges, relation, position + 1, end)
        return found

    def positions(self, entity: int, relation: int) -> range:
        """Where the edges of an entity with this relation stand in the arrays."""
        edges = self.edge_relations
        start, end = self.offsets[entity], self.offsets[entity + 1]
        start = bisect_left(edges, relation, start, end)
        if start == end or edges[start] != relation:
            return range(0)
        return range(start, bisect_right(edges, relation, start, end))

    def neighbours(self, entity: int, relation: int) -> list[int]:
        """Distinct entities at the other end of the edges with this relation, ascending."""
        found = self.at(self.positions(entity, relation))
        return list(dict.fromkeys(found)) if self.dated else found

    def at(self, positions: Sequence[int]) -> list[int]:
        """The neighbours at some positions, in their order."""
        if isinstance(positions, range):
            result: list[int] = self.edge_neighbours[positions.start : positions.stop].tolist()
            return result
        if len(positions) < _MANY:
            return [self.edge_neighbours[position] for position in positions]
        gathered: list[int] = self._arrays["neighbours"][np.asarray(positions, np.int64)].tolist()
        return gathered

    def facts(self, positions: Sequence[int]) -> tuple[Numbers, Numbers, Numbers]:
        """Neighbours, starts and ends, (k,) each, at some positions of a graph with dates."""
        chosen = (
            slice(positions.start, positions.stop) if isinstance(positions, range) else np.asarray(positions, np.int64)
        )
        neighbours, starts, ends = (self._arrays[key][chosen] for key in ("neighbours", "starts", "ends"))
        return neighbours, starts, ends
