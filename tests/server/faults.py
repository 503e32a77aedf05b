"""Graphs and servers that go wrong on purpose."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from types import TracebackType

from kgr1.graph.api import GraphInfo, KnowledgeGraph
from kgr1.server.serve import BackgroundServer
from kgr1.types import Observation, Query


class Interposed:
    """A graph that runs a function before (or instead of) each batch of a real one."""

    def __init__(self, graph: KnowledgeGraph, before: Callable[[Sequence[Query]], list[Observation] | None]) -> None:
        self.graph = graph
        self.before = before
        self.batches: list[int] = []
        self.failing_info: Exception | None = None

    def execute(self, queries: Sequence[Query]) -> list[Observation]:
        self.batches.append(len(queries))
        instead = self.before(queries)
        return self.graph.execute(queries) if instead is None else instead

    def info(self) -> GraphInfo:
        if self.failing_info is not None:
            raise self.failing_info
        return self.graph.info()

    def close(self) -> None:
        self.graph.close()


class RawServer:
    """A TCP server that answers the n-th connection with the n-th script entry (the last one again and again).

    An entry is the bytes to send before closing, None to close at once, or a float: seconds of silence.
    """

    def __init__(self, script: Sequence[bytes | float | None]) -> None:
        self.script = script
        self.connections = 0
        self._stop = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            with connection:
                entry = self.script[min(self.connections, len(self.script) - 1)]
                self.connections += 1
                self._play(connection, entry)

    def _play(self, connection: socket.socket, entry: bytes | float | None) -> None:
        if entry is None:
            return
        connection.settimeout(2)
        connection.recv(65536)
        if isinstance(entry, bytes):
            connection.sendall(entry)
        else:
            self._stop.wait(entry)

    def __enter__(self) -> RawServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._listener.close()


def kill(server: BackgroundServer) -> None:
    """Stop listening and cut all connections at once, in the middle of whatever they carry."""
    inner, done = server._server, threading.Event()

    def cut() -> None:
        for listener in inner.servers:
            listener.close()
        for connection in list(inner.server_state.connections):
            connection.transport.abort()
        done.set()

    inner.force_exit = inner.should_exit = True
    inner.servers[0].get_loop().call_soon_threadsafe(cut)
    assert done.wait(5)


def http(body: bytes, status: str = "200 OK", kind: str = "application/json") -> bytes:
    """A complete HTTP reply."""
    head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    return head.encode() + body
