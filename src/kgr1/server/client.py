"""A remote graph: :class:`GraphClient` is a :class:`kgr1.graph.api.KnowledgeGraph` over HTTP.

Queries only read, so asking again is always safe: lost connections, time-outs and the statuses 502, 503 and 504 are
retried with exponential backoff and jitter. What the server sends is checked before it is believed.
"""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import ClassVar, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from kgr1.errors import GraphServerError
from kgr1.graph.api import GraphInfo
from kgr1.server import wire
from kgr1.server.wire import ErrorReply, GraphsResponse, QueryResponse, ServerLimits
from kgr1.types import ErrorCode, Observation, Query

RETRIED_STATUSES = frozenset({429, 502, 503, 504})
MAX_RESPONSE_BYTES = 256 * 2**20
KEEP_ALIVE_S = 30
"""Idle connections are dropped after this time, well before the server drops them."""
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

M = TypeVar("M", bound=BaseModel)


class GraphClient:
    """One graph of a graph server. Nothing is sent before the first call; threads may share a client.

    ``url`` is the server's address, e.g. ``http://127.0.0.1:8765``; ``graph`` may be left out if the server has only
    one. ``timeout_s`` bounds one attempt, answer included; a failed attempt is repeated up to ``retries`` times after
    about ``backoff_s``, then twice that, and so on. :meth:`execute` and :meth:`info` raise
    :class:`kgr1.errors.GraphServerError` if the server does not answer, is none, speaks another protocol or does not
    have the graph.
    """

    remote: ClassVar[bool] = True  # an answer takes long enough for a thread of its own

    def __init__(
        self,
        url: str,
        graph: str | None = None,
        *,
        timeout_s: float = 10.0,
        retries: int = 3,
        backoff_s: float = 0.2,
    ) -> None:
        self.url = url.rstrip("/")
        self.graph = graph
        self.timeout_s = timeout_s
        self.retries = retries
        self.backoff_s = backoff_s
        host = _host(self.url)
        self._http = httpx.Client(
            timeout=timeout_s,
            limits=httpx.Limits(max_connections=64, max_keepalive_connections=64, keepalive_expiry=KEEP_ALIVE_S),
            trust_env=host not in LOOPBACK,  # a proxy cannot reach this machine's loopback
        )
        self._offer: tuple[str, ServerLimits] | None = None
        self._lock = threading.Lock()
        self._closed = False

    def execute(self, queries: Sequence[Query]) -> list[Observation]:
        """Answer every query in order; large batches go in several requests."""
        if not queries:
            self._require_open()
            return []
        graph, limits = self._handshake()
        answers: list[Observation | None] = []
        sendable: list[Query] = []
        for query in queries:
            problem = wire.unsendable(query, limits)
            if problem:
                answers.append(wire.refuse(query, ErrorCode.FORMAT_ERROR, problem))
            else:
                answers.append(None)
                sendable.append(query)
        received: list[Observation] = []
        for batch, body in _split(sendable, graph, limits):
            received += self._query(batch, body)
        remaining = iter(received)
        return [next(remaining) if answer is None else answer for answer in answers]

    def info(self) -> GraphInfo:
        """Counts of the graph, fetched from the server now."""
        return self._choose(self._get_offer())

    def close(self) -> None:
        """Drop the connections; calling it twice is fine."""
        self._closed = True
        self._http.close()

    def __enter__(self) -> GraphClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (self.url, self.graph, self.timeout_s, self.retries, self.backoff_s))

    def _handshake(self) -> tuple[str, ServerLimits]:
        """The name of the graph and the server's limits; asked for once."""
        self._require_open()
        with self._lock:
            if self._offer is None:
                offer = self._get_offer()
                self._offer = (self._choose(offer).name, offer.limits)
            return self._offer

    def _get_offer(self) -> GraphsResponse:
        return self._parse(GraphsResponse, self._request("GET", wire.GRAPHS_PATH))

    def _choose(self, offer: GraphsResponse) -> GraphInfo:
        by_name = {info.name: info for info in offer.graphs}
        known = ", ".join(sorted(by_name)[:10]) or "none"
        if self.graph is None and len(by_name) == 1:
            return offer.graphs[0]
        if self.graph is None:
            raise GraphServerError(f"The server at {self.url} has several graphs or none; choose one of: {known}.")
        if self.graph in by_name:
            return by_name[self.graph]
        if self.graph in offer.unavailable:
            raise GraphServerError(f"The graph '{self.graph}' is not available on the server at {self.url} now.")
        raise GraphServerError(f"The server at {self.url} has no graph '{self.graph}'; its graphs are: {known}.")

    def _query(self, batch: Sequence[Query], body: bytes) -> list[Observation]:
        response = self._parse(QueryResponse, self._request("POST", wire.QUERY_PATH, body))
        if len(response.observations) != len(batch):
            raise self._nonsense(f"{len(response.observations)} observations for {len(batch)} queries")
        checked = []
        for query, observation in zip(batch, response.observations, strict=True):
            if not isinstance(observation, Observation) or not _answers(observation, query):
                raise self._nonsense("an observation for another query")
            if len(observation.ids) != len(observation.names) or observation.total < len(observation.names):
                raise self._nonsense("an observation whose names, ids and total do not fit")
            checked.append(observation)
        return checked

    def _parse(self, kind: type[M], content: bytes) -> M:
        try:
            reply = kind.model_validate_json(content)
        except ValidationError as error:
            version = _protocol_of(content)
            if version is not None and version != wire.PROTOCOL_VERSION:
                raise self._wrong_version(version) from error
            raise self._nonsense("something that is not the protocol") from error
        version = getattr(reply, "protocol", wire.PROTOCOL_VERSION)
        if version != wire.PROTOCOL_VERSION:
            raise self._wrong_version(version)
        return reply

    def _request(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """Send until there is a reply; returns the body of a 200."""
        attempt = 0
        while True:
            self._require_open()
            try:
                status, content = self._attempt(method, path, body)
                failure = f"status {status}"
                if status not in RETRIED_STATUSES:
                    return self._accept(status, content)
                failure = _sentence(content) or failure
            except httpx.TimeoutException:
                failure = f"no answer within {self.timeout_s:g} s"
            except (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError) as error:
                failure = str(error) or type(error).__name__
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise self._nonsense(f"something that is not HTTP ({type(error).__name__})") from error
            except RuntimeError:  # httpx raises it for a client that another thread has closed meanwhile
                self._require_open()
                raise
            if attempt == self.retries:
                tries = "1 attempt" if self.retries == 0 else f"{self.retries + 1} attempts"
                raise GraphServerError(
                    f"The graph server at {self.url} did not answer in {tries} ({failure.rstrip('.')}); "
                    "check that it runs and that the address is right.",
                    url=self.url,
                )
            time.sleep(self.backoff_s * 2**attempt * random.uniform(0.5, 1.5))  # jitter: clients come back apart
            attempt += 1

    def _attempt(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        deadline = time.monotonic() + self.timeout_s
        headers = {"content-type": "application/json"} if body is not None else {}
        with self._http.stream(method, self.url + path, content=body, headers=headers) as response:
            size, chunks = 0, []
            for chunk in response.iter_bytes():
                size += len(chunk)
                if size > MAX_RESPONSE_BYTES:
                    raise self._nonsense(f"more than {MAX_RESPONSE_BYTES} bytes")
                if time.monotonic() > deadline:  # httpx bounds each read, not their sum
                    raise httpx.ReadTimeout("the answer is too slow")
                chunks.append(chunk)
            return response.status_code, b"".join(chunks)

    def _accept(self, status: int, content: bytes) -> bytes:
        if status == 200:
            return content
        sentence = _sentence(content)
        if sentence:
            raise GraphServerError(f"The graph server at {self.url} refused the request: {sentence}", status=status)
        raise self._nonsense(f"status {status}")

    def _nonsense(self, what: str) -> GraphServerError:
        return GraphServerError(
            f"{self.url} answered with {what}; check that it is the address of a kgr1 graph server.", url=self.url
        )

    def _wrong_version(self, version: object) -> GraphServerError:
        return GraphServerError(
            f"The graph server at {self.url} speaks protocol {version!s:.20}, this client {wire.PROTOCOL_VERSION}; "
            "install the same kgr1 version on both sides.",
            url=self.url,
        )

    def _require_open(self) -> None:
        if self._closed:
            raise GraphServerError(f"The client of {self.url} is closed; make a new one.", url=self.url)


def _rebuild(url: str, graph: str | None, timeout_s: float, retries: int, backoff_s: float) -> GraphClient:
    return GraphClient(url, graph, timeout_s=timeout_s, retries=retries, backoff_s=backoff_s)


def _host(url: str) -> str:
    """The host of a server address; refuses what is none."""
    try:
        parts = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        parts = httpx.URL()
    if parts.scheme not in ("http", "https") or not parts.host or re.search(r"[\s%?#]", url):
        raise GraphServerError(f"{url[:200]!r} is not a server address; give one such as http://127.0.0.1:8765.")
    return parts.host


def _split(queries: Sequence[Query], graph: str, limits: ServerLimits) -> Iterator[tuple[list[Query], bytes]]:
    """Batches within the limits, each with its request body."""
    start = f'{{"protocol":{wire.PROTOCOL_VERSION},"graph":{json.dumps(graph)},"queries":['.encode()
    batch: list[Query] = []
    parts: list[bytes] = []
    size = len(start) + 2
    for query in queries:
        part = query.model_dump_json().encode()
        if batch and (len(batch) == limits.max_batch or size + len(part) + 1 > limits.max_body_bytes):
            yield batch, start + b",".join(parts) + b"]}"
            batch, parts, size = [], [], len(start) + 2
        batch.append(query)
        parts.append(part)
        size += len(part) + 1
    if batch:
        yield batch, start + b",".join(parts) + b"]}"


def _answers(observation: Observation, query: Query) -> bool:
    """Whether the observation can be the answer: a result may write the names of the query as the graph does."""
    answered = observation.query
    if observation.error is not None:
        return answered == query
    if (answered.relation is None) != (query.relation is None):
        return False
    return answered == query.model_copy(update={"entity": answered.entity, "relation": answered.relation})


def _sentence(content: bytes) -> str:
    """The sentence of an error reply, empty if it is none."""
    try:
        return ErrorReply.model_validate_json(content).message
    except ValidationError:
        return ""


def _protocol_of(content: bytes) -> object:
    """The protocol number that a reply claims, None if it claims none."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return value.get("protocol") if isinstance(value, dict) else None
