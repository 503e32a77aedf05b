"""The error of every kind of wrong query, and how it tells the model to go on."""

from __future__ import annotations

import pytest

from kgr1.graph import GraphStore
from kgr1.types import ErrorCode, Operation, Query

ROWS = [
    ("Paris", "country", "France"),
    ("Paris", "capital of", "France"),
    ("Lyon", "country", "France"),
    ("France", "continent", "Europe"),
    ("Lyon", "founded by", 'Lucius "Plancus"'),
]
TR, HR, TE, HE = Operation


@pytest.fixture(scope="module")
def graph() -> GraphStore:
    return GraphStore.from_triples(ROWS)


@pytest.mark.parametrize(
    ("operation", "arguments", "code", "message"),
    [
        (TR, ["Pariss"], ErrorCode.ENTITY_NOT_FOUND, 'No entity is named "Pariss"; the closest is "Paris".'),
        (
            TR,
            ["Qqqq"],
            ErrorCode.ENTITY_NOT_FOUND,
            'No entity is named "Qqqq"; use a name from the question or an earlier result.',
        ),
        (
            TE,
            ["Paris", "countri"],
            ErrorCode.RELATION_NOT_FOUND,
            'No relation is named "countri"; the closest are "country", "continent".',
        ),
        (
            TE,
            ["Paris", "xyzw"],
            ErrorCode.RELATION_NOT_FOUND,
            'No relation is named "xyzw"; get_tail_relations("Paris") lists the relations.',
        ),
        (
            TE,
            ["France", "country"],
            ErrorCode.NO_RESULTS,
            '"France" is not the subject of "country"; try get_head_entities("France", "country").',
        ),
        (
            HE,
            ["Paris", "country"],
            ErrorCode.NO_RESULTS,
            '"Paris" is not the object of "country"; try get_tail_entities("Paris", "country").',
        ),
        (
            TE,
            ["Paris", "continent"],
            ErrorCode.NO_RESULTS,
            '"Paris" is not the subject of "continent"; it has "country", "capital of" there.',
        ),
        (
            HE,
            ["Lyon", "continent"],
            ErrorCode.NO_RESULTS,
            '"Lyon" is not the object of "continent"; try get_tail_relations("Lyon").',
        ),
        (
            TR,
            ["europe"],
            ErrorCode.NO_RESULTS,
            '"Europe" is never the subject of a triple; try get_head_relations("Europe").',
        ),
        (
            HR,
            ["Lyon"],
            ErrorCode.NO_RESULTS,
            '"Lyon" is never the object of a triple; try get_tail_relations("Lyon").',
        ),
        (
            TR,
            ["lucius plancus"],
            ErrorCode.ENTITY_NOT_FOUND,
            'No entity is named "lucius plancus"; the closest is "Lucius \\"Plancus\\"".',
        ),
        (
            TE,
            ["Paris"],
            ErrorCode.FORMAT_ERROR,
            'get_tail_entities takes an entity and a relation; get_tail_relations("Paris") lists the relations.',
        ),
        (
            HE,
            ["Paris"],
            ErrorCode.FORMAT_ERROR,
            'get_head_entities takes an entity and a relation; get_head_relations("Paris") lists the relations.',
        ),
        (
            TR,
            ["Paris", "country"],
            ErrorCode.FORMAT_ERROR,
            'get_tail_relations takes an entity alone; leave out "country".',
        ),
        (
            TR,
            [" "],
            ErrorCode.FORMAT_ERROR,
            "get_tail_relations needs the name of an entity as its first argument.",
        ),
    ],
)
def test_errors(graph: GraphStore, operation: Operation, arguments: list[str], code: ErrorCode, message: str) -> None:
    query = Query(operation=operation, entity=arguments[0], relation=arguments[1] if arguments[1:] else None)
    (observation,) = graph.execute([query])
    assert (observation.error, observation.message) == (code, message)
    assert observation.query == query
    assert not observation.ok
    assert observation.triples() == ()


def test_question_graphs_and_unknown_operations(graph: GraphStore) -> None:
    no_graph = Query(operation=TR, entity="Paris", graph_id="WebQTest-0")
    unknown = Query.model_construct(operation="get_everything", entity="Paris", relation=None, graph_id=None)
    good = Query(operation=TR, entity="Paris")
    observations = graph.execute([no_graph, unknown, good])
    assert [o.error for o in observations] == [ErrorCode.SAMPLE_NOT_FOUND, ErrorCode.SERVER_ERROR, None]
    assert '"WebQTest-0"' in observations[0].message
    assert "get_everything" in observations[1].message
    assert "get_tail_relations" in observations[1].message


def test_long_names_are_not_repeated_in_errors(graph: GraphStore) -> None:
    long = "Paris " * 400
    other = GraphStore.from_triples([(long, "r", "b")])
    for observation in graph.execute([Query(operation=TR, entity=long), Query(operation=TE, entity=long)]):
        assert len(observation.message) < 400
    (observation,) = other.execute([Query(operation=HR, entity=long)])
    assert observation.error is ErrorCode.NO_RESULTS
    assert len(observation.message) < 400
    (observation,) = other.execute([Query(operation=TR, entity=long[:200])])
    assert observation.message.endswith("use a name from the question or an earlier result.")


def test_triples_carry_names_of_the_graph(graph: GraphStore) -> None:
    (observation,) = graph.execute([Query(operation=HE, entity="FRANCE", relation="Country")])
    assert observation.triples() == (("Lyon", "country", "France"), ("Paris", "country", "France"))
