"""A graph shown under other names answers as a graph that was built with those names."""

from __future__ import annotations

import pytest
from graph_strategies import Rows, graphs
from hypothesis import given, settings
from hypothesis import strategies as st

from kgr1.graph.renaming import RenamedGraph, Renaming
from kgr1.graph.store import GraphStore
from kgr1.types import ErrorCode, Operation, Query

FILMS = [
    ("Ridley_Scott", "directed", "Alien"),
    ("Ridley_Scott", "directed", "Blade_Runner"),
    ("Alien", "release_year", "1979"),
]


def shown() -> RenamedGraph:
    entities = Renaming.styled(["Ridley_Scott", "Alien", "Blade_Runner", "1979"], lambda name: name.replace("_", " "))
    relations = Renaming.styled(["directed", "release_year"], lambda name: f"film.{name}")
    return RenamedGraph(GraphStore.from_triples(FILMS), entities, relations)


def test_names_go_both_ways() -> None:
    graph = shown()
    (found,) = graph.execute(
        [Query(operation=Operation.GET_TAIL_ENTITIES, entity="Ridley Scott", relation="film.directed")]
    )
    assert found.names == ("Alien", "Blade Runner")
    assert found.ids == ("Alien", "Blade Runner")
    assert found.query.entity == "Ridley Scott"
    assert found.query.relation == "film.directed"
    (relations,) = graph.execute([Query(operation=Operation.GET_TAIL_RELATIONS, entity="Alien")])
    assert relations.names == ("film.release_year",)


def test_errors_offer_the_new_names_only() -> None:
    graph = shown()
    wrong = Query(operation=Operation.GET_TAIL_RELATIONS, entity="Ridley Scot")
    (found,) = graph.execute([wrong])
    assert found.error is ErrorCode.ENTITY_NOT_FOUND
    assert found.query == wrong
    assert '"Ridley Scott"' in found.message
    assert "Ridley_Scott" not in found.message
    (found,) = graph.execute([Query(operation=Operation.GET_TAIL_ENTITIES, entity="Alien", relation="year")])
    assert '"film.release_year"' in found.message


def test_names_that_would_become_one_stay() -> None:
    renaming = Renaming.styled(["a b", "a_b", "A", "c_d"], lambda name: name.replace("_", " ").lower())
    assert [renaming(name) for name in ("a b", "a_b", "A", "c_d")] == ["a b", "a_b", "a", "c d"]
    with pytest.raises(ValueError, match="one"):
        Renaming({"a": "c", "b": "c"})


@given(graphs(), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_exchanged_names_are_a_graph_of_their_own(triples: Rows, seed: int) -> None:
    entities = Renaming.exchanged({name for head, _, tail in triples for name in (head, tail)}, seed)
    relations = Renaming.exchanged({relation for _, relation, _ in triples}, seed)
    renamed = [(entities(head), relations(relation), entities(tail)) for head, relation, tail in triples]
    expected = GraphStore.from_triples(renamed)
    graph = RenamedGraph(GraphStore.from_triples(triples), entities, relations)
    names = sorted({name for head, _, tail in renamed for name in (head, tail)})
    for entity in names:
        for operation in Operation:
            for relation in sorted({row[1] for row in renamed}) if operation.takes_relation else [None]:
                query = Query(operation=operation, entity=entity, relation=relation)
                (found,), (wanted,) = graph.execute([query]), expected.execute([query])
                assert (found.names, found.ids, found.total, found.error) == (
                    wanted.names, wanted.ids, wanted.total, wanted.error,
                )  # fmt: skip
