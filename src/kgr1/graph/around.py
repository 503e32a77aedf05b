"""The facts around entities, asked for through the protocol that every graph satisfies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from kgr1.graph.api import KnowledgeGraph
from kgr1.types import ErrorCode, Observation, Operation, Query

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


def execute_whole(graph: KnowledgeGraph, queries: Sequence[Query]) -> list[Observation]:
    """As :func:`execute`, with all names of each result up to the query's own limit.

    What the graph cuts shorter is asked for page by page; if it refuses a page, this is the answer. A result is still
    short of its ``total`` where the graph counts more than it gives.
    """
    found = execute(graph, queries)
    return [_whole(graph, query, first) for query, first in zip(queries, found, strict=True)]


def _whole(graph: KnowledgeGraph, query: Query, first: Observation) -> Observation:
    pages = [first]
    count = len(first.names)
    wanted = min(first.total - query.offset, query.limit or first.total)
    while pages[-1].names and count < wanted:
        rest = query.model_copy(update={"offset": query.offset + count, "limit": wanted - count})
        pages += graph.execute([rest])
        count += len(pages[-1].names)
    if len(pages) == 1 or refused(pages[-1]):
        return pages[-1]
    parts = {key: tuple(chain.from_iterable(getattr(page, key) for page in pages)) for key in ("names", "ids", "times")}
    return first.model_copy(update=parts)


def refused(found: Observation) -> bool:
    """True if the graph runs and did not answer the query: nobody knows what is missing then."""
    return found.error is ErrorCode.SERVER_ERROR


def facts_around(
    graph: KnowledgeGraph, entities: Sequence[str], *, graph_id: str | None = None, limit: int | None = None
) -> Iterator[list[Observation]]:
    """For each entity, in order, its facts: one result for each relation and direction, outgoing ones first.

    A result has at most ``limit`` names, whatever the graph gives at once; its ``total`` counts all. Before them stands
    the answer to a question for relations that the graph :func:`refused`. Raises
    :class:`kgr1.errors.GraphServerError` if the graph cannot answer.
    """
    step = max(1, AT_ONCE // len(RELATIONS))
    for start in range(0, len(entities), step):
        group = entities[start : start + step]
        queries = [Query(operation=each, entity=entity, graph_id=graph_id) for entity in group for each in RELATIONS]
        relations = execute_whole(graph, queries)
        for entity, outgoing, incoming in zip(group, relations[::2], relations[1::2], strict=True):
            sides = ((Operation.GET_TAIL_ENTITIES, outgoing), (Operation.GET_HEAD_ENTITIES, incoming))
            queries = [
                Query(operation=operation, entity=entity, relation=name, graph_id=graph_id, limit=limit)
                for operation, listed in sides
                for name in listed.names
            ]
            yield [*filter(refused, (outgoing, incoming)), *execute_whole(graph, queries)]
