"""The two propositions of SPEC section 2, and agreement with networkx, on random graphs and on real ones."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import networkx as nx
import pytest
from graph_strategies import HEAD_ENTITIES, HEAD_RELATIONS, TAIL_ENTITIES, TAIL_RELATIONS, Rows, ask, graphs, names
from hypothesis import given, settings
from hypothesis import strategies as st

from kgr1.graph import GraphStore, KnowledgeGraph
from kgr1.types import ErrorCode, Triple

REAL_GRAPHS = ["pathquestion/kg-pq-2h.tsv.gz", "metaqa/kg.tsv.gz"]


@pytest.fixture(scope="module", params=REAL_GRAPHS)
def real(request: pytest.FixtureRequest, shared_data: Path) -> tuple[GraphStore, Rows]:
    with gzip.open(shared_data / request.param, "rt", encoding="utf-8") as file:
        rows = [tuple(line.rstrip("\n").split("\t")) for line in file]
    triples = [(head, relation, tail) for head, relation, tail in rows]
    return GraphStore.from_triples(triples), triples


def to_networkx(rows: Rows) -> nx.MultiDiGraph:
    graph = nx.MultiDiGraph()
    for head, relation, tail in rows:
        graph.add_edge(head, tail, key=relation)
    return graph


def check_entity(graph: KnowledgeGraph, reference: nx.MultiDiGraph, entity: str) -> None:
    """All four operations at one entity give what networkx gives."""
    for relations_of, entities_of, edges, end in (
        (TAIL_RELATIONS, TAIL_ENTITIES, reference.out_edges(entity, keys=True), 1),
        (HEAD_RELATIONS, HEAD_ENTITIES, reference.in_edges(entity, keys=True), 0),
    ):
        expected: dict[str, set[str]] = {}
        for edge in edges:
            expected.setdefault(edge[2], set()).add(edge[end])
        observation = ask(graph, relations_of, entity)
        assert observation.names == tuple(sorted(expected))
        assert observation.error is (None if expected else ErrorCode.NO_RESULTS)
        for relation, neighbours in expected.items():
            found = ask(graph, entities_of, entity, relation)
            assert found.names == found.ids == tuple(sorted(neighbours))
            assert found.total == len(neighbours)
            facts = {Triple(*((entity, relation, n) if end else (n, relation, entity))) for n in neighbours}
            assert set(found.triples()) == facts
            assert all(reference.has_edge(fact.head, fact.tail, fact.relation) for fact in found.triples())


def walk(rows: Rows, draw: random.Random, length: int) -> list[tuple[str, str, bool, str]]:
    """A random path as steps (from, relation, forward, to), edges taken either way."""
    around: dict[str, list[tuple[str, bool, str]]] = {}
    for head, relation, tail in rows:
        around.setdefault(head, []).append((relation, True, tail))
        around.setdefault(tail, []).append((relation, False, head))
    here = draw.choice(sorted(around))
    steps = []
    for _ in range(length):
        relation, forward, there = draw.choice(around[here])
        steps.append((here, relation, forward, there))
        here = there
    return steps


def check_completeness(graph: KnowledgeGraph, steps: list[tuple[str, str, bool, str]]) -> None:
    """One operation a step, each asked with a name that the one before returned."""
    known = {steps[0][0]}
    for start, relation, forward, end in steps:
        assert start in known
        known = set(ask(graph, TAIL_ENTITIES if forward else HEAD_ENTITIES, start, relation).names)
        assert end in known


@given(graphs())
@settings(deadline=None, max_examples=40)
def test_operations_agree_with_networkx(rows: Rows) -> None:
    graph, reference = GraphStore.from_triples(rows), to_networkx(rows)
    assert graph.info().triples == reference.number_of_edges()
    assert set(graph.triples()) == set(rows)
    for entity in reference:
        check_entity(graph, reference, entity)


@given(graphs(), st.randoms(use_true_random=False), st.integers(1, 6))
@settings(deadline=None, max_examples=40)
def test_any_path_can_be_walked(rows: Rows, draw: random.Random, length: int) -> None:
    check_completeness(GraphStore.from_triples(rows), walk(rows, draw, length))


def bijection(old: list[str], data: st.DataObject) -> dict[str, str]:
    new = data.draw(st.lists(names, min_size=len(old), max_size=len(old), unique=True))
    return dict(zip(old, new, strict=True))


@given(graphs(), st.data())
@settings(deadline=None, max_examples=40)
def test_operations_commute_with_renaming(rows: Rows, data: st.DataObject) -> None:
    entities = sorted({name for head, _, tail in rows for name in (head, tail)})
    relations = sorted({relation for _, relation, _ in rows})
    e, r = bijection(entities, data), bijection(relations, data)
    graph = GraphStore.from_triples(rows)
    renamed = GraphStore.from_triples([(e[head], r[relation], e[tail]) for head, relation, tail in rows])
    for entity in entities:
        for operation in (TAIL_RELATIONS, HEAD_RELATIONS):
            before, after = ask(graph, operation, entity), ask(renamed, operation, e[entity])
            assert sorted(r[name] for name in before.names) == list(after.names)
            assert before.error is after.error
        for relation in relations:
            for operation in (TAIL_ENTITIES, HEAD_ENTITIES):
                before, after = ask(graph, operation, entity, relation), ask(renamed, operation, e[entity], r[relation])
                assert sorted(e[name] for name in before.names) == list(after.names)
                assert before.error is after.error


@given(graphs())
@settings(deadline=None, max_examples=30)
def test_order_and_repetition_of_triples_do_not_matter(rows: Rows) -> None:
    graph, shuffled = GraphStore.from_triples(rows), GraphStore.from_triples(rows[::-1] + rows)
    assert graph.info() == shuffled.info()
    assert list(graph.triples()) == list(shuffled.triples())


def test_real_graph_agrees_with_networkx(real: tuple[GraphStore, Rows]) -> None:
    graph, rows = real
    reference = to_networkx(rows)
    draw = random.Random(0)
    hubs = sorted(reference, key=reference.degree, reverse=True)[:3]
    for entity in [*hubs, *draw.sample(sorted(reference), 150)]:
        check_entity(graph, reference, entity)
    assert graph.info().triples == reference.number_of_edges() == len(rows)
    assert graph.max_degree == max(degree for _, degree in reference.degree)


def test_real_paths_can_be_walked(real: tuple[GraphStore, Rows]) -> None:
    graph, rows = real
    for seed in range(30):
        check_completeness(graph, walk(rows[seed * 7 : seed * 7 + 900], random.Random(seed), 4))
