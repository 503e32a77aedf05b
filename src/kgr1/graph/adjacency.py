"""One direction of the edges of a graph: for every entity its (relation, neighbour) pairs, sorted.

Three arrays in compressed sparse row form (n entities, m triples): ``offsets`` (n + 1,) int64, ``relations`` (m,) and
``neighbours`` (m,) int32. The edges of entity ``e`` are ``offsets[e] : offsets[e + 1]``, ordered by relation and then
neighbour. One instance holds the triples by subject, another one by object.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

ARRAY_TYPES = {"offsets": "<i8", "relations": "<i4", "neighbours": "<i4"}


class Adjacency:
    """Edges of one direction. Immutable.

    Queries read single numbers, and a memoryview gives those out several times faster than numpy does.
    """

    def __init__(self, arrays: Mapping[str, npt.NDArray[np.generic]]) -> None:
        self._offsets = arrays["offsets"].data
        self._relations = arrays["relations"].data
        self._neighbours = arrays["neighbours"].data

    def degree(self, entity: int) -> int:
        """Number of edges at an entity."""
        return int(self._offsets[entity + 1] - self._offsets[entity])

    def relations(self, entity: int) -> list[int]:
        """Distinct relations at an entity, ascending. Leaps from one relation to the next: fast at hubs too."""
        edges = self._relations
        position, end = self._offsets[entity], self._offsets[entity + 1]
        found: list[int] = []
        while position < end:
            relation = edges[position]
            found.append(relation)
            if edges[end - 1] == relation:
                break
            position = bisect_right(edges, relation, position + 1, end)
        return found

    def neighbours(self, entity: int, relation: int) -> list[int]:
        """Entities at the other end of the edges with this relation, ascending."""
        edges = self._relations
        start, end = self._offsets[entity], self._offsets[entity + 1]
        start = bisect_left(edges, relation, start, end)
        if start == end or edges[start] != relation:
            return []
        result: list[int] = self._neighbours[start : bisect_right(edges, relation, start, end)].tolist()
        return result
