"""A family hands each query to the member that it names, and mixes nothing."""

from __future__ import annotations

import pytest

from kgr1.errors import GraphError
from kgr1.graph.api import KnowledgeGraph
from kgr1.graph.family import GraphFamily, join_id, split_id
from kgr1.graph.store import GraphStore
from kgr1.types import ErrorCode, Operation, Query

FILMS = GraphStore.from_triples([("Alien", "directed_by", "Ridley Scott")])
CITIES = GraphStore.from_question_graphs({"q/1": [("Paris", "country", "France")], "q2": [("Paris", "state", "Texas")]})


def relations(graph_id: str | None, entity: str) -> Query:
    return Query(operation=Operation.GET_TAIL_RELATIONS, entity=entity, graph_id=graph_id)


def test_each_query_reaches_its_member_and_answers_keep_the_order() -> None:
    family = GraphFamily({"films": FILMS, "cities": CITIES})
    assert isinstance(family, KnowledgeGraph)
    asked = [
        relations("cities/q2", "Paris"),
        relations("films", "Alien"),
        relations("cities/q/1", "Paris"),
        relations("cities", "paris"),
        relations("films", "Paris"),
    ]
    found = family.execute(asked)
    assert [item.names for item in found] == [("state",), ("directed_by",), ("country",), ("country", "state"), ()]
    assert [item.query.graph_id for item in found] == [query.graph_id for query in asked]
    assert found[3].query.entity == "Paris"
    assert found[4].error is ErrorCode.ENTITY_NOT_FOUND
    assert "Paris" not in found[4].message.removeprefix('No entity is named "Paris"')


@pytest.mark.parametrize("graph_id", [None, "", "film", "/films", "towns/q2"])
def test_other_graphs_are_unknown(graph_id: str | None) -> None:
    query = relations(graph_id, "Alien")
    (found,) = GraphFamily({"films": FILMS, "cities": CITIES}).execute([query])
    assert found.error is ErrorCode.SAMPLE_NOT_FOUND
    assert found.query == query
    assert "cities, films" in found.message


def test_members_need_a_name_without_a_slash() -> None:
    for members in ({}, {"": FILMS}, {"a/b": FILMS}):
        with pytest.raises(GraphError):
            GraphFamily(members)


def test_closing_the_family_leaves_the_members_open() -> None:
    family = GraphFamily({"films": FILMS})
    family.close()
    assert FILMS.execute([relations(None, "Alien")])[0].ok
    assert GraphFamily({"films": FILMS, "cities": CITIES}).info().triples == 3


def test_ids_go_both_ways() -> None:
    for name, inner in (("films", None), ("films", "a/b"), ("films", "")):
        assert split_id(join_id(name, inner)) == (name, inner)
