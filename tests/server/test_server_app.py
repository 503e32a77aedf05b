"""The server as a foreign client sees it: plain HTTP, no code of ours on the asking side."""

from __future__ import annotations

import json
import logging
import socket
import time
from typing import Any

import httpx
import pytest
from faults import Interposed

import kgr1
from kgr1.errors import GraphServerError
from kgr1.graph.store import GraphStore
from kgr1.server.serve import BackgroundServer
from kgr1.server.wire import ServerLimits
from kgr1.types import ErrorCode, Observation, Operation, Query

DIRECTORS = {"operation": "get_tail_entities", "entity": "Alien", "relation": "directed_by"}


def post(url: str, queries: object, **fields: object) -> httpx.Response:
    return httpx.post(f"{url}/v1/query", json={"queries": queries, **fields}, timeout=5, trust_env=False)


def observations(url: str, queries: object, **fields: object) -> list[dict[str, Any]]:
    response = post(url, queries, **fields)
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["observations"]
    return found


def refusal(response: httpx.Response, status: int) -> str:
    """The sentence of an error reply, after checking its form."""
    assert response.status_code == status, response.text
    reply = response.json()
    assert set(reply) == {"code", "message"}
    assert reply["message"].endswith(".")
    assert "Traceback" not in response.text
    assert "Error" not in reply["message"]
    return str(reply["message"])


def test_one_query(server: BackgroundServer) -> None:
    reply = post(server.url, [DIRECTORS], graph="films").json()
    assert reply == {
        "protocol": 1,
        "observations": [
            {
                "query": {**DIRECTORS, "time": None, "graph_id": None, "offset": 0, "limit": None},
                "names": ["Ridley Scott"],
                "ids": ["Ridley Scott"],
                "times": [],
                "total": 1,
                "error": None,
                "message": "",
            }
        ],
    }


def test_aliases_of_operations(server: BackgroundServer) -> None:
    (found,) = observations(server.url, [{**DIRECTORS, "operation": "get_entities_out"}])
    assert found["names"] == ["Ridley Scott"]
    assert found["query"]["operation"] == "get_tail_entities"


def test_the_only_graph_needs_no_name(server: BackgroundServer) -> None:
    assert observations(server.url, [DIRECTORS])[0]["names"] == ["Ridley Scott"]


def test_several_graphs_need_a_name(store: GraphStore) -> None:
    with BackgroundServer({"a": store, "b": store}) as server:
        assert observations(server.url, [DIRECTORS])[0]["error"] == "KG_SERVER_ERROR"
        assert observations(server.url, [DIRECTORS], graph="b")[0]["names"] == ["Ridley Scott"]
        listed = httpx.get(f"{server.url}/v1/graphs").json()["graphs"]
        assert [info["name"] for info in listed] == ["a", "b"]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"operation": "get_all", "entity": "Alien"}, "KG_SERVER_ERROR"),
        ({"operation": "", "entity": "Alien"}, "KG_SERVER_ERROR"),
        ({"operation": "GET_TAIL_RELATIONS", "entity": "Alien"}, "KG_SERVER_ERROR"),
        ({"entity": "Alien"}, "KG_FORMAT_ERROR"),
        ({"operation": 5, "entity": "Alien"}, "KG_FORMAT_ERROR"),
        ({"operation": "get_tail_relations"}, "KG_FORMAT_ERROR"),
        ({"operation": "get_tail_relations", "entity": None}, "KG_FORMAT_ERROR"),
        ({"operation": "get_tail_relations", "entity": ["Alien"]}, "KG_FORMAT_ERROR"),
        ({"operation": "get_tail_relations", "entity": "Alien", "relation": 3}, "KG_FORMAT_ERROR"),
        ({"operation": "get_tail_relations", "entity": "Alien", "graph_id": {}}, "KG_FORMAT_ERROR"),
        ({"operation": "get_tail_relations", "entity": "Alien", "limit": 0}, "KG_FORMAT_ERROR"),
        ({"operation": "get_tail_relations", "entity": "Alien", "offset": -1}, "KG_FORMAT_ERROR"),
        ({"operation": "get_tail_relations", "entity": "Alien", "depth": 3}, "KG_FORMAT_ERROR"),
        ({"operation": "get_tail_entities", "entity": "Alien"}, "KG_FORMAT_ERROR"),
        ({"operation": "get_tail_relations", "entity": "Alien", "relation": "starring"}, "KG_FORMAT_ERROR"),
        ({"operation": "get_tail_relations", "entity": "x" * 20_000}, "KG_FORMAT_ERROR"),
        ({}, "KG_FORMAT_ERROR"),
        ("get_tail_relations(Alien)", "KG_FORMAT_ERROR"),
        (None, "KG_FORMAT_ERROR"),
        (7, "KG_FORMAT_ERROR"),
        ([], "KG_FORMAT_ERROR"),
    ],
)
def test_a_bad_query_spoils_only_itself(server: BackgroundServer, query: object, code: str) -> None:
    first, bad, last = observations(server.url, [DIRECTORS, query, DIRECTORS])
    assert first["names"] == last["names"] == ["Ridley Scott"]
    assert bad["error"] == code
    assert bad["message"].endswith((".", "?"))
    assert (bad["names"], bad["ids"], bad["total"]) == ([], [], 0)


@pytest.mark.parametrize(
    ("changes", "well_formed"),
    [
        ({"offset": None}, True),
        ({"offset": 10**30}, True),
        ({"limit": None}, True),
        ({"limit": 1}, True),
        ({"operation": "get_entities_out"}, True),
        ({"offset": "0"}, False),
        ({"offset": True}, False),
        ({"offset": 0.0}, False),
        ({"limit": "1"}, False),
        ({"limit": True}, False),
        ({"limit": 1.0}, False),
        ({"entity": 5}, False),
        ({"relation": False}, False),
        ({"time": 2014}, False),
        ({"graph_id": 3}, False),
        ({"operation": ["get_tail_entities"]}, False),
        ({"depth": 1}, False),
    ],
    ids=str,
)
def test_a_batch_and_a_stream_take_the_same_queries(
    server: BackgroundServer, changes: dict[str, Any], well_formed: bool
) -> None:
    query = DIRECTORS | changes
    (found,) = observations(server.url, [query])
    assert httpx.post(f"{server.url}/v1/stream", content=json.dumps(query)).json() == found
    assert (found["error"] != "KG_FORMAT_ERROR") == well_formed


def test_unknown_graph(server: BackgroundServer) -> None:
    for found in observations(server.url, [DIRECTORS, None], graph="nope"):
        assert found["error"] in ("KG_SERVER_ERROR", "KG_FORMAT_ERROR")
    assert "films" in observations(server.url, [DIRECTORS], graph="nope")[0]["message"]


@pytest.mark.parametrize(
    ("body", "status", "hint"),
    [
        (b"", 400, "JSON"),
        (b"{", 400, "JSON"),
        (b"\xff\xfe", 400, "JSON"),
        (b'{"queries": [{"entity": "\\ud800"}]}', 400, "JSON"),
        (b"[" * 100_000, 400, "JSON"),
        (b"[]", 422, "object"),
        (b"null", 422, "object"),
        (b"{}", 422, "queries"),
        (b'{"queries": {}}', 422, "queries"),
        (b'{"queries": "get_tail_relations"}', 422, "queries"),
        (b'{"queries": [], "graph": 3}', 422, "graph"),
        (b'{"queries": [], "grahp": "films"}', 422, "grahp"),
        (b'{"queries": [], "protocol": "x"}', 422, "protocol"),
        (b'{"queries": [], "protocol": "1"}', 422, "protocol"),
        (b'{"queries": [], "protocol": 2}', 422, "protocol 1"),
        (b'{"queries": [], "graph": "' + b"x" * 20_000 + b'"}', 422, "20000 characters"),
    ],
)
def test_a_broken_request_is_refused_in_one_sentence(
    server: BackgroundServer, body: bytes, status: int, hint: str
) -> None:
    assert hint in refusal(httpx.post(f"{server.url}/v1/query", content=body), status)


def test_other_addresses_are_refused_with_the_right_ones(server: BackgroundServer) -> None:
    assert "/v1/query" in refusal(httpx.get(f"{server.url}/"), 404)
    assert "/v1/query" in refusal(httpx.get(f"{server.url}/v1/query"), 405)
    assert "/v1/query" in refusal(httpx.post(f"{server.url}/v2/query"), 404)


def test_health_and_graphs(server: BackgroundServer, store: GraphStore) -> None:
    assert httpx.get(f"{server.url}/healthz").json() == {
        "status": "ok",
        "protocol": 1,
        "version": kgr1.__version__,
    }
    reply = httpx.get(f"{server.url}/v1/graphs").json()
    assert reply["protocol"] == 1
    assert reply["limits"]["max_batch"] == 256
    (info,) = reply["graphs"]
    assert info["name"] == "films"
    assert info["triples"] == store.info().triples == 4


def test_the_schema_describes_the_endpoints(server: BackgroundServer) -> None:
    paths = httpx.get(f"{server.url}/openapi.json").json()["paths"]
    assert set(paths) == {"/v1/query", "/v1/stream", "/v1/graphs", "/v1/search", "/healthz", "/metrics"}


def test_batch_limit(store: GraphStore) -> None:
    with BackgroundServer({"films": store}, limits=ServerLimits(max_batch=3)) as server:
        assert len(observations(server.url, [DIRECTORS] * 3)) == 3
        assert "more than 3" in refusal(post(server.url, [DIRECTORS] * 4), 413)


@pytest.mark.parametrize("size", [1025, 5000, 2_000_000])
def test_body_limit(store: GraphStore, size: int) -> None:
    with BackgroundServer({"films": store}, limits=ServerLimits(max_body_bytes=1024)) as server:
        assert observations(server.url, [DIRECTORS])
        body = json.dumps({"queries": [DIRECTORS]}).encode()
        padded = body + b" " * (size - len(body))
        try:
            response = httpx.post(f"{server.url}/v1/query", content=padded)
        except httpx.NetworkError:
            assert size > 8 * 1024  # far beyond the limit the connection may just be cut
        else:
            assert "larger than 1024 bytes" in refusal(response, 413)
        assert observations(server.url, [DIRECTORS])


def test_body_limit_holds_without_a_declared_length(store: GraphStore) -> None:
    with BackgroundServer({"films": store}, limits=ServerLimits(max_body_bytes=1024)) as server:
        response = httpx.post(f"{server.url}/v1/query", content=iter([b" " * 400] * 6))
        assert "larger than" in refusal(response, 413)


def test_a_body_that_never_comes_is_given_up(store: GraphStore) -> None:
    with BackgroundServer({"films": store}, limits=ServerLimits(body_timeout_s=0.2)) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
            connection.sendall(b"POST /v1/query HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
            assert b" 408 " in connection.recv(4096)
        assert observations(server.url, [DIRECTORS])


def test_result_limit_keeps_the_total() -> None:
    star = GraphStore.from_triples([("hub", "to", f"leaf {i:03}") for i in range(50)])
    with BackgroundServer({"star": star}, limits=ServerLimits(max_results=7)) as server:
        (found,) = observations(server.url, [{"operation": "get_tail_entities", "entity": "hub", "relation": "to"}])
    assert found["names"] == [f"leaf {i:03}" for i in range(7)]
    assert len(found["ids"]) == 7
    assert found["total"] == 50


def test_one_failing_query_does_not_spoil_the_batch(store: GraphStore, caplog: pytest.LogCaptureFixture) -> None:
    def trip(queries: object) -> None:
        if "poison" in str(queries):
            raise RuntimeError("secret detail")

    caplog.set_level(logging.CRITICAL, "kgr1")
    with BackgroundServer({"films": Interposed(store, trip)}) as server:
        poison = {"operation": "get_tail_relations", "entity": "poison"}
        response = post(server.url, [DIRECTORS, poison, DIRECTORS])
    first, bad, last = response.json()["observations"]
    assert first["names"] == last["names"] == ["Ridley Scott"]
    assert bad["error"] == ErrorCode.SERVER_ERROR
    assert "secret" not in response.text


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_backend_with_the_wrong_number_of_answers(
    store: GraphStore, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = [Observation(query=Query(operation=Operation.GET_TAIL_RELATIONS, entity="x"))] * count
    caplog.set_level(logging.CRITICAL, "kgr1")
    with BackgroundServer({"films": Interposed(store, lambda queries: wrong)}) as server:
        found = observations(server.url, [DIRECTORS, DIRECTORS])
    assert len(found) == 2


def test_an_unreachable_backend_is_a_503(store: GraphStore) -> None:
    def gone(queries: object) -> None:
        raise GraphServerError("secret address 10.0.0.7 did not answer.")

    with BackgroundServer({"films": Interposed(store, gone)}) as server:
        response = post(server.url, [DIRECTORS])
    assert "films" in refusal(response, 503)
    assert "secret" not in response.text


def test_a_graph_without_info_does_not_hide_the_others(store: GraphStore, caplog: pytest.LogCaptureFixture) -> None:
    broken = Interposed(store, lambda queries: None)
    broken.failing_info = RuntimeError("secret")
    caplog.set_level(logging.CRITICAL, "kgr1")
    with BackgroundServer({"broken": broken, "films": store}) as server:
        reply = httpx.get(f"{server.url}/v1/graphs").json()
    assert [info["name"] for info in reply["graphs"]] == ["films"]
    assert reply["unavailable"] == ["broken"]


def test_a_slow_graph_does_not_hold_up_others(store: GraphStore) -> None:
    slow = Interposed(store, lambda queries: time.sleep(1.0))
    with BackgroundServer({"slow": slow, "films": store}) as server, httpx.Client() as client:
        with pytest.raises(httpx.ReadTimeout):
            client.post(f"{server.url}/v1/query", json={"graph": "slow", "queries": [DIRECTORS]}, timeout=0.05)
        started = time.monotonic()
        assert observations(server.url, [DIRECTORS], graph="films")
        assert time.monotonic() - started < 0.8
