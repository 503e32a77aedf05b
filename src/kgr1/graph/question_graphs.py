"""Many small graphs over one vocabulary: the subgraph of each question, chosen by its id.

A question graph is a set of edges of the store. Its edges are listed twice, by their positions among the edges by
subject and among those by object, ascending; the edges of an entity are contiguous in the store, so that they are
found in the list by bisection. Arrays (G graphs, k edges in all of them):

====================  ==========  ===================================================================
``offsets``           int64       (G + 1,) where the edges of each graph start in the two lists
``tail_edges``        int32       (k,) positions in the ``tail_*`` arrays of the store
``head_edges``        int32       (k,) positions in the ``head_*`` arrays
``id_bytes``          uint8       ids of the graphs, UTF-8
``id_offsets``        int64       (G + 1,)
``hashes``            uint32      sorted hashes of the ids
``hash_owners``       int32       the graph behind each hash
====================  ==========  ===================================================================

The lists are int64 in a store of 2^31 edges or more.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from kgr1.graph.adjacency import Adjacency, Numbers
from kgr1.graph.names import hash_name

ARRAY_TYPES = {
    "offsets": "<i8",
    "tail_edges": "<i4",
    "head_edges": "<i4",
    "id_bytes": "<u1",
    "id_offsets": "<i8",
    "hashes": "<u4",
    "hash_owners": "<i4",
}

_FEW = 16  # edges below which reading them all is faster than leaping


class GraphSlice:
    """Some of the edges of one direction; answers as :class:`Adjacency` does."""

    def __init__(self, whole: Adjacency, edges: Any, low: int, high: int) -> None:
        self.dated = whole.dated
        self.whole = whole
        self._edges = edges
        self._low = low
        self._high = high

    def _bounds(self, entity: int) -> tuple[int, int]:
        offsets = self.whole.offsets
        low = bisect_left(self._edges, offsets[entity], self._low, self._high)
        return low, bisect_left(self._edges, offsets[entity + 1], low, self._high)

    def degree(self, entity: int) -> int:
        """Number of edges at an entity."""
        low, high = self._bounds(entity)
        return high - low

    def relations(self, entity: int) -> list[int]:
        """Distinct relations at an entity, ascending."""
        low, high = self._bounds(entity)
        edges, relations = self._edges, self.whole.edge_relations
        if high - low < _FEW:
            return list(dict.fromkeys([relations[edge] for edge in edges[low:high]]))
        end = self.whole.offsets[entity + 1]
        found: list[int] = []
        while low < high:  # leap from one relation to the next
            relation = relations[edges[low]]
            found.append(relation)
            low = bisect_left(edges, bisect_right(relations, relation, edges[low], end), low, high)
        return found

    def positions(self, entity: int, relation: int) -> list[int]:
        """Where the edges of an entity with this relation stand in the arrays of the store."""
        among = self.whole.positions(entity, relation)
        low = bisect_left(self._edges, among.start, self._low, self._high)
        found: list[int] = self._edges[low : bisect_left(self._edges, among.stop, low, self._high)].tolist()
        return found

    def at(self, positions: Sequence[int]) -> list[int]:
        """The neighbours at some positions, in their order."""
        return self.whole.at(positions)

    def facts(self, positions: Sequence[int]) -> tuple[Numbers, Numbers, Numbers]:
        """Neighbours, starts and ends, (k,) each, at some positions of a graph with dates."""
        return self.whole.facts(positions)

    def all_positions(self) -> npt.NDArray[np.int64]:
        """Positions of all edges of the question graph."""
        return np.asarray(self._edges[self._low : self._high], dtype=np.int64)


class QuestionGraphs:
    """The question graphs of a store. Immutable."""

    def __init__(self, arrays: Mapping[str, npt.NDArray[np.generic]], outgoing: Adjacency, incoming: Adjacency) -> None:
        self._offsets = arrays["offsets"].data
        self._tail_edges = arrays["tail_edges"].data
        self._head_edges = arrays["head_edges"].data
        self._id_bytes = arrays["id_bytes"].data
        self._id_offsets = arrays["id_offsets"].data
        self._hashes = arrays["hashes"].data
        self._owners = arrays["hash_owners"].data
        self._outgoing = outgoing
        self._incoming = incoming

    def __len__(self) -> int:
        return len(self._id_offsets) - 1

    def id(self, graph: int) -> str:
        """The id of a graph by its number."""
        return str(self._id_bytes[self._id_offsets[graph] : self._id_offsets[graph + 1]], "utf-8")

    def find(self, graph_id: str) -> int | None:
        """The number of the graph with exactly this id."""
        hashed = hash_name(graph_id)
        place = bisect_left(self._hashes, hashed)
        while place < len(self._hashes) and self._hashes[place] == hashed:
            if self.id(self._owners[place]) == graph_id:
                return int(self._owners[place])
            place += 1
        return None

    def slices(self, graph: int) -> tuple[GraphSlice, GraphSlice]:
        """The edges of a graph by subject and by object."""
        low, high = self._offsets[graph], self._offsets[graph + 1]
        return (
            GraphSlice(self._outgoing, self._tail_edges, low, high),
            GraphSlice(self._incoming, self._head_edges, low, high),
        )
