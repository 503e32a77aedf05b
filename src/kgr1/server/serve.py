"""Running the graph server: on the command line's behalf, or in the background of a program.

The address is bound before anything else starts, so a port in use is one clear error and port 0 (any free port) is
known at once.
"""

from __future__ import annotations

import errno
import gc
import os
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from types import TracebackType

import uvicorn
from starlette.types import ASGIApp

from kgr1.errors import GraphServerError
from kgr1.graph.api import KnowledgeGraph
from kgr1.graph.store import GraphStore
from kgr1.server.app import ServerOptions, create_app
from kgr1.server.logs import configure
from kgr1.server.metrics import forget_process, shared_folder
from kgr1.server.wire import ServerLimits
from kgr1.server.workers import run_workers

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8765
SHUTDOWN_S = 10
KEEP_ALIVE_S = 75
GC_THRESHOLDS = (10_000, 20, 100)
"""Allocations between collections, and how many of the younger ones come before an older one."""


def bind(host: str = DEFAULT_HOST, port: int = DEFAULT_PORT, *, option: str | None = None) -> socket.socket:
    """A listening socket; port 0 takes any free port.

    Raises :class:`GraphServerError` in one sentence if the address cannot be used. It names ``--host`` and ``--port``
    as what to change, or the one ``option`` of a command that takes both in it.
    """
    hosts, ports = option or "--host", option or "--port"
    if not 0 <= port <= 65535:
        raise GraphServerError(f"{port} is not a port; choose one from 0 to 65535 with {ports}.", port=port)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise GraphServerError(f"{host} is not an address of this machine; choose another with {hosts}.") from error
    # asyncio switches Nagle's algorithm off only for sockets that name their protocol; it costs 40 ms a reply.
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # elsewhere the option lets two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise GraphServerError(_why(error, host, port, hosts, ports), host=host, port=port) from error
    listener.setblocking(False)
    return listener


def _why(error: OSError, host: str, port: int, hosts: str, ports: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} on {host} is in use; choose another with {ports}."
    if error.errno == errno.EACCES:
        return f"Port {port} on {host} needs administrator rights; choose one above 1023 with {ports}."
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is not an address of this machine; choose another with {hosts}."
    return f"Cannot listen on {host} port {port}: {error.strerror}."


def address_of(listener: socket.socket) -> str:
    """The URL under which clients on this machine reach a bound socket."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(
    graphs: Mapping[str, Path],
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    *,
    options: ServerOptions | None = None,
    workers: int = 1,
    on_ready: Callable[[str], None] = lambda url: None,
) -> None:
    """Serve built graphs until SIGINT or SIGTERM; running requests are finished first.

    ``graphs`` maps names to graph folders. ``on_ready`` gets the URL as soon as requests are accepted. With several
    ``workers``, each is a process that opens the same memory-mapped files. Raises :class:`GraphServerError` if the
    address cannot be used and :class:`kgr1.errors.GraphError` if a graph cannot be opened, both before start-up.
    """
    options = options or ServerOptions()
    with closing(bind(host, port)) as listener:
        url = address_of(listener)
        if workers == 1:
            _run(graphs, options, listener, lambda: on_ready(url))
            return
        for path in graphs.values():  # a graph that cannot be opened is one error here instead of one a process
            GraphStore.open(path).close()
        with shared_folder() as folder:
            run_workers(
                partial(_run, graphs, options),
                listener,
                workers,
                lambda: on_ready(url),
                SHUTDOWN_S + 2,
                on_end=lambda pid: forget_process(pid, folder),
            )


def _run(
    graphs: Mapping[str, Path],
    options: ServerOptions,
    listener: socket.socket,
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    configure(options.logs)
    with ExitStack() as stack:
        opened = {name: stack.enter_context(closing(GraphStore.open(path))) for name, path in graphs.items()}
        stack.enter_context(suppress(KeyboardInterrupt))  # uvicorn raises it again after a clean end
        app = create_app(opened, options)
        _settle()
        _Server(app, on_ready, app.state.stopping.set).run(sockets=[listener])


def _settle() -> None:
    """Take what lives as long as this process out of the garbage collector's sight.

    A collection of everything stops all requests for up to a tenth of a second. Nearly all of what it would visit are
    modules and graphs, and what a request leaves behind has no cycles.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def serve_app(
    app: ASGIApp,
    host: str = DEFAULT_HOST,
    port: int = 0,
    on_ready: Callable[[str], None] = lambda url: None,
    *,
    option: str | None = None,
) -> None:
    """Serve any ASGI application in this process until SIGINT or SIGTERM, as :func:`serve` does graphs.

    ``option`` is what :func:`bind` names if the address cannot be used.
    """
    with closing(bind(host, port, option=option)) as listener, suppress(KeyboardInterrupt):
        _Server(app, lambda: on_ready(address_of(listener))).run(sockets=[listener])


class _Server(uvicorn.Server):
    """uvicorn with callbacks for the moments at which it accepts requests and begins to stop."""

    def __init__(self, app: ASGIApp, on_ready: Callable[[], None], on_stop: Callable[[], None] = lambda: None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                ws="none",
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=SHUTDOWN_S,
            )
        )
        self._on_ready = on_ready
        self._on_stop = on_stop

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_stop()
        await super().shutdown(sockets=sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._on_ready()


class BackgroundServer:
    """A graph server in a thread of this process, for programs and tests.

    ::

        with BackgroundServer({"films": store}) as server:
            client = GraphClient(server.url)

    The graphs stay open when it stops. Raises :class:`GraphServerError` if the address cannot be used.
    """

    def __init__(
        self,
        graphs: Mapping[str, KnowledgeGraph],
        host: str = DEFAULT_HOST,
        port: int = 0,
        limits: ServerLimits | None = None,
        options: ServerOptions | None = None,
    ) -> None:
        options = options or ServerOptions()
        if limits is not None:
            options = options._replace(limits=limits)
        self._listener = bind(host, port)
        self.url = address_of(self._listener)
        self.port: int = self._listener.getsockname()[1]
        ready = threading.Event()
        app = create_app(graphs, options)
        self._server = _Server(app, ready.set, app.state.stopping.set)
        self._thread = threading.Thread(target=self._server.run, args=([self._listener],), daemon=True)
        self._thread.start()
        if not ready.wait(SHUTDOWN_S):
            self.close()
            raise GraphServerError(f"The graph server on {self.url} did not start within {SHUTDOWN_S} s.")

    def close(self) -> None:
        """Finish running requests and stop; calling it twice is fine."""
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()

    def __enter__(self) -> BackgroundServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
