"""Finding entities by name: in a store, over HTTP, through the client."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from faults import Interposed

from kgr1.errors import GraphServerError
from kgr1.graph.api import NameSearch
from kgr1.graph.store import GraphStore
from kgr1.server.client import GraphClient
from kgr1.server.serve import BackgroundServer

LABELS = {"Q1": "Springfield", "Q2": "Springfield", "Q3": "Spring Field Road", "Q4": "Shelbyville"}


@pytest.fixture(scope="module")
def towns() -> Iterator[GraphStore]:
    rows = [("Q1", "near", "Q4"), ("Q2", "near", "Q4"), ("Q3", "in", "Q1")]
    with GraphStore.from_triples(rows, labels=LABELS) as store:
        yield store


@pytest.fixture(scope="module")
def serving(towns: GraphStore) -> Iterator[BackgroundServer]:
    with BackgroundServer({"towns": towns}) as server:
        yield server


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Q4", ["Q4"]),
        ("Springfield", ["Q1", "Q2", "Q3"]),
        ("springfield [Q2]", ["Q2"]),
        (" SHELBYVILLE ", ["Q4"]),
        ("Shelbyvile", ["Q4"]),
        ("zzz", []),
        ("", []),
        ("  ", []),
    ],
)
def test_exact_names_come_first(towns: GraphStore, serving: BackgroundServer, text: str, found: list[str]) -> None:
    assert isinstance(towns, NameSearch)
    with GraphClient(serving.url) as client:
        assert isinstance(client, NameSearch)
        for graph in (towns, client):
            matches = graph.search(text)
            assert [identifier for _, identifier in matches][: len(found)] == found
            assert bool(matches) == bool(found)
            for name, identifier in matches:
                assert graph.search(name, 1) == [(name, identifier)]


def test_no_more_than_asked_for(towns: GraphStore, serving: BackgroundServer) -> None:
    with GraphClient(serving.url) as client:
        assert towns.search("Springfield", 2) == client.search("Springfield", 2)
        assert len(client.search("Springfield", 2)) == 2
        assert len(client.search("Springfield", 1000)) == len(towns.search("Springfield", 1000))
        assert client.search("x" * 2001) == client.search("\ud800") == client.search("Springfield", 0) == []


def test_over_http(serving: BackgroundServer) -> None:
    reply = httpx.get(f"{serving.url}/v1/search", params={"text": "shelbyville", "graph": "towns"}).json()
    assert reply == {"protocol": 1, "matches": [{"name": "Shelbyville", "id": "Q4"}]}
    for count in ("0", "101", "x", "-1", "1.5"):
        response = httpx.get(f"{serving.url}/v1/search", params={"text": "x", "count": count})
        assert (response.status_code, response.json()["code"]) == (422, "BAD_REQUEST")
    assert httpx.get(f"{serving.url}/v1/search", params={"text": "𝕏" * 2000}).json()["matches"] == []
    assert httpx.get(f"{serving.url}/v1/search", params={"text": "x" * 2001}).json()["code"] == "NAME_TOO_LONG"
    response = httpx.get(f"{serving.url}/v1/search", params={"text": "x", "graph": "other"})
    assert (response.status_code, response.json()["code"]) == (404, "NO_SUCH_GRAPH")


def test_a_graph_without_search_says_so(store: GraphStore) -> None:
    plain = Interposed(store, lambda queries: None)
    with (
        BackgroundServer({"films": plain}) as server,
        GraphClient(server.url) as client,
        pytest.raises(GraphServerError, match="has no search"),
    ):
        client.search("Alien")


def test_a_closed_store_is_unavailable() -> None:
    closed = GraphStore.from_triples([("a", "r", "b")])
    with BackgroundServer({"g": closed}) as server:
        httpx.get(f"{server.url}/v1/graphs")
        closed.close()
        response = httpx.get(f"{server.url}/v1/search", params={"text": "a"})
    assert (response.status_code, response.json()["code"]) == (503, "GRAPH_UNAVAILABLE")
