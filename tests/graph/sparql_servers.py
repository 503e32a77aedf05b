"""Real SPARQL endpoints on loopback: pyoxigraph behind a small HTTP server, and Virtuoso as a process of its own."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple
from urllib.parse import parse_qs

import httpx
import pyoxigraph

VIRTUOSO = shutil.which("virtuoso-t") or shutil.which("virtuoso-opensource-t")
ISQL = shutil.which("isql-vt") or shutil.which("isql-v")
START_S = 300

_INI = """
[Database]
DatabaseFile = {folder}/v.db
ErrorLogFile = {folder}/v.log
LockFile = {folder}/v.lck
TransactionFile = {folder}/v.trx
xa_persistent_file = {folder}/v.pxa
ErrorLogLevel = 7
FileExtend = 200
Striping = 0
TempStorage = TempDatabase
[TempDatabase]
DatabaseFile = {folder}/v-temp.db
TransactionFile = {folder}/v-temp.trx
Striping = 0
[Parameters]
ServerPort = 127.0.0.1:{sql_port}
DisableUnixSocket = 1
ServerThreads = 20
CheckpointInterval = 0
CaseMode = 2
NumberOfBuffers = {buffers}
MaxDirtyBuffers = {dirty}
DirsAllowed = {folder}
[HTTPServer]
ServerPort = 127.0.0.1:{http_port}
ServerThreads = 10
ServerRoot = {folder}
[SPARQL]
ResultSetMaxRows = {max_rows}
MaxQueryExecutionTime = 120
"""


class Reply(NamedTuple):
    """What an endpoint says instead of an answer. ``missing`` bytes are announced and not sent."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = MappingProxyType({"content-type": "application/sparql-results+json"})
    delay_s: float = 0.0
    missing: int = 0


class OxigraphEndpoint:
    """A pyoxigraph store behind HTTP, with the parts of the SPARQL protocol that a client of queries needs.

    ``max_rows`` cuts every result without saying so, as public endpoints do; ``instead`` may answer a query otherwise.
    """

    def __init__(self, max_rows: int | None = None) -> None:
        self.store = pyoxigraph.Store()
        self.max_rows = max_rows
        self.queries: list[str] = []
        self.instead: Callable[[str], Reply | None] = lambda query: None
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 1 << 16  # header and body in one packet, or the client waits for an acknowledgement

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                (query,) = parse_qs(body, strict_parsing=True, max_num_fields=2)["query"]
                endpoint.queries.append(query)
                self.reply(endpoint.instead(query) or endpoint.reply(query))

            def reply(self, reply: Reply) -> None:
                time.sleep(reply.delay_s)
                with contextlib.suppress(OSError):  # the client may have gone
                    self.send_response(reply.status)
                    for name, value in reply.headers.items():
                        self.send_header(name, value)
                    self.send_header("content-length", str(len(reply.body) + reply.missing))
                    self.end_headers()
                    self.wfile.write(reply.body)
                    self.close_connection = self.close_connection or reply.missing > 0

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/sparql"

    def load(self, lines: Iterable[str], graph: str) -> None:
        """Add N-Triples to a named graph."""
        self.store.load("".join(lines).encode(), pyoxigraph.RdfFormat.N_TRIPLES, to_graph=pyoxigraph.NamedNode(graph))

    def reply(self, query: str) -> Reply:
        """The answer, or status 400 for what is not SPARQL."""
        try:
            return Reply(body=self.answer(query))
        except (SyntaxError, ValueError, OSError) as error:
            return Reply(400, str(error).encode("utf-8", "replace"), {"content-type": "text/plain"})

    def answer(self, query: str) -> bytes:
        """SPARQL results as JSON."""
        results = self.store.query(query)
        assert not isinstance(results, pyoxigraph.QueryTriples)
        content = results.serialize(format=pyoxigraph.QueryResultsFormat.JSON)
        assert content is not None
        if self.max_rows is not None:
            reply: dict[str, Any] = json.loads(content)
            if "results" in reply:
                del reply["results"]["bindings"][self.max_rows :]
            content = json.dumps(reply).encode()
        return content

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class VirtuosoServer:
    """A Virtuoso of its own: a database in a temporary folder, removed by :meth:`close`.

    ``buffers`` are the pages of 8 KiB that it keeps in memory.
    """

    loaded: ClassVar[int] = 0

    def __init__(self, max_rows: int = 10_000, *, buffers: int = 20_000, parent: Path | None = None) -> None:
        assert VIRTUOSO is not None
        self.folder = Path(tempfile.mkdtemp(prefix="kgr1-virtuoso-", dir=parent))
        self.sql_port, http_port = _free_ports(2)
        self.url = f"http://127.0.0.1:{http_port}/sparql"
        ini = self.folder / "virtuoso.ini"
        places = {"folder": self.folder, "sql_port": self.sql_port, "http_port": http_port}
        sizes = {"max_rows": max_rows, "buffers": buffers, "dirty": buffers * 3 // 4}
        ini.write_text(_INI.format(**places, **sizes), "utf-8")
        with (self.folder / "out.txt").open("wb") as log:
            self._process = subprocess.Popen(
                [VIRTUOSO, "-f", "+configfile", str(ini)],
                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    def _wait(self) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"virtuoso ended: {(self.folder / 'v.log').read_text('utf-8', 'replace')[-500:]}")
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(self.url, params={"query": "ASK {}"}, timeout=10, trust_env=False).status_code == 200:
                    return
            time.sleep(0.2)
        raise RuntimeError(f"virtuoso did not start within {START_S} s")

    def load(self, lines: Iterable[str], graph: str) -> None:
        """Add lines of N-Triples to a named graph, with the loader of SQL."""
        VirtuosoServer.loaded += 1
        path = self.folder / f"load-{VirtuosoServer.loaded}.nt"
        with path.open("w", encoding="utf-8") as file:
            file.writelines(line.removesuffix(".\n") + f"<{graph}> .\n" for line in lines)
        # As quads (512): the name of a graph that is an argument would have its percent signs decoded.
        self._execute(f"DB.DBA.TTLP(file_open('{path}'), '', 'urn:unused', 512);", timeout_s=600)
        path.unlink()

    def load_in_bulk(self, name: str, graph: str, timeout_s: float) -> int:
        """Add a file of N-Triples in the server's folder with the bulk loader and a checkpoint; the triples loaded."""
        self._execute(f"ld_add('{self.folder / name}', '{graph}');", timeout_s=60)
        self._execute("rdf_loader_run(log_enable=>2); checkpoint;", timeout_s=timeout_s)
        count = self._execute(f"SPARQL SELECT (COUNT(*) AS ?n) FROM <{graph}> WHERE {{ ?s ?p ?o }};", timeout_s=600)
        return int(re.findall(r"^\s*(\d+)\s*$", count, re.MULTILINE)[0])

    def _execute(self, command: str, timeout_s: float) -> str:
        assert ISQL is not None
        done = subprocess.run(
            [ISQL, f"127.0.0.1:{self.sql_port}", "dba", "dba", "VERBOSE=OFF", "BANNER=OFF", "PROMPT=OFF",
             "ERRORS=STDOUT", f"exec={command}"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip
        if done.returncode or "Error" in done.stdout:
            raise RuntimeError(f"virtuoso did not load: {done.stdout[-500:]}{done.stderr[-500:]}")
        return done.stdout

    def peak_memory(self) -> int:
        """The most bytes that the process has held so far."""
        status = Path(f"/proc/{self._process.pid}/status").read_text("ascii")
        return int(re.findall(r"VmHWM:\s*(\d+) kB", status)[0]) * 1024

    def close(self) -> None:
        """Stop the process and remove its files."""
        self._process.terminate()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def oxigraph(max_rows: int | None = None) -> Iterator[OxigraphEndpoint]:
    """A running :class:`OxigraphEndpoint`."""
    server = OxigraphEndpoint(max_rows)
    try:
        yield server
    finally:
        server.close()


@contextlib.contextmanager
def virtuoso(max_rows: int = 10_000, *, buffers: int = 20_000, parent: Path | None = None) -> Iterator[VirtuosoServer]:
    """A running :class:`VirtuosoServer`; ``parent`` is the folder for its files, by default that of temporary files."""
    server = VirtuosoServer(max_rows, buffers=buffers, parent=parent)
    try:
        yield server
    finally:
        server.close()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
