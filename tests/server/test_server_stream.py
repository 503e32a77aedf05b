"""The streaming endpoint: as a foreign client sees it, and through the client."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from faults import Interposed, RawServer
from faults import http as http_reply

from kgr1.errors import GraphServerError
from kgr1.graph.store import GraphStore
from kgr1.server.client import GraphClient
from kgr1.server.serve import BackgroundServer
from kgr1.server.wire import ServerLimits
from kgr1.types import ErrorCode, Operation, Query

DIRECTORS = Query(operation=Operation.GET_TAIL_ENTITIES, entity="Alien", relation="directed_by")
LINE = DIRECTORS.model_dump_json().encode() + b"\n"


def post(url: str, body: Any, **params: str) -> httpx.Response:
    return httpx.post(f"{url}/v1/stream", content=body, params=params, timeout=10)


def lines(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-ndjson"
    assert response.text == "" or response.text.endswith("\n")
    return [json.loads(line) for line in response.text.splitlines()]


class Duplex:
    """A client that sends line by line and reads in between."""

    def __init__(self, port: int, head: bytes = b"") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.socket.sendall(b"POST /v1/stream HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n" + head + b"\r\n")
        self.response: http.client.HTTPResponse | None = None

    def send(self, data: bytes) -> None:
        self.socket.sendall(b"%x\r\n%s\r\n" % (len(data), data))

    def send_many(self, data: bytes, times: int) -> None:
        for _ in range(times):
            self.send(data)

    def end(self) -> None:
        self.socket.sendall(b"0\r\n\r\n")

    def read(self) -> dict[str, Any]:
        if self.response is None:
            self.response = http.client.HTTPResponse(self.socket, method="POST")
            self.response.begin()
        found: dict[str, Any] = json.loads(self.response.readline())
        return found

    def close(self) -> None:
        self.socket.close()


def test_one_line_a_query(server: BackgroundServer) -> None:
    found = lines(post(server.url, LINE * 600))
    assert [line["names"] for line in found] == [["Ridley Scott"]] * 600
    assert found[0]["query"]["entity"] == "Alien"


def test_nothing_in_nothing_out(server: BackgroundServer) -> None:
    assert lines(post(server.url, b"")) == lines(post(server.url, b"\n  \r\n\n")) == []


def test_the_last_line_needs_no_end(server: BackgroundServer) -> None:
    assert len(lines(post(server.url, LINE + LINE.strip()))) == 2


def test_lines_may_be_cut_anywhere(server: BackgroundServer) -> None:
    body = LINE * 5
    assert len(lines(post(server.url, iter([body[i : i + 7] for i in range(0, len(body), 7)])))) == 5


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"{", "KG_FORMAT_ERROR"),
        (b"\xff\xfe", "KG_FORMAT_ERROR"),
        (b"[" * 50_000, "KG_FORMAT_ERROR"),
        (b'{"a":' * 50_000, "KG_FORMAT_ERROR"),
        (b'{"operation": "get_tail_relations", "entity": "\\ud800"}', "KG_FORMAT_ERROR"),
        (b"null", "KG_FORMAT_ERROR"),
        (b'"text"', "KG_FORMAT_ERROR"),
        (b'{"operation": "drop", "entity": "Alien"}', "KG_SERVER_ERROR"),
        (b'{"operation": "get_tail_relations", "entity": "Alien", "offset": 1e400}', "KG_FORMAT_ERROR"),
        (b'"' + b"x" * 2_000_000 + b'"', "KG_FORMAT_ERROR"),
        (b'{"operation": "get_tail_relations", "entity": "' + b"x" * 20_000 + b'"}', "KG_FORMAT_ERROR"),
    ],
    ids=range(11),
)
def test_a_bad_line_spoils_only_itself(server: BackgroundServer, line: bytes, code: str) -> None:
    first, bad, last = lines(post(server.url, LINE + line + b"\n" + LINE))
    assert first["names"] == last["names"] == ["Ridley Scott"]
    assert bad["error"] == code
    assert bad["message"].endswith((".", "?"))


def test_observations_come_while_the_request_goes_on(server: BackgroundServer) -> None:
    client = Duplex(server.port)
    for director, film in (("Ridley Scott", "Alien"), ("James Cameron", "Aliens")):
        client.send(DIRECTORS.model_copy(update={"entity": film}).model_dump_json().encode() + b"\n")
        assert client.read()["names"] == [director]
    client.send(b"{")
    client.end()
    assert client.read()["error"] == "KG_FORMAT_ERROR"
    assert client.response is not None
    assert client.response.read() == b""
    client.close()


def test_graph_and_protocol(store: GraphStore) -> None:
    with BackgroundServer({"a": store, "b": store}) as server:
        assert lines(post(server.url, LINE))[0]["error"] == "KG_SERVER_ERROR"
        assert lines(post(server.url, LINE, graph="b", protocol="1"))[0]["names"] == ["Ridley Scott"]
        assert post(server.url, LINE, protocol="2").json()["code"] == "WRONG_PROTOCOL"
        assert post(server.url, LINE, graph="x" * 20_000).json()["code"] == "NAME_TOO_LONG"


def test_who_does_not_read_is_not_read(store: GraphStore) -> None:
    wide = GraphStore.from_triples([("hub", "to", f"leaf {i:05}") for i in range(5000)])
    asked = Interposed(wide, lambda queries: None)
    query = Query(operation=Operation.GET_TAIL_ENTITIES, entity="hub", relation="to")
    line = query.model_dump_json().encode() + b"\n"
    with BackgroundServer({"wide": asked}) as server:
        client = Duplex(server.port)
        client.socket.settimeout(1.0)
        with pytest.raises(TimeoutError):
            client.send_many(line * 100, 1000)  # 13 GB of observations
        held = sum(asked.batches)
        time.sleep(0.3)
        assert sum(asked.batches) == held < 2000
        client.close()
        assert lines(post(server.url, line))[0]["total"] == 5000


def test_a_stream_without_lines_is_given_up(store: GraphStore) -> None:
    with BackgroundServer({"films": store}, limits=ServerLimits(body_timeout_s=0.2)) as server:
        client = Duplex(server.port)
        client.send(LINE)
        assert client.read()["names"] == ["Ridley Scott"]
        assert client.read()["code"] == "BODY_TOO_SLOW"
        client.close()
        silent = Duplex(server.port)
        assert silent.read()["code"] == "BODY_TOO_SLOW"
        assert silent.response is not None
        assert silent.response.status == 408
        silent.close()


def test_a_stopping_server_ends_streams_with_a_word(store: GraphStore) -> None:
    server = BackgroundServer({"films": store})
    client = Duplex(server.port)
    client.send(LINE)
    assert client.read()["names"] == ["Ridley Scott"]
    started = time.monotonic()
    server.close()
    assert time.monotonic() - started < 5
    assert client.read()["code"] == "SHUTTING_DOWN"
    client.close()


def test_an_unreachable_graph_ends_the_stream(store: GraphStore, caplog: pytest.LogCaptureFixture) -> None:
    calls = iter([False, True])

    def gone(queries: object) -> None:
        if next(calls, True):
            raise GraphServerError("secret")

    caplog.set_level("CRITICAL", "kgr1")
    with BackgroundServer({"films": Interposed(store, gone)}) as server:
        client = Duplex(server.port)
        client.send(LINE)
        assert client.read()["names"] == ["Ridley Scott"]
        client.send(LINE)
        assert client.read()["code"] == "GRAPH_UNAVAILABLE"
        client.close()
        refused = post(server.url, LINE)
        assert (refused.status_code, refused.json()["code"]) == (503, "GRAPH_UNAVAILABLE")


def quick(url: str, **options: Any) -> GraphClient:
    return GraphClient(url, **({"timeout_s": 2.0, "retries": 2, "backoff_s": 0.01} | options))


def test_the_client_streams(server: BackgroundServer, store: GraphStore) -> None:
    queries = [
        DIRECTORS,
        Query(operation=Operation.GET_HEAD_RELATIONS, entity="nobody"),
        DIRECTORS.model_copy(update={"entity": "x" * 20_000}),
        Query(operation=Operation.GET_TAIL_ENTITIES, entity="aliens", relation="Directed By"),
    ] * 150
    with quick(server.url, graph="films") as client:
        streamed = list(client.stream(iter(queries)))
        assert streamed == client.execute(queries)
        assert streamed[2].error is ErrorCode.FORMAT_ERROR
        assert list(client.stream([])) == []
        assert list(client.stream([queries[2]])) == [streamed[2]]
        with pytest.raises(ValueError, match="window"):
            next(client.stream(queries, window=0))


def test_a_query_beyond_the_line_limit_is_the_callers_mistake(store: GraphStore) -> None:
    films = ("Alien", "x" * 400, "Aliens")
    queries = [Query(operation=Operation.GET_TAIL_RELATIONS, entity=film) for film in films]
    limits = ServerLimits(max_line_bytes=256)
    with BackgroundServer({"films": store}, limits=limits) as server, quick(server.url) as client:
        first, long, last = client.stream(queries)
        room = 256 - len(queries[0].model_copy(update={"entity": ""}).model_dump_json())
        fits, over = client.stream([queries[0].model_copy(update={"entity": "x" * n}) for n in (room, room + 1)])
    assert first.ok
    assert last.ok
    assert (long.query, long.error) == (queries[1], ErrorCode.FORMAT_ERROR)
    assert "more than the 256 that the server takes (max_line_bytes); use a shorter name." in long.message
    assert (fits.error, over.error) == (ErrorCode.ENTITY_NOT_FOUND, ErrorCode.FORMAT_ERROR)


def test_queries_may_follow_from_observations(server: BackgroundServer) -> None:
    seen: list[str] = []

    def walk() -> Iterator[Query]:
        yield Query(operation=Operation.GET_TAIL_ENTITIES, entity="Alien", relation="starring")
        yield Query(operation=Operation.GET_HEAD_ENTITIES, entity=seen[0], relation="starring")

    with quick(server.url) as client:
        for observation in client.stream(walk(), window=1):
            seen += observation.names
    assert seen == ["Sigourney Weaver", "Alien", "Aliens"]


def test_only_a_window_is_taken_ahead(server: BackgroundServer) -> None:
    taken = 0

    def endless() -> Iterator[Query]:
        nonlocal taken
        while True:
            taken += 1
            yield DIRECTORS

    with quick(server.url) as client:
        stream = client.stream(endless(), window=10)
        assert [next(stream).names for _ in range(15)] == [("Ridley Scott",)] * 15
        assert taken == 20


def test_a_closed_client_streams_nothing(server: BackgroundServer) -> None:
    client = quick(server.url)
    client.close()
    with pytest.raises(GraphServerError, match="closed"):
        next(client.stream([DIRECTORS]))


def test_after_a_break_only_the_rest_is_asked_again(store: GraphStore) -> None:
    asked: list[list[str]] = []

    def sometimes(queries: Any) -> None:
        asked.append([query.entity for query in queries])
        if len(asked) in (2, 3):
            raise GraphServerError("gone")

    films = ["Alien", "Aliens", "Alien", "Aliens"]
    with BackgroundServer({"films": Interposed(store, sometimes)}, limits=ServerLimits(max_batch=2)) as server:
        queries = [DIRECTORS.model_copy(update={"entity": film}) for film in films]
        with quick(server.url) as client:
            names = [observation.names[0] for observation in client.stream(queries, window=4)]
    assert names == ["Ridley Scott", "James Cameron"] * 2
    assert asked == [["Alien", "Aliens"]] * 4


def test_a_cut_stream_is_taken_up_again(store: GraphStore) -> None:
    answer = store.execute([DIRECTORS])[0].model_dump_json().encode() + b"\n"
    with BackgroundServer({"films": store}) as real:
        offer = http_reply(httpx.get(f"{real.url}/v1/graphs").content)
    cut = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ncontent-length: 9999\r\n\r\n" + answer
    whole = http_reply(answer, kind="application/x-ndjson")
    with RawServer([offer, cut, whole]) as server, quick(server.url) as client:
        assert [found.names for found in client.stream([DIRECTORS] * 2)] == [("Ridley Scott",)] * 2
        assert server.connections == 3


@pytest.mark.parametrize(
    "body",
    [
        b"nonsense\n",
        b"{}\n",
        b'{"query": null, "error": "KG_FORMAT_ERROR", "message": "x."}\n',
        Query(operation=Operation.GET_TAIL_RELATIONS, entity="x").model_dump_json().encode() + b"\n",
    ],
)
def test_what_is_no_observation_is_refused(store: GraphStore, body: bytes) -> None:
    with BackgroundServer({"films": store}) as real:
        offer = http_reply(httpx.get(f"{real.url}/v1/graphs").content)
    with RawServer([offer, http_reply(body)]) as server, quick(server.url) as client:
        with pytest.raises(GraphServerError, match="address of a kgr1 graph server"):
            list(client.stream([DIRECTORS]))
        assert server.connections == 2


def test_more_observations_than_queries_are_refused(store: GraphStore) -> None:
    answer = store.execute([DIRECTORS])[0].model_dump_json().encode() + b"\n"
    with BackgroundServer({"films": store}) as real:
        offer = http_reply(httpx.get(f"{real.url}/v1/graphs").content)
    with RawServer([offer, http_reply(answer * 2)]) as server, quick(server.url) as client:
        stream = client.stream([DIRECTORS])
        assert next(stream).ok
        with pytest.raises(GraphServerError, match="more observations than queries"):
            next(stream)


def test_many_streams_at_once(server: BackgroundServer) -> None:
    results: list[int] = []

    def run() -> None:
        with quick(server.url, timeout_s=20) as client:
            results.append(sum(found.ok for found in client.stream([DIRECTORS] * 300, window=50)))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [300] * 8
