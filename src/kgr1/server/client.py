"""A remote graph: :class:`GraphClient` is a :class:`kgr1.graph.api.KnowledgeGraph` over HTTP.

How requests are sent and repeated stands in :mod:`kgr1.server.transport`. What the server sends is checked before it is
believed.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from types import TracebackType
from typing import ClassVar, TypeVar

from pydantic import BaseModel, ValidationError

from kgr1.errors import GraphServerError
from kgr1.graph.api import GraphInfo
from kgr1.server import wire
from kgr1.server.tokens import Secret
from kgr1.server.transport import AttemptError, Transport, error_of
from kgr1.server.wire import GraphsResponse, QueryResponse, ServerLimits
from kgr1.types import ErrorCode, Observation, Query

M = TypeVar("M", bound=BaseModel)


class GraphClient:
    """One graph of a graph server. Nothing is sent before the first call; threads may share a client.

    ``url`` is the server's address, e.g. ``http://127.0.0.1:8765``; ``graph`` may be left out if the server has only
    one. ``token`` is for servers that ask for one; left out, the environment variable ``KGR1_TOKEN`` is read, and an
    empty text sends none. ``timeout_s`` bounds one attempt, answer included; a failed attempt is repeated up to
    ``retries`` times after about ``backoff_s``, then twice that, and so on. Its methods raise
    :class:`kgr1.errors.GraphServerError` if the server does not answer, is none, speaks another protocol or does not
    have the graph.
    """

    remote: ClassVar[bool] = True  # an answer takes long enough for a thread of its own

    def __init__(
        self,
        url: str,
        graph: str | None = None,
        *,
        token: str | Secret | None = None,
        timeout_s: float = 10.0,
        retries: int = 3,
        backoff_s: float = 0.2,
    ) -> None:
        self.graph = graph
        secret = Secret.choose(token)
        self._transport = Transport(url, secret, timeout_s=timeout_s, retries=retries, backoff_s=backoff_s)
        self._offer: tuple[str, ServerLimits] | None = None
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """The server's address."""
        return self._transport.url

    @property
    def timeout_s(self) -> float:
        """Seconds that one attempt may take."""
        return self._transport.timeout_s

    @property
    def retries(self) -> int:
        """How often a failed attempt is repeated."""
        return self._transport.retries

    def execute(self, queries: Sequence[Query]) -> list[Observation]:
        """Answer every query in order; large batches go in several requests.

        A query that the server would not take is answered here, with an error.
        """
        if not queries:
            self._transport.require_open()
            return []
        graph, limits = self._handshake()
        start = _request_start(graph)
        most = limits.max_body_bytes - len(start) - len(_REQUEST_END)
        parts = [_write(query, limits, most, "max_body_bytes") for query in queries]
        sendable = [(query, part) for query, part in zip(queries, parts, strict=True) if isinstance(part, bytes)]
        received: list[Observation] = []
        for batch in _split(sendable, limits.max_batch, most):
            body = start + b",".join([part for _, part in batch]) + _REQUEST_END
            received += self._query([query for query, _ in batch], body)
        remaining = iter(received)
        return [next(remaining) if isinstance(part, bytes) else part for part in parts]

    def stream(self, queries: Iterable[Query], window: int | None = None) -> Iterator[Observation]:
        """Answer any number of queries in order, in bounded memory: each observation as soon as it is there.

        Queries are taken from the iterable ``window`` at a time (by default as many as the server takes in one batch)
        and sent together; the next ones are taken when all observations of these were consumed. A caller who makes
        queries from earlier observations sets ``window`` to 1. After a broken connection only the queries without an
        observation are sent again. A query that the server would not take as a line is answered here, with an error.
        """
        self._transport.require_open()
        if window is not None and window < 1:
            raise ValueError("window is at least 1")
        remaining = iter(queries)
        while True:
            size = window or self._handshake()[1].max_batch
            batch = list(islice(remaining, size))
            if not batch:
                return
            yield from self._stream(batch)

    def search(self, text: str, count: int = 10) -> list[tuple[str, str]]:
        """Up to ``count`` entities with a name like the text, as (name, identifier).

        At most 100 at once; nothing is found for a text of more than 2,000 characters.
        """
        graph, _ = self._handshake()
        if len(text) > wire.MAX_SEARCH_CHARS or wire.has_half_pair(text) or count < 1:
            return []
        params = {"graph": graph, "text": text, "count": str(min(count, wire.MAX_MATCHES))}
        reply = self._parse(wire.SearchResponse, self._transport.request("GET", wire.SEARCH_PATH, params=params))
        return [(match.name, match.id) for match in reply.matches]

    def info(self) -> GraphInfo:
        """Counts of the graph, fetched from the server now."""
        return self._choose(self._get_offer())

    def close(self) -> None:
        """Drop the connections; calling it twice is fine."""
        self._transport.close()

    def __enter__(self) -> GraphClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[object, ...]:
        sent = self._transport
        return (_rebuild, (sent.url, self.graph, sent.secret or "", sent.timeout_s, sent.retries, sent.backoff_s))

    def __repr__(self) -> str:
        return f"<GraphClient {self.url!r}, graph {self.graph!r}>"

    def _handshake(self) -> tuple[str, ServerLimits]:
        """The name of the graph and the server's limits; asked for once."""
        self._transport.require_open()
        with self._lock:
            if self._offer is None:
                offer = self._get_offer()
                self._offer = (self._choose(offer).name, offer.limits)
            return self._offer

    def _get_offer(self) -> GraphsResponse:
        return self._parse(GraphsResponse, self._transport.request("GET", wire.GRAPHS_PATH))

    def _choose(self, offer: GraphsResponse) -> GraphInfo:
        by_name = {info.name: info for info in offer.graphs}
        names = sorted(by_name)
        known = ", ".join(names[:10]) or "none"
        if self.graph is None and len(by_name) == 1:
            return offer.graphs[0]
        if not names and self.graph is None:
            raise GraphServerError(f"The server at {self.url} has no graph now.")
        if self.graph is None:
            raise GraphServerError(
                f"The server at {self.url} has several graphs: {known}; name one behind the address, as in "
                f"{self.url}#{names[0]}."
            )
        if self.graph in by_name:
            return by_name[self.graph]
        if self.graph in offer.unavailable:
            raise GraphServerError(f"The graph '{self.graph}' is not available on the server at {self.url} now.")
        raise GraphServerError(f"The server at {self.url} has no graph '{self.graph}'; its graphs are: {known}.")

    def _query(self, batch: Sequence[Query], body: bytes) -> list[Observation]:
        response = self._parse(QueryResponse, self._transport.request("POST", wire.QUERY_PATH, body))
        if len(response.observations) != len(batch):
            raise self._transport.nonsense(f"{len(response.observations)} observations for {len(batch)} queries")
        return [self._check(query, found) for query, found in zip(batch, response.observations, strict=True)]

    def _stream(self, batch: Sequence[Query]) -> Iterator[Observation]:
        graph, limits = self._handshake()
        most = limits.max_line_bytes
        waiting = deque((query, _write(query, limits, most, "max_line_bytes")) for query in batch)
        attempt = 0
        yield from _known(waiting)
        while waiting:
            body = b"".join([part + b"\n" for _, part in waiting if isinstance(part, bytes)])
            try:
                with closing(self._transport.lines(wire.STREAM_PATH, body, {"graph": graph})) as lines:
                    for line in lines:
                        observation = self._read_line(waiting[0][0] if waiting else None, line)
                        waiting.popleft()
                        attempt = 0
                        yield observation
                        yield from _known(waiting)
                if waiting:
                    raise AttemptError("the stream ended early")
            except AttemptError as failed:
                self._transport.pause(failed, attempt)
                attempt += 1

    def _read_line(self, query: Query | None, line: bytes) -> Observation:
        try:
            found = Observation.model_validate_json(line)
        except ValidationError as error:
            ended = error_of(line)
            if ended is not None:
                raise AttemptError(ended.message) from error
            raise self._transport.nonsense("something that is not the protocol") from error
        if query is None:
            raise self._transport.nonsense("more observations than queries")
        return self._check(query, found)

    def _check(self, query: Query, found: object) -> Observation:
        """The observation, if it can be the answer to the query."""
        if not isinstance(found, Observation) or not _answers(found, query):
            raise self._transport.nonsense("an observation for another query")
        if len(found.ids) != len(found.names) or found.total < len(found.names):
            raise self._transport.nonsense("an observation whose names, ids and total do not fit")
        return found

    def _parse(self, kind: type[M], content: bytes) -> M:
        try:
            reply = kind.model_validate_json(content)
        except ValidationError as error:
            version = _protocol_of(content)
            if version is not None and version != wire.PROTOCOL_VERSION:
                raise self._transport.wrong_version(version) from error
            raise self._transport.nonsense("something that is not the protocol") from error
        version = getattr(reply, "protocol", wire.PROTOCOL_VERSION)
        if version != wire.PROTOCOL_VERSION:
            raise self._transport.wrong_version(version)
        return reply


def _rebuild(
    url: str, graph: str | None, token: str | Secret, timeout_s: float, retries: int, backoff_s: float
) -> GraphClient:
    return GraphClient(url, graph, token=token, timeout_s=timeout_s, retries=retries, backoff_s=backoff_s)


_REQUEST_END = b"]}"


def _request_start(graph: str) -> bytes:
    """The body of a request up to its first query."""
    return f'{{"protocol":{wire.PROTOCOL_VERSION},"graph":{json.dumps(graph)},"queries":['.encode()


def _write(query: Query, limits: ServerLimits, most: int, limit: str) -> bytes | Observation:
    """The query as JSON; its answer if the server would not take it, such as more than ``most`` bytes by ``limit``."""
    problem = wire.unsendable(query, limits)
    if not problem:
        part = query.model_dump_json().encode()
        if len(part) <= most:
            return part
        allowed = f"more than the {max(most, 0)} that the server takes ({limit})"
        problem = f"The query has {len(part)} bytes, {allowed}; use a shorter name."
    return wire.refuse(query, ErrorCode.FORMAT_ERROR, problem)


def _known(waiting: deque[tuple[Query, bytes | Observation]]) -> Iterator[Observation]:
    """Take the answers that are known here off the front of the queue."""
    while waiting and not isinstance(answer := waiting[0][1], bytes):
        waiting.popleft()
        yield answer


def _split(parts: Sequence[tuple[Query, bytes]], max_batch: int, most: int) -> Iterator[list[tuple[Query, bytes]]]:
    """Batches of up to ``max_batch`` queries, whose JSON has up to ``most`` bytes with the commas in between."""
    batch: list[tuple[Query, bytes]] = []
    size = 0
    for query, part in parts:
        if batch and (len(batch) == max_batch or size + 1 + len(part) > most):
            yield batch
            batch, size = [], 0
        size += len(part) + bool(batch)
        batch.append((query, part))
    if batch:
        yield batch


_ECHOED = tuple(Query.model_fields.keys() - {"entity", "relation"})


def _answers(observation: Observation, query: Query) -> bool:
    """Whether the observation can be the answer: a result may write the names of the query as the graph does."""
    answered = observation.query
    if observation.error is not None:
        return answered == query
    if (answered.relation is None) != (query.relation is None):
        return False
    return all(getattr(answered, field) == getattr(query, field) for field in _ECHOED)


def _protocol_of(content: bytes) -> object:
    """The protocol number that a reply claims, None if it claims none."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return value.get("protocol") if isinstance(value, dict) else None
