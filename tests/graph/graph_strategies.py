"""Random graphs and short ways to ask them."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from kgr1.graph import KnowledgeGraph
from kgr1.types import Observation, Operation, Query

Rows = list[tuple[str, str, str]]

TAIL_RELATIONS, HEAD_RELATIONS = Operation.GET_TAIL_RELATIONS, Operation.GET_HEAD_RELATIONS
TAIL_ENTITIES, HEAD_ENTITIES = Operation.GET_TAIL_ENTITIES, Operation.GET_HEAD_ENTITIES

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(lambda name: bool(name.strip()))


@st.composite
def graphs(draw: st.DrawFn, text: st.SearchStrategy[str] = names) -> Rows:
    """Up to 40 triples over few names, so that paths, cycles, self-loops and repeats all occur."""
    entities = draw(st.lists(text, min_size=1, max_size=8, unique=True))
    relations = draw(st.lists(text, min_size=1, max_size=4, unique=True))
    entity, relation = st.sampled_from(entities), st.sampled_from(relations)
    return draw(st.lists(st.tuples(entity, relation, entity), min_size=1, max_size=40))


def ask(graph: KnowledgeGraph, operation: Operation, entity: str, relation: str | None = None) -> Observation:
    """The answer to one query."""
    return ask_all(graph, [Query(operation=operation, entity=entity, relation=relation)])[0]


def ask_all(graph: KnowledgeGraph, queries: Sequence[Query]) -> list[Observation]:
    """One answer a query."""
    observations = graph.execute(queries)
    assert len(observations) == len(queries)
    return observations
