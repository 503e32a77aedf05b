"""Labels, languages, aliases, literals, named graphs and pages of SPARQL endpoints."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import pytest

pytest.importorskip("pyoxigraph")

from sparql_servers import OxigraphEndpoint, Reply, oxigraph

from kgr1.graph.sparql import SparqlGraph, SparqlOptions, to_ntriples
from kgr1.graph.store import GraphStore
from kgr1.types import ErrorCode, Observation, Operation, Query

WIKI = "http://www.wikidata.org/"
ENTITY, DIRECT = f"{WIKI}entity/", f"{WIKI}prop/direct/"
XSD = "http://www.w3.org/2001/XMLSchema#"
LABEL = "http://www.w3.org/2000/01/rdf-schema#label"
ALIAS = "http://www.w3.org/2004/02/skos/core#altLabel"
LINK = "http://wikiba.se/ontology#directClaim"
GRAPH = "http://example.org/wiki"
OPTIONS = {
    "graph": GRAPH,
    "prefixes": {"": ENTITY},
    "relation_prefixes": {"": DIRECT},
    "property_link": LINK,
    "hide": [LINK],
    "timeout_s": 120,
    "scan_timeout_s": 60,
    "backoff_s": 0.01,
}
WIKIDATA = f"""
<{ENTITY}Q1> <{DIRECT}P36> <{ENTITY}Q2> .
<{ENTITY}Q3> <{DIRECT}P36> <{ENTITY}Q4> .
<{ENTITY}Q2> <{DIRECT}P571> "1850-01-01"^^<{XSD}date> .
<{ENTITY}Q2> <{DIRECT}P1082> "1850"^^<{XSD}integer> .
<{ENTITY}Q4> <{DIRECT}P571> "1850"^^<{XSD}gYear> .
<{ENTITY}Q4> <{DIRECT}P1448> "Wien"@de .
<{ENTITY}Q4> <{DIRECT}P1448> "Wien" .
<{ENTITY}Q4> <{DIRECT}P1449> _:blank .
<{ENTITY}Q1> <{LABEL}> "Austria"@en .
<{ENTITY}Q1> <{LABEL}> "Österreich"@de .
<{ENTITY}Q1> <{ALIAS}> "Republic of Austria"@en .
<{ENTITY}Q2> <{LABEL}> "Vienna"@en .
<{ENTITY}Q2> <{LABEL}> "Wien"@de .
<{ENTITY}Q3> <{LABEL}> "Nowhere"@fr .
<{ENTITY}Q4> <{LABEL}> "Vienna"@en .
<{ENTITY}P36> <{LINK}> <{DIRECT}P36> .
<{ENTITY}P36> <{LABEL}> "capital"@en .
<{ENTITY}P36> <{LABEL}> "Hauptstadt"@de .
<{ENTITY}P571> <{LINK}> <{DIRECT}P571> .
<{ENTITY}P1082> <{LINK}> <{DIRECT}P1082> .
<{ENTITY}P1448> <{LINK}> <{DIRECT}P1448> .
<{ENTITY}P1449> <{LINK}> <{DIRECT}P1449> .
<{ENTITY}Q4> <http://schema.org/version> "7" .
<{ENTITY}P571> <{LABEL}> "inception"@en .
"""
TAIL_RELATIONS, HEAD_RELATIONS = Operation.GET_TAIL_RELATIONS, Operation.GET_HEAD_RELATIONS
TAIL_ENTITIES, HEAD_ENTITIES = Operation.GET_TAIL_ENTITIES, Operation.GET_HEAD_ENTITIES


@pytest.fixture(scope="module")
def server() -> Iterator[OxigraphEndpoint]:
    with oxigraph() as endpoint:
        endpoint.load([WIKIDATA], GRAPH)
        yield endpoint


@pytest.fixture(params=["local", "remote"])
def names(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def connect(server: OxigraphEndpoint, **options: object) -> SparqlGraph:
    return SparqlGraph(server.url, SparqlOptions.model_validate({**OPTIONS, **options}))


def ask(graph: SparqlGraph, operation: Operation, *arguments: str, **more: object) -> Observation:
    entity, relation = arguments if len(arguments) == 2 else (arguments[0], None)
    (found,) = graph.execute([Query(operation=operation, entity=entity, relation=relation, **more)])
    return found


def test_labels_identifiers_aliases_and_relation_names(server: OxigraphEndpoint, names: str) -> None:
    with connect(server, names=names) as graph:
        for austria in ("Austria", "Q1", "Republic of Austria", "austria", ENTITY + "Q1", '"Austria"'):
            found = ask(graph, TAIL_ENTITIES, austria, "capital")
            assert found.query.entity == "Austria", austria
            assert (found.names, found.ids) == (("Vienna [Q2]",), ("Q2",))
        assert ask(graph, TAIL_ENTITIES, "Austria", "P36").query.relation == "capital"
        assert ask(graph, TAIL_RELATIONS, "Vienna").names == ("P1082", "P1448", "inception")
        assert ask(graph, HEAD_ENTITIES, "Vienna", "capital").names == ("Austria", "Q3")
        assert ask(graph, HEAD_ENTITIES, "Vienna [Q4]", "capital").ids == ("Q3",)
        assert ask(graph, TAIL_RELATIONS, "Q99").error is ErrorCode.ENTITY_NOT_FOUND
        assert ask(graph, TAIL_ENTITIES, "Q1", "label").error is ErrorCode.RELATION_NOT_FOUND


def test_languages_in_their_order(server: OxigraphEndpoint, names: str) -> None:
    with connect(server, names=names, languages=("de", "en")) as graph:
        assert ask(graph, HEAD_ENTITIES, "Wien [Q2]", "Hauptstadt").names == ("Österreich",)
        assert ask(graph, HEAD_ENTITIES, "Vienna", "Hauptstadt").names == ("Q3",)  # whose other bearer is shown as Wien
        assert ask(graph, TAIL_ENTITIES, "Austria", "capital").query.entity == "Österreich"
        assert ask(graph, TAIL_RELATIONS, "Q2").names == ("P1082", "inception")


def test_any_language_if_none_of_the_wanted_has_a_label(server: OxigraphEndpoint, names: str) -> None:
    with connect(server, names=names, languages=("en", "*")) as graph:
        (name,) = ask(graph, HEAD_ENTITIES, "Q4", "capital").names
        assert name in ("Nowhere", "Nowhere [Q3]")
        assert ask(graph, TAIL_ENTITIES, name, "capital").ids == ("Q4",)


def test_literals_are_entities_with_their_datatype_in_the_identifier(server: OxigraphEndpoint, names: str) -> None:
    with connect(server, names=names) as graph:
        found = ask(graph, TAIL_ENTITIES, "Q2", "inception")
        assert (found.names, found.ids) == (("1850-01-01",), (f'"1850-01-01"^^<{XSD}date>',))
        found = ask(graph, TAIL_ENTITIES, "Q4", "inception")
        assert found.names == (f'1850 ["1850"^^<{XSD}gYear>]',)
        assert ask(graph, HEAD_ENTITIES, found.names[0], "inception").ids == ("Q4",)
        assert ask(graph, HEAD_ENTITIES, found.ids[0], "inception").ids == ("Q4",)
        assert ask(graph, HEAD_RELATIONS, "1850").names == ("P1082", "inception")
        assert ask(graph, HEAD_ENTITIES, "1850", "inception").ids == ("Q4",)
        assert ask(graph, TAIL_RELATIONS, "1850").error is ErrorCode.NO_RESULTS
        found = ask(graph, TAIL_ENTITIES, "Q4", "P1448")
        assert sorted(found.ids) == ['"Wien"', '"Wien"@de']
        assert len(set(found.names)) == 2
        for name, identifier in zip(found.names, found.ids, strict=True):
            assert ask(graph, HEAD_ENTITIES, name, "P1448").query.entity == name, identifier


def test_blank_nodes_are_left_out(server: OxigraphEndpoint, names: str) -> None:
    with connect(server, names=names) as graph:
        assert ask(graph, TAIL_RELATIONS, "Q4").names == ("P1448", "inception")
        assert ask(graph, TAIL_ENTITIES, "Q4", "P1449").error in (ErrorCode.NO_RESULTS, ErrorCode.RELATION_NOT_FOUND)


def test_question_graphs_are_named_graphs(server: OxigraphEndpoint, names: str) -> None:
    prefix, namespace = "http://example.org/question/", "http://kgr1.example/"
    server.load(to_ntriples([("a", "to", "b")], namespace=namespace), prefix + "WebQ-1")
    server.load(to_ntriples([("a", "to", "c"), ("d", "by", "a")], namespace=namespace), prefix + "2%2F3%20%7B")
    with connect(
        server, names=names, graph=None, graph_prefix=prefix, namespace=namespace, property_link=None
    ) as graph:
        assert ask(graph, TAIL_ENTITIES, "a", "to", graph_id="WebQ-1").names == ("b",)
        assert ask(graph, TAIL_ENTITIES, "a", "to", graph_id="2/3 {").names == ("c",)
        found = ask(graph, TAIL_ENTITIES, "a", "by", graph_id="WebQ-1")
        assert found.error is ErrorCode.RELATION_NOT_FOUND
        assert "by" not in found.message.split(";")[1]
        assert ask(graph, TAIL_RELATIONS, "c", graph_id="WebQ-1").error is ErrorCode.ENTITY_NOT_FOUND
        for unknown in ("", "3", "> } #", "x" * 5000, "\ud800", "\x00"):
            found = ask(graph, TAIL_RELATIONS, "a", graph_id=unknown)
            assert found.error is ErrorCode.SAMPLE_NOT_FOUND


def test_names_of_any_length(server: OxigraphEndpoint, names: str) -> None:
    million = "name " * 200_000
    with connect(server, names=names) as graph:
        for name in (million, '"' + million, f'"{million}"', million + " [Q1]", "\\" * 100_000, '\\"' * 50_000):
            found = graph.execute([Query(operation=TAIL_RELATIONS, entity=name),
                                   Query(operation=TAIL_ENTITIES, entity="Q1", relation=name)])  # fmt: skip
            assert [one.error for one in found] == [ErrorCode.ENTITY_NOT_FOUND, ErrorCode.RELATION_NOT_FOUND]
            assert all(len(one.message) < 2000 for one in found)


def test_the_labels_of_a_large_graph_are_not_fetched(server: OxigraphEndpoint) -> None:
    server.queries.clear()
    with connect(server, names="remote") as graph:
        assert ask(graph, TAIL_ENTITIES, "Q1", "capital").ok
    about_labels = [query for query in server.queries if LABEL in query and "?l " in query]
    assert about_labels
    assert [query for query in about_labels if "VALUES (?e)" not in query and "?k" not in query] == []


def test_a_batch_takes_few_requests(server: OxigraphEndpoint) -> None:
    with connect(server, names="remote") as graph:
        graph.execute([Query(operation=TAIL_RELATIONS, entity="Q1")])
        before = graph.endpoint.requests
        queries = [Query(operation=TAIL_RELATIONS, entity=f"Q{n}") for n in (2, 3, 4)] * 10
        queries += [Query(operation=HEAD_ENTITIES, entity=e, relation="capital") for e in ("Vienna", "Q2", "Q4")] * 10
        assert all(found.ok for found in graph.execute(queries))
        assert graph.endpoint.requests - before < 20
        before = graph.endpoint.requests
        graph.execute(queries)  # names are remembered, edges are not
        assert graph.endpoint.requests - before == 2


HUB = [("hub", "has", f"leaf {n:05} {'éü漢'[n % 3]}") for n in range(2500)] + [("hub", "is", "x")]
SETTINGS = {
    "one answer": {},
    "pages": {"page_rows": 400},
    "sorted by the endpoint": {"page_rows": 400, "sort_rows": 1000},
}


@pytest.mark.parametrize("cap", [None, 333], ids=["uncapped", "capped"])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_a_hub_is_paged_and_a_silent_cap_is_noticed(cap: int | None, settings: dict[str, int], names: str) -> None:
    rows = [*HUB]
    random.Random(1).shuffle(rows)
    store = GraphStore.from_triples(rows)
    namespace = "http://kgr1.example/"
    with oxigraph(max_rows=cap) as endpoint:
        endpoint.load(to_ntriples(rows, namespace=namespace), GRAPH)
        graph = connect(endpoint, names=names, namespace=namespace, property_link=None, **settings)
        with graph:
            (whole,) = store.execute([Query(operation=TAIL_ENTITIES, entity="hub", relation="has")])
            for offset, limit in ((0, 7), (1000, 50), (2490, 50)):
                found = ask(graph, TAIL_ENTITIES, "hub", "has", offset=offset, limit=limit)
                assert found.total == 2500
                assert found.names == whole.names[offset : offset + limit]
            found = ask(graph, TAIL_ENTITIES, "hub", "has", offset=2500, limit=50)
            assert (found.error, found.message) == (
                ErrorCode.NO_RESULTS, "There are only 2,500 results; ask for an earlier page.",
            )  # fmt: skip
            found = ask(graph, TAIL_ENTITIES, "hub", "has")
            assert (found.names, found.total) == (whole.names, 2500)
            check_neighbours(graph, store, [row[2] for row in rows[:300]])


def check_neighbours(graph: SparqlGraph, store: GraphStore, names: Sequence[str]) -> None:
    queries = [Query(operation=HEAD_RELATIONS, entity=name) for name in names]
    assert graph.execute(queries) == store.execute(queries)


def test_max_results_cuts_the_names_and_not_the_count(server: OxigraphEndpoint) -> None:
    with connect(server, max_results=1) as graph:
        found = ask(graph, HEAD_ENTITIES, "Vienna", "capital")
        assert (found.names, found.total) == (("Austria",), 2)


@pytest.mark.parametrize(("most", "expected"), [(None, 2500), (1100, 1100)])
def test_max_results_holds_for_results_that_the_endpoint_sorts(most: int | None, expected: int) -> None:
    with oxigraph() as endpoint:
        endpoint.load(to_ntriples(HUB), GRAPH)
        settings = {"names": "remote", "namespace": "http://kgr1.example/", "property_link": None}
        with connect(endpoint, max_results=most, page_rows=400, sort_rows=1000, **settings) as graph:
            found = ask(graph, TAIL_ENTITIES, "hub", "has")
            assert (len(set(found.names)), found.total) == (expected, 2500)
            # What an endpoint refuses to sort so far down is left to a query for a later page.
            endpoint.instead = lambda query: Reply(400) if "OFFSET 800" in query else None
            found = ask(graph, TAIL_ENTITIES, "hub", "has")
            assert (len(set(found.names)), found.total) == (800, 2500)


def test_an_alias_does_not_take_over_what_is_shown(names: str) -> None:
    rows = [("Q1", "r", "Q9"), ("Q2", "s", "Q9"), ("Q3", "t", "Q9")]
    lines = [f"<{ENTITY}{head}> <{DIRECT}{relation}> <{ENTITY}{tail}> .\n" for head, relation, tail in rows]
    lines += [f'<{ENTITY}Q{number}> <{LABEL}> "Paris"@en .\n' for number in (1, 2)]
    lines += [f'<{ENTITY}Q3> <{ALIAS}> "{alias}"@en .\n' for alias in ("Paris [Q1]", "Berlin [Q1]")]
    with oxigraph() as endpoint:
        endpoint.load(lines, GRAPH)
        with connect(endpoint, names=names, property_link=None) as graph:
            assert ask(graph, HEAD_ENTITIES, "Q9", "r").names == ("Paris [Q1]",)
            assert ask(graph, TAIL_RELATIONS, "Paris [Q1]").names == ("r",)
            assert ask(graph, TAIL_RELATIONS, "Berlin [Q1]").names == ("t",)


def test_info_counts_in_both_modes(server: OxigraphEndpoint, names: str) -> None:
    namespace, graph_name = "http://kgr1.example/", "http://example.org/counted"
    rows = [("a", "r", "b"), ("a", "r", "c"), ("c", "s", "a")]
    server.load(to_ntriples(rows, {"b": "same", "c": "same"}, namespace=namespace), graph_name)
    with connect(server, names=names, namespace=namespace, graph=graph_name, property_link=None) as graph:
        info = graph.info()
    assert info.model_dump(exclude={"bytes", "question_graphs", "dated"}) == {
        "name": graph_name, "triples": 3, "entities": 3, "relations": 2, "ambiguous_names": 1,
    }  # fmt: skip
