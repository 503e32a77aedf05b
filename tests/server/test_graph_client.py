"""The client against real servers, and against everything that can go wrong between them."""

from __future__ import annotations

import asyncio
import gzip
import json
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from faults import Interposed, RawServer, http, kill

from kgr1.errors import GraphServerError
from kgr1.graph.api import KnowledgeGraph
from kgr1.graph.store import GraphStore
from kgr1.server.client import GraphClient
from kgr1.server.serve import BackgroundServer, bind
from kgr1.server.wire import ServerLimits
from kgr1.types import ErrorCode, Operation, Query

DIRECTORS = Query(operation=Operation.GET_TAIL_ENTITIES, entity="Alien", relation="directed_by")
OFFER = {
    "protocol": 1,
    "limits": ServerLimits().model_dump(),
    "graphs": [{"name": "films", "triples": 4, "entities": 5, "relations": 2}],
}


def offer(**changes: object) -> bytes:
    return http(json.dumps(OFFER | changes).encode())


def failure(client: GraphClient) -> str:
    """The sentence of the error that a query ends with."""
    with client, pytest.raises(GraphServerError) as caught:
        client.execute([DIRECTORS])
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert len(sentence) < 300
    return sentence


def quick(url: str, **options: Any) -> GraphClient:
    return GraphClient(url, **({"timeout_s": 1.0, "retries": 2, "backoff_s": 0.01} | options))


def test_is_a_knowledge_graph(server: BackgroundServer) -> None:
    with GraphClient(server.url, "films") as client:
        assert isinstance(client, KnowledgeGraph)
        assert client.execute([DIRECTORS])[0].names == ("Ridley Scott",)
        assert client.info().triples == 4


def test_same_answers_as_in_process(server: BackgroundServer, store: GraphStore) -> None:
    queries = [DIRECTORS, Query(operation=Operation.GET_HEAD_RELATIONS, entity="nobody"), DIRECTORS]
    with GraphClient(server.url) as client:
        assert client.execute(queries) == store.execute(queries)


def test_batches_are_split_by_the_limits_of_the_server(store: GraphStore) -> None:
    graph = Interposed(store, lambda queries: None)
    with BackgroundServer({"films": graph}, limits=ServerLimits(max_batch=4)) as server, quick(server.url) as client:
        assert [o.names for o in client.execute([DIRECTORS] * 10)] == [("Ridley Scott",)] * 10
        assert graph.batches == [4, 4, 2]


def test_batches_are_split_by_bytes(store: GraphStore) -> None:
    graph = Interposed(store, lambda queries: None)
    limits = ServerLimits(max_body_bytes=2048)
    queries = [Query(operation=Operation.GET_TAIL_RELATIONS, entity="é" * 300 + str(i)) for i in range(9)]
    with BackgroundServer({"films": graph}, limits=limits) as server, quick(server.url) as client:
        assert [o.query for o in client.execute(queries)] == queries
        assert graph.batches == [2, 2, 2, 2, 1]


def test_a_name_beyond_the_limit_is_the_callers_mistake(store: GraphStore) -> None:
    long = Query(operation=Operation.GET_TAIL_RELATIONS, entity="x" * 11)
    limits = ServerLimits(max_name_chars=10)
    with BackgroundServer({"films": store}, limits=limits) as server, quick(server.url) as client:
        first, second = client.execute([long, Query(operation=Operation.GET_TAIL_RELATIONS, entity="Alien")])
    assert first.error is ErrorCode.FORMAT_ERROR
    assert first.query == long
    assert second.ok


def test_a_query_beyond_the_body_limit_is_the_callers_mistake(store: GraphStore) -> None:
    graph = Interposed(store, lambda queries: None)
    films = ("Alien", "x" * 2000, "Aliens")
    queries = [Query(operation=Operation.GET_TAIL_RELATIONS, entity=film) for film in films]
    limits = ServerLimits(max_body_bytes=1024)
    with BackgroundServer({"films": graph}, limits=limits) as server, quick(server.url) as client:
        first, long, last = client.execute(queries)
        assert graph.batches == [2]
        room = int(long.message.split("more than the ")[1].split()[0])
        room -= len(queries[0].model_copy(update={"entity": ""}).model_dump_json())
        fits, over = client.execute([queries[0].model_copy(update={"entity": "x" * n}) for n in (room, room + 1)])
    assert first.ok
    assert last.ok
    assert (long.query, long.error) == (queries[1], ErrorCode.FORMAT_ERROR)
    assert "that the server takes (max_body_bytes); use a shorter name." in long.message
    assert (fits.error, over.error) == (ErrorCode.ENTITY_NOT_FOUND, ErrorCode.FORMAT_ERROR)


def test_many_threads_share_one_client(server: BackgroundServer) -> None:
    with quick(server.url, timeout_s=10) as client, ThreadPoolExecutor(16) as pool:
        for observations in pool.map(lambda _: client.execute([DIRECTORS] * 3), range(100)):
            assert [o.names for o in observations] == [("Ridley Scott",)] * 3


def test_in_asyncio(server: BackgroundServer) -> None:
    async def ask(client: GraphClient) -> list[tuple[str, ...]]:
        batches = await asyncio.gather(*(asyncio.to_thread(client.execute, [DIRECTORS]) for _ in range(20)))
        return [batch[0].names for batch in batches]

    with quick(server.url) as client:
        assert asyncio.run(ask(client)) == [("Ridley Scott",)] * 20


def test_pickles_as_its_address(server: BackgroundServer) -> None:
    with quick(server.url, graph="films") as client, pickle.loads(pickle.dumps(client)) as other:
        assert other.retries == client.retries
        assert other.execute([DIRECTORS])[0].ok


def test_closed_client(server: BackgroundServer) -> None:
    client = quick(server.url)
    client.close()
    assert "closed" in failure(client)
    with pytest.raises(GraphServerError):
        client.info()
    with pytest.raises(GraphServerError):
        client.execute([])


@pytest.mark.parametrize("url", ["", "localhost", "127.0.0.1:8765", "ftp://x", "http://", "http://[::1", "http://a b"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(GraphServerError, match=r"is not a server address.*http://127\.0\.0\.1:8765\.$"):
        GraphClient(url)


def test_unknown_graph(server: BackgroundServer) -> None:
    assert "no graph 'books'; its graphs are: films." in failure(quick(server.url, graph="books"))


def test_one_of_several_graphs_must_be_chosen(store: GraphStore) -> None:
    with BackgroundServer({"a": store, "b": store}) as server:
        told = failure(quick(server.url))
        assert f"has several graphs: a, b; name one behind the address, as in {server.url}#a." in told
        with quick(server.url, graph="b") as client:
            assert client.info().name == "b"


def test_nobody_there() -> None:
    listener = bind(port=0)
    port = listener.getsockname()[1]
    listener.close()
    started = time.monotonic()
    assert "did not answer in 3 attempts" in failure(quick(f"http://127.0.0.1:{port}"))
    assert time.monotonic() - started >= 0.015  # waited about 0.01 s, then 0.02 s


def test_unknown_host() -> None:
    assert "did not answer in 1 attempt " in failure(quick("http://graph.invalid", retries=0))


def test_slow_server_times_out(store: GraphStore) -> None:
    slow = Interposed(store, lambda queries: time.sleep(0.5))
    with BackgroundServer({"films": slow}) as server:
        assert "no answer within 0.1 s" in failure(quick(server.url, timeout_s=0.1, retries=1))
        assert len(slow.batches) == 2


def test_a_trickle_times_out_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    class Trickle(RawServer):
        def _play(self, connection: Any, entry: object) -> None:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
            for _ in range(20):
                time.sleep(0.05)
                try:
                    connection.sendall(b" ")
                except OSError:
                    return

    with Trickle([None]) as server:
        started = time.monotonic()
        assert "no answer within 0.2 s" in failure(quick(server.url, timeout_s=0.2, retries=0))
        assert time.monotonic() - started < 0.6


def test_slow_once_then_quick(store: GraphStore) -> None:
    slow = Interposed(store, lambda queries: time.sleep(0.4 if len(slow.batches) == 1 else 0.0))
    with BackgroundServer({"films": slow}) as server, quick(server.url, timeout_s=0.2) as client:
        assert client.execute([DIRECTORS])[0].ok


@pytest.mark.parametrize("status", ["502 Bad Gateway", "503 Service Unavailable", "504 Gateway Timeout"])
def test_busy_gateways_are_asked_again(status: str) -> None:
    with RawServer([http(b"<html>busy</html>", status), None, offer()]) as server, quick(server.url) as client:
        assert client.info().triples == 4
        assert server.connections == 3


def test_server_killed_while_answering_and_back_again(store: GraphStore) -> None:
    entered = threading.Event()
    release = threading.Event()

    def hang(queries: object) -> None:
        entered.set()
        release.wait(5)

    first = BackgroundServer({"films": Interposed(store, hang)})
    with ThreadPoolExecutor(1) as pool, quick(first.url, retries=8, backoff_s=0.05, timeout_s=5) as client:
        answer = pool.submit(client.execute, [DIRECTORS])
        assert entered.wait(5)
        kill(first)
        release.set()
        first.close()
        with BackgroundServer({"films": store}, port=first.port):
            assert answer.result(timeout=10)[0].names == ("Ridley Scott",)


def test_server_killed_while_answering_and_gone(store: GraphStore) -> None:
    entered = threading.Event()
    release = threading.Event()

    def hang(queries: object) -> None:
        entered.set()
        release.wait(5)

    server = BackgroundServer({"films": Interposed(store, hang)})
    with ThreadPoolExecutor(1) as pool:
        sentence = pool.submit(failure, quick(server.url, timeout_s=5))
        assert entered.wait(5)
        kill(server)
        release.set()
        server.close()
        assert "did not answer in 3 attempts" in sentence.result(timeout=10)


def test_restart_between_calls(store: GraphStore) -> None:
    with BackgroundServer({"films": store}) as first:
        client = quick(first.url)
        assert client.execute([DIRECTORS])[0].ok
    with BackgroundServer({"films": store}, port=first.port), client:
        assert client.execute([DIRECTORS])[0].ok


@pytest.mark.parametrize(
    "reply",
    [
        http(b"<html>hello</html>", kind="text/html"),
        http(b""),
        http(b"{}"),
        http(b"[" * 5000),
        http(b'{"protocol": 1, "limits": {}, "graphs": "all"}'),
        http(b"not found", "404 Not Found", "text/plain"),
        http(b"", "301 Moved Permanently"),
        http(b'{"detail": "Not Found"}', "404 Not Found"),
        offer(graphs=[{"name": "films"}]),
        offer(limits={"max_batch": 0}),
        offer(surprise=1),
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nabcd",
    ],
    ids=range(12),
)
def test_not_a_graph_server(reply: bytes) -> None:
    with RawServer([reply]) as server:
        assert "is the address of a kgr1 graph server" in failure(quick(server.url))
        assert server.connections == 1  # asking again would not help


def test_not_http() -> None:
    with RawServer([b"SSH-2.0-OpenSSH_9.6\r\n"]) as server:
        assert "graph server" in failure(quick(server.url))


@pytest.mark.parametrize("changes", [{"protocol": 2}, {"protocol": 7, "new": True}])
def test_other_protocol(changes: dict[str, object]) -> None:
    with RawServer([offer(**changes)]) as server:
        sentence = failure(quick(server.url))
    assert f"speaks protocol {changes['protocol']}, this client 1" in sentence


def observation(**changes: object) -> dict[str, object]:
    good = {"query": DIRECTORS.model_dump(), "names": ["x"], "ids": ["x"], "total": 1, "error": None, "message": ""}
    return good | changes


@pytest.mark.parametrize(
    "observations",
    [
        [],
        [observation(), observation()],
        [observation(query={"operation": "get_tail_relations", "entity": "Alien"})],
        [observation(query=DIRECTORS.model_dump() | {"entity": "Aliens"}, error="KG_NO_RESULTS")],
        [observation(query=DIRECTORS.model_dump() | {"graph_id": "q1"})],
        [observation(query=None, error="KG_FORMAT_ERROR")],
        [observation(ids=[])],
        [observation(total=0)],
        [observation(names="x")],
        [observation(error="NEW_CODE")],
        [None],
    ],
    ids=range(11),
)
def test_answers_are_checked(observations: list[object]) -> None:
    reply = http(json.dumps({"protocol": 1, "observations": observations}).encode())
    with RawServer([offer(), reply]) as server:
        assert "is the address of a kgr1 graph server" in failure(quick(server.url))


def test_endless_reply_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kgr1.server.transport.MAX_RESPONSE_BYTES", 1000)
    bomb = gzip.compress(b" " * 1_000_000)
    head = f"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {len(bomb)}\r\n\r\n".encode()
    with RawServer([head + bomb]) as server:
        assert "more than 1000 bytes" in failure(quick(server.url))


def test_a_refusal_is_told_in_the_servers_words() -> None:
    refusal = http(b'{"code": "BODY_TOO_LARGE", "message": "The request body is larger than 9 bytes."}', "413 x")
    with RawServer([offer(), refusal]) as server:
        assert "refused the request: The request body is larger than 9 bytes." in failure(quick(server.url))


def test_unavailable_graph_is_named() -> None:
    with RawServer([offer(graphs=[], unavailable=["films"])]) as server:
        assert "'films' is not available" in failure(quick(server.url, graph="films"))
