"""The facts around entities, asked for through the protocol that every graph satisfies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kgr1.graph.api import KnowledgeGraph
from kgr1.types import Observation, Operation, Query

RELATIONS = (Operation.GET_TAIL_RELATIONS, Operation.GET_HEAD_RELATIONS)
"""The two questions that any entity of a graph has an answer to."""

AT_ONCE = 512
"""Queries in one call."""


def execute(graph: KnowledgeGraph, queries: Sequence[Query]) -> list[Observation]:
    """Answers to any number of queries, in order."""
    found: list[Observation] = []
    for start in range(0, len(queries), AT_ONCE):
        found += graph.execute(queries[start : start + AT_ONCE])
    return found


def facts_around(
    graph: KnowledgeGraph, entities: Sequence[str], *, graph_id: str | None = None, limit: int | None = None
) -> Iterator[list[Observation]]:
    """For each entity, in order, its facts: one result for each relation and direction, outgoing ones first.

    A result has at most ``limit`` names; its ``total`` counts all. Raises :class:`kgr1.errors.GraphServerError` if the
    graph cannot answer.
    """
    step = max(1, AT_ONCE // len(RELATIONS))
    for start in range(0, len(entities), step):
        group = entities[start : start + step]
        queries = [Query(operation=each, entity=entity, graph_id=graph_id) for entity in group for each in RELATIONS]
        relations = execute(graph, queries)
        for entity, outgoing, incoming in zip(group, relations[::2], relations[1::2], strict=True):
            sides = ((Operation.GET_TAIL_ENTITIES, outgoing), (Operation.GET_HEAD_ENTITIES, incoming))
            yield execute(
                graph,
                [
                    Query(operation=operation, entity=entity, relation=name, graph_id=graph_id, limit=limit)
                    for operation, listed in sides
                    for name in listed.names
                ],
            )
