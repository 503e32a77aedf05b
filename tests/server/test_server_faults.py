"""What must not go wrong when something goes wrong: killed workers, stops under load, hubs, hostile bodies."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from kgr1.graph.store import GraphStore
from kgr1.server.app import create_app
from kgr1.server.client import GraphClient
from kgr1.server.serve import BackgroundServer
from kgr1.server.wire import ServerLimits
from kgr1.types import Operation, Query

PROGRAM = """
import sys
from pathlib import Path
from kgr1.server.serve import serve

if __name__ == "__main__":
    serve({"pairs": Path(sys.argv[1])}, port=0, workers=2, on_ready=lambda url: print(url, flush=True))
"""
PAIRS = [(f"key {i}", "to", f"value {i}") for i in range(50)]


@pytest.fixture
def two_workers(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with GraphStore.from_triples(PAIRS) as store:
        store.save(tmp_path / "pairs")
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, str(tmp_path / "program.py"), str(tmp_path / "pairs")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield process, process.stdout.readline().strip()
    if process.poll() is None:
        process.kill()
    process.communicate()


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        pytest.skip("needs Linux to find the worker processes")
    found = map(int, children.read_text().split())
    return [pid for pid in found if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def query(number: int) -> Query:
    return Query(operation=Operation.GET_TAIL_ENTITIES, entity=f"key {number}", relation="to")


def ask_all(url: str, stop: threading.Event, wrong: list[object], asked: list[int]) -> None:
    """Batches and streams by turns until told to stop; every answer is checked."""
    with GraphClient(url, retries=60, backoff_s=0.05, timeout_s=30) as client:
        while not stop.is_set():
            queries = [query(number) for number in range(50)]
            for found in (client.execute(queries), list(client.stream(queries, window=20))):
                wrong += [o for n, o in enumerate(found) if o.names != (f"value {n}",)]
                asked.append(len(found))


def test_killed_workers_cost_no_answer_and_come_back(two_workers: tuple[subprocess.Popen[str], str]) -> None:
    process, url = two_workers
    stop, wrong, asked = threading.Event(), list[object](), list[int]()
    askers = [threading.Thread(target=ask_all, args=(url, stop, wrong, asked)) for _ in range(3)]
    for asker in askers:
        asker.start()
    deadline = time.monotonic() + 120
    for _ in range(2):
        before = len(asked)
        while len(asked) < before + 4:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        victim = workers_of(process)[0]
        os.kill(victim, signal.SIGKILL)
        while victim in (alive := workers_of(process)) or len(alive) < 2:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
    stop.set()
    for asker in askers:
        asker.join()
    assert wrong == []
    assert set(asked) == {50}
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_a_stop_under_load_finishes_what_runs() -> None:
    with GraphStore.from_triples(PAIRS) as store:
        server = BackgroundServer({"pairs": store})
        statuses: list[int] = []
        broken: list[Exception] = []
        body = {"queries": [query(number).model_dump() for number in range(50)]}

        def ask() -> None:
            with httpx.Client(timeout=30) as client:
                while True:
                    try:
                        reply = client.post(f"{server.url}/v1/query", json=body)
                        if reply.status_code == 503 and reply.json()["code"] == "SHUTTING_DOWN":
                            return  # it came in the moment in which the server stopped
                        statuses.append(reply.status_code)
                    except httpx.ConnectError:
                        return  # refused: nobody listens any more
                    except httpx.HTTPError as error:
                        broken.append(error)
                        return

        askers = [threading.Thread(target=ask) for _ in range(4)]
        for asker in askers:
            asker.start()
        while len(statuses) < 8:
            time.sleep(0.01)
        server.close()
        for asker in askers:
            asker.join()
    assert set(statuses) == {200}
    # An idle connection may be closed in the moment in which its client writes; a half answer never arrives.
    assert all(isinstance(error, httpx.RemoteProtocolError | httpx.ReadError | httpx.WriteError) for error in broken)
    assert all("incomplete" not in str(error) for error in broken)


def test_a_request_behind_the_stop_is_told_to_come_again() -> None:
    async def ask() -> httpx.Response:
        with GraphStore.from_triples(PAIRS) as store:
            app = create_app({"pairs": store})
            async with app.router.lifespan_context(app):
                pass
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://graphs") as client:
                return await client.post("/v1/query", json={"queries": [query(1).model_dump()]})

    reply = asyncio.run(ask())
    assert (reply.status_code, reply.json()["code"]) == (503, "SHUTTING_DOWN")
    assert int(reply.headers["Retry-After"]) >= 1


@pytest.fixture(scope="module")
def hub() -> Iterator[GraphStore]:
    with GraphStore.from_triples([("hub", "to", f"leaf {i:06}") for i in range(100_000)]) as store:
        yield store


def test_a_hub_is_cut_in_every_answer(hub: GraphStore) -> None:
    wide = Query(operation=Operation.GET_TAIL_ENTITIES, entity="hub", relation="to")
    with BackgroundServer({"hub": hub}) as server, GraphClient(server.url, timeout_s=120) as client:
        (batch,) = client.execute([wide])
        (streamed,) = client.stream([wide])
        reply = httpx.post(
            f"{server.url}/retrieve",
            json=[{"action_type": "get_tail_entities", "dataset_name": "hub", "entity_id": "hub", "relation": "to"}],
            timeout=120,
        )
    assert batch == streamed
    assert (len(batch.names), batch.total) == (10_000, 100_000)
    assert batch.names[0] == "leaf 000000"
    text = reply.json()[0]["choices"][0]["message"]["content"]
    assert text.endswith("leaf 000999 ... and 99000 more")


def test_bodies_that_trickle_are_given_up_while_others_are_served(hub: GraphStore) -> None:
    limits = ServerLimits(body_timeout_s=1.0, max_concurrent=2)
    head = b"POST /v1/query HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n"
    with BackgroundServer({"hub": hub}, limits=limits) as server:
        trickling = [socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in range(20)]
        for connection in trickling:
            connection.sendall(head + b"{")
        response = httpx.post(f"{server.url}/v1/query", json={"queries": []}, timeout=30)
        assert response.status_code == 200
        for connection in trickling:
            assert b" 408 " in connection.recv(4096)
            connection.close()


@pytest.mark.parametrize("path", ["/v1/query", "/v1/stream", "/retrieve"])
@pytest.mark.parametrize(
    "body",
    [
        b"\x00" * 100,
        b'{"queries":' + b"[" * 200_000,
        b'[{"a":' * 100_000,
        b'{"queries": [' + b'"' * 1001 + b"]}",
        b"[" + b"1," * 300_000 + b"1]",
        b'{"queries": [' + b"1," * 300_000 + b"1]}",
        b'{"queries": [{"operation": "get_tail_relations", "entity": 1e999999999}]}',
        b"9" * 1_000_000,
    ],
    ids=["zeros", "deep lists", "deep objects", "quotes", "many items", "many queries", "huge exponent", "huge number"],
)
def test_hostile_bodies_are_answered_and_survived(hub: GraphStore, path: str, body: bytes) -> None:
    with BackgroundServer({"hub": hub}) as server:
        response = httpx.post(f"{server.url}{path}", content=body, timeout=120)
        assert response.status_code in (200, 400, 413, 422), response.text[:200]
        assert "Traceback" not in response.text
        assert httpx.get(f"{server.url}/healthz", timeout=30).status_code == 200
