"""Starting and stopping: addresses, signals, worker processes."""

from __future__ import annotations

import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from faults import Interposed

from kgr1.errors import GraphError, GraphServerError
from kgr1.graph.store import GraphStore
from kgr1.server.client import GraphClient
from kgr1.server.serve import BackgroundServer, address_of, bind, serve
from kgr1.server.workers import run_workers
from kgr1.types import Operation, Query

QUERY = Query(operation=Operation.GET_TAIL_ENTITIES, entity="Alien", relation="directed_by")

PROGRAM = """
import sys
from pathlib import Path
from kgr1.server.serve import serve

def ready(url):
    print(url, flush=True)

if __name__ == "__main__":
    serve({"films": Path(sys.argv[1])}, port=int(sys.argv[2]), workers=int(sys.argv[3]), on_ready=ready)
"""

Start = Callable[..., tuple["subprocess.Popen[str]", str]]


@pytest.fixture(scope="session")
def graph_path(store: GraphStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graphs") / "films"
    store.save(path)
    return path


@pytest.fixture
def start(graph_path: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts server processes and ends those that are left."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    started: list[subprocess.Popen[str]] = []

    def run(port: int = 0, workers: int = 1) -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, str(program), str(graph_path), str(port), str(workers)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        return process, process.stdout.readline().strip()

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_port_in_use_is_one_sentence() -> None:
    with bind(port=0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(GraphServerError) as caught:
            bind(port=port)
        assert str(caught.value) == f"Port {port} on 127.0.0.1 is in use; choose another with --port."


def test_port_in_use_stops_serve_before_the_graph_is_opened(tmp_path: Path) -> None:
    with bind(port=0) as taken, pytest.raises(GraphServerError, match="is in use"):
        serve({"missing": tmp_path / "missing"}, port=taken.getsockname()[1])


def test_a_missing_graph_stops_serve_and_frees_the_port(tmp_path: Path) -> None:
    with bind(port=0) as free:
        port = free.getsockname()[1]
    with pytest.raises(GraphError):
        serve({"missing": tmp_path / "missing"}, port=port)
    bind(port=port).close()


@pytest.mark.parametrize(
    ("host", "port", "hint"),
    [
        ("127.0.0.1", -1, "not a port"),
        ("127.0.0.1", 65536, "not a port"),
        ("no-such-host.invalid", 0, "choose another with --host"),
        ("192.0.2.1", 0, "choose another with --host"),
        ("a" * 300, 0, "choose another with --host"),
    ],
)
def test_bad_addresses(host: str, port: int, hint: str) -> None:
    with pytest.raises(GraphServerError, match=hint) as caught:
        bind(host, port)
    assert str(caught.value).endswith(".")


def test_replies_are_not_delayed_by_the_network_stack() -> None:
    with bind(port=0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_ipv6_addresses_are_written_as_urls(store: GraphStore) -> None:
    try:
        listener = bind("::1", 0)
    except GraphServerError:
        pytest.skip("needs IPv6 on loopback")
    assert address_of(listener) == f"http://[::1]:{listener.getsockname()[1]}"
    listener.close()
    with BackgroundServer({"films": store}, host="::1") as server, GraphClient(server.url) as client:
        assert client.execute([QUERY])[0].ok


def test_a_wildcard_address_is_reached_over_loopback(store: GraphStore) -> None:
    with BackgroundServer({"films": store}, host="0.0.0.0") as server, GraphClient(server.url) as client:
        assert server.url == f"http://127.0.0.1:{server.port}"
        assert client.execute([QUERY])[0].ok


def test_close_waits_for_running_requests(store: GraphStore) -> None:
    entered = threading.Event()

    def slow(queries: object) -> None:
        entered.set()
        time.sleep(0.4)

    replies: list[httpx.Response] = []
    with BackgroundServer({"films": Interposed(store, slow)}) as server:
        body = {"queries": [QUERY.model_dump()]}
        asking = threading.Thread(target=lambda: replies.append(httpx.post(f"{server.url}/v1/query", json=body)))
        asking.start()
        assert entered.wait(5)
    asking.join()
    assert replies[0].json()["observations"][0]["names"] == ["Ridley Scott"]
    server.close()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/healthz")


def test_a_process_stops_cleanly_on_an_interrupt(start: Start) -> None:
    process, url = start()
    with GraphClient(url) as client:
        assert client.execute([QUERY])[0].names == ("Ridley Scott",)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=10)
    assert process.returncode == 0
    assert (output, errors) == ("", "")


def test_a_killed_process_is_waited_for(start: Start) -> None:
    process, url = start()
    port = int(url.rpartition(":")[2])
    with GraphClient(url, retries=8, backoff_s=0.1) as client:
        assert client.execute([QUERY])[0].ok
        process.kill()
        process.wait()
        again = threading.Thread(target=start, args=(port,))
        again.start()
        assert client.execute([QUERY])[0].names == ("Ridley Scott",)
        again.join()


def test_several_worker_processes(start: Start) -> None:
    process, url = start(workers=2)
    with GraphClient(url) as client:
        assert client.execute([QUERY])[0].names == ("Ridley Scott",)
        seconds = []
        for _ in range(20):
            started = time.perf_counter()
            assert client.execute([QUERY])[0].ok
            seconds.append(time.perf_counter() - started)
        assert statistics.median(seconds) < 0.03  # with Nagle's algorithm it is never below 0.04
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=15)
    assert process.returncode == 0
    assert (output, errors) == ("", "")
    bind(port=int(url.rpartition(":")[2])).close()


def test_workers_end_with_their_parent(start: Start) -> None:
    process, url = start(workers=2)
    port = int(url.rpartition(":")[2])
    with GraphClient(url) as client:
        assert client.execute([QUERY])[0].ok
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while True:
        try:
            bind(port=port).close()
            return
        except GraphServerError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def _fail(listener: socket.socket) -> None:
    raise SystemExit(3)


def test_workers_that_cannot_start_are_one_error() -> None:
    with bind(port=0) as listener, pytest.raises(GraphServerError, match="ended with status 3"):
        run_workers(_fail, listener, 1, lambda: None, 1.0)
