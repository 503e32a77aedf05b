"""Published graphs answer the same through SPARQL as from a store, and a hub of Virtuoso is paged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyoxigraph")

from sparql_compare import difference, expected, random_queries, read_names, read_rows
from sparql_servers import ISQL, VIRTUOSO, oxigraph, virtuoso

from kgr1.graph.sparql import SparqlGraph, SparqlOptions, to_ntriples
from kgr1.graph.store import GraphStore
from kgr1.types import ErrorCode, Operation, Query

NAMESPACE = "http://kgr1.example/"
CAP = 1000
needs_virtuoso = pytest.mark.skipif(
    VIRTUOSO is None or ISQL is None, reason="needs virtuoso-t and isql-vt (Debian: virtuoso-opensource-7-bin)"
)


@pytest.fixture(scope="module", params=["oxigraph", pytest.param("virtuoso", marks=needs_virtuoso)])
def server(request: pytest.FixtureRequest) -> Iterator[Any]:
    with oxigraph(CAP) if request.param == "oxigraph" else virtuoso(CAP) as endpoint:
        yield endpoint


def connect(server: Any, graph: str, **options: object) -> SparqlGraph:
    settings = {"graph": graph, "namespace": NAMESPACE, "timeout_s": 300, "scan_timeout_s": 300, "max_results": None}
    return SparqlGraph(server.url, SparqlOptions.model_validate({**settings, **options}))


@pytest.mark.parametrize("names", ["local", "remote"])
@pytest.mark.parametrize("folder", ["pathquestion"])
def test_random_operations_agree_with_a_store(server: Any, shared_data: Path, folder: str, names: str) -> None:
    rows = read_rows(shared_data / folder / "kg.tsv.gz")
    labels_file = shared_data / folder / "names.tsv.gz"
    labels = read_names(labels_file) if labels_file.exists() else {}
    store = GraphStore.from_triples(rows, labels=labels)
    graph_name = f"http://kgr1.example/graph/{folder}-{names}"
    server.load(to_ntriples(rows, labels, namespace=NAMESPACE), graph_name)
    queries = list(random_queries(rows, store, 300, seed=5))
    with connect(server, graph_name, names=names) as graph:
        found = [one for start in range(0, 300, 64) for one in graph.execute(queries[start : start + 64])]
    wanted = [expected(store, query) for query in queries]
    differences = Counter(difference(*pair) for pair in zip(found, wanted, strict=True))
    assert set(differences) <= ({""} if names == "local" else {"", "message"})
    assert differences["message"] < 0.15 * len(queries)


@pytest.mark.parametrize("sort_rows", [10_000, 2_000], ids=["sorted here", "sorted there"])
def test_a_hub_beyond_the_cap_of_the_endpoint(server: Any, sort_rows: int) -> None:
    rows = [("hub", "has", f"leaf {n:05} {'éü漢z'[n % 4]}") for n in range(3500)]
    store = GraphStore.from_triples(rows)
    graph_name = f"http://kgr1.example/graph/hub-{sort_rows}"
    server.load(to_ntriples(rows, namespace=NAMESPACE), graph_name)
    query = Query(operation=Operation.GET_TAIL_ENTITIES, entity="hub", relation="has")
    with connect(server, graph_name, names="remote", sort_rows=sort_rows) as graph:
        for offset in (0, 1700, 3490):
            page = query.model_copy(update={"offset": offset, "limit": 30})
            assert difference(graph.execute([page])[0], expected(store, page)) == ""
        past = graph.execute([query.model_copy(update={"offset": 3500})])[0]
        assert past.error is ErrorCode.NO_RESULTS
        whole = graph.execute([query])[0]
        assert whole.total == 3500
        if sort_rows > 3500:
            assert difference(whole, expected(store, query)) == ""
