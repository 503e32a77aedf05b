"""How much one server does at once, and for how long, seen over real HTTP."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from faults import Interposed

from kgr1.graph.store import GraphStore
from kgr1.server.client import GraphClient
from kgr1.server.serve import BackgroundServer
from kgr1.server.wire import ServerLimits
from kgr1.types import Operation, Query

DIRECTORS = Query(operation=Operation.GET_TAIL_ENTITIES, entity="Alien", relation="directed_by")


class Gated:
    """Holds calls of a graph until it is opened; counts how many run at once."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.running = self.most = 0
        self._lock = threading.Lock()

    def __call__(self, queries: object) -> None:
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        self.opened.wait(10)
        with self._lock:
            self.running -= 1


def ask(url: str, client: httpx.Client | None = None) -> httpx.Response:
    body = {"queries": [DIRECTORS.model_dump()]}
    return (client or httpx).post(f"{url}/v1/query", json=body, timeout=15)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def code(response: httpx.Response) -> Any:
    reply = response.json()
    assert set(reply) == {"code", "message"}
    assert reply["message"].endswith(".")
    return reply["code"]


def test_no_more_calls_at_once_than_allowed(store: GraphStore) -> None:
    gate = Gated()
    limits = ServerLimits(max_concurrent=2)
    with BackgroundServer({"films": Interposed(store, gate)}, limits=limits) as server, ThreadPoolExecutor(8) as pool:
        replies = [pool.submit(ask, server.url) for _ in range(8)]
        wait_for(lambda: gate.running == 2)
        time.sleep(0.1)
        gate.opened.set()
        assert [reply.result().status_code for reply in replies] == [200] * 8
    assert gate.most == 2


def test_a_full_queue_is_told_at_once_and_when_to_come_back(store: GraphStore) -> None:
    gate = Gated()
    limits = ServerLimits(max_concurrent=1, max_waiting=0)
    with BackgroundServer({"films": Interposed(store, gate)}, limits=limits) as server, ThreadPoolExecutor(1) as pool:
        inside = pool.submit(ask, server.url)
        wait_for(lambda: gate.running == 1)
        refused = ask(server.url)
        assert (refused.status_code, code(refused)) == (429, "TOO_MANY_REQUESTS")
        assert refused.headers["retry-after"] == "1"
        large = httpx.post(f"{server.url}/v1/query", content=b" " * 3_000_000)
        assert large.status_code == 429  # told, not reset, although nobody reads the body
        assert httpx.get(f"{server.url}/healthz").status_code == 200  # a busy server is alive
        gate.opened.set()
        assert inside.result().status_code == 200
        assert ask(server.url).status_code == 200


def test_the_client_comes_back_to_a_full_server(store: GraphStore) -> None:
    slow = Interposed(store, lambda queries: time.sleep(0.05))
    limits = ServerLimits(max_concurrent=1, max_waiting=0)
    with (
        BackgroundServer({"films": slow}, limits=limits) as server,
        GraphClient(server.url, retries=30, backoff_s=0.01) as client,
        ThreadPoolExecutor(4) as pool,
    ):
        client.info()
        answers = list(pool.map(lambda _: client.execute([DIRECTORS])[0].names, range(4)))
    assert answers == [("Ridley Scott",)] * 4


def test_a_slow_backend_is_a_504_and_keeps_only_its_thread(store: GraphStore) -> None:
    gate = Gated()
    limits = ServerLimits(max_concurrent=2, request_timeout_s=0.2)
    graphs = {"slow": Interposed(store, gate), "films": store}
    with BackgroundServer(graphs, limits=limits) as server:
        body = {"graph": "slow", "queries": [DIRECTORS.model_dump()]}
        response = httpx.post(f"{server.url}/v1/query", json=body)
        assert (response.status_code, code(response)) == (504, "GRAPH_TOO_SLOW")
        assert "within 0.2 s" in response.json()["message"]
        assert httpx.post(f"{server.url}/v1/query", json={**body, "graph": "films"}).status_code == 200
        gate.opened.set()


def test_requests_behind_a_hanging_backend_are_told_so(store: GraphStore) -> None:
    gate = Gated()
    limits = ServerLimits(max_concurrent=1, request_timeout_s=0.2)
    with BackgroundServer({"films": Interposed(store, gate)}, limits=limits) as server:
        assert code(ask(server.url)) == "GRAPH_TOO_SLOW"
        behind = ask(server.url)
        assert (behind.status_code, code(behind)) == (503, "SERVER_BUSY")
        assert behind.headers["retry-after"] == "1"
        gate.opened.set()
        wait_for(lambda: gate.running == 0)
        assert ask(server.url).status_code == 200
    assert gate.most == 1  # what had timed out in the queue never ran


def test_a_timeout_inside_the_backend_is_not_ours(store: GraphStore, caplog: pytest.LogCaptureFixture) -> None:
    def fail(queries: object) -> None:
        raise TimeoutError("secret")

    caplog.set_level("CRITICAL", "kgr1")
    with BackgroundServer({"films": Interposed(store, fail)}) as server:
        (found,) = ask(server.url).json()["observations"]
    assert found["error"] == "KG_SERVER_ERROR"
