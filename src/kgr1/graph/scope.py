"""What a query can see: the whole store or one of its question graphs.

A question graph answers as if it stood alone. Names that only other graphs hold are not found in it and are not
offered as the closest ones; display names are those of the store, so that a name means the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
import numpy.typing as npt

from kgr1.graph.adjacency import Adjacency, Edges
from kgr1.graph.question_graphs import GraphSlice
from kgr1.graph.vocabulary import Vocabulary


class Scope:
    """The whole store."""

    outgoing: Edges
    incoming: Edges

    def __init__(self, entities: Vocabulary, relations: Vocabulary, outgoing: Adjacency, incoming: Adjacency) -> None:
        self.outgoing = outgoing
        self.incoming = incoming
        self.find_entity: Callable[[str], tuple[int, ...]] = entities.find
        self.find_relation: Callable[[str], tuple[int, ...]] = relations.find
        self.closest_entities: Callable[[str, int], list[str]] = entities.closest
        self.closest_relations: Callable[[str, int], list[str]] = relations.closest


class QuestionScope(Scope):
    """One question graph of it."""

    def __init__(self, entities: Vocabulary, relations: Vocabulary, slices: tuple[GraphSlice, GraphSlice]) -> None:
        self.outgoing, self.incoming = self._slices = slices
        self._entities = entities
        self._relations = relations
        self.find_entity = self._find_entity
        self.find_relation = self._find_relation
        self.closest_entities = self._closest_entities
        self.closest_relations = self._closest_relations

    def _find_entity(self, text: str) -> tuple[int, ...]:
        return self._entities.find_among(text, self._has_entity)

    def _find_relation(self, text: str) -> tuple[int, ...]:
        return self._relations.find_among(text, self._relation_set.__contains__)

    def _closest_entities(self, text: str, count: int) -> list[str]:
        return self._entities.closest(text, count, among=self._entity_numbers)

    def _closest_relations(self, text: str, count: int) -> list[str]:
        return self._relations.closest(text, count, among=self._relation_numbers)

    def _has_entity(self, entity: int) -> bool:
        return self.outgoing.degree(entity) > 0 or self.incoming.degree(entity) > 0

    @cached_property
    def _relation_numbers(self) -> npt.NDArray[np.int64]:
        part = self._slices[0]
        return np.unique(np.asarray(part.whole.edge_relations)[part.all_positions()]).astype(np.int64)

    @cached_property
    def _relation_set(self) -> frozenset[int]:
        return frozenset(self._relation_numbers.tolist())

    @cached_property
    def _entity_numbers(self) -> npt.NDArray[np.int64]:
        """All entities of the graph, ascending: what the edges by object and by subject lead to."""
        ends = [np.asarray(part.whole.edge_neighbours)[part.all_positions()] for part in self._slices]
        return np.unique(np.concatenate(ends)).astype(np.int64)
