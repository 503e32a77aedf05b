"""The graphs behind the server: queries in, observations out. Knows nothing of HTTP but its statuses."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pydantic import ValidationError

from kgr1.errors import GraphServerError
from kgr1.graph.api import GraphInfo, KnowledgeGraph, NameSearch
from kgr1.server import wire
from kgr1.server.problems import RequestError
from kgr1.server.wire import Refusal, ServerLimits
from kgr1.types import ErrorCode, Observation, Query

logger = logging.getLogger(__name__)

Reply = Observation | Refusal
OK = "OK"
NO_OPERATION = "none"


class Answer(NamedTuple):
    """The body of a reply and what metrics and logs count of it."""

    body: bytes
    graph: str  # empty if the one that was asked for is not here
    outcomes: Counter[tuple[str, str]]  # (operation, error code or "OK") -> queries


class Desk:
    """Reads batches, asks the graphs, writes replies. Used from several threads at once."""

    def __init__(self, graphs: Mapping[str, KnowledgeGraph], limits: ServerLimits) -> None:
        self.limits = limits
        self.graphs = dict(graphs)
        self._infos: dict[str, GraphInfo] = {}

    def describe(self) -> wire.GraphsResponse:
        """Names and counts of the graphs; a graph that fails is listed as unavailable."""
        infos, unavailable = [], []
        for name in self.graphs:
            info = self.info(name)
            if info is None:
                unavailable.append(name)
            else:
                infos.append(info)
        return wire.GraphsResponse(limits=self.limits, graphs=infos, unavailable=tuple(unavailable))

    def info(self, name: str) -> GraphInfo | None:
        """Counts of one graph, asked for until they were told once; None if its backend fails."""
        if name not in self._infos:
            try:
                self._infos[name] = self.graphs[name].info().model_copy(update={"name": name})
            except Exception:
                logger.exception("graph %r has no info", name)
                return None
        return self._infos[name]

    def answer(self, body: bytes) -> Answer:
        """One body of ``POST /v1/query`` to one reply."""
        request = _read_request(body)
        if len(request.queries) > self.limits.max_batch:
            message = f"The batch has {len(request.queries)} queries, more than {self.limits.max_batch}; split it."
            raise RequestError(413, "BATCH_TOO_LARGE", message)
        name = self.resolve(request.graph)
        replies = self.ask(name, request.queries)
        return Answer(wire.write_response(replies), name or "", outcomes(replies))

    def resolve(self, name: str | None) -> str | None:
        """The graph that is meant, None if it is not here."""
        if name is None and len(self.graphs) == 1:
            return next(iter(self.graphs))
        if name is not None and len(name) > self.limits.max_name_chars:
            message = f"The graph name has {len(name)} characters, more than {self.limits.max_name_chars}."
            raise RequestError(422, "NAME_TOO_LONG", message)
        return name if name in self.graphs else None

    def search(self, graph: str | None, text: str, count: int) -> wire.SearchResponse:
        """Entities of a graph by name; raises :class:`RequestError` if that is not possible."""
        if len(text) > wire.MAX_SEARCH_CHARS:
            message = f"The text has {len(text)} characters, more than {wire.MAX_SEARCH_CHARS}; search for less."
            raise RequestError(422, "NAME_TOO_LONG", message)
        name = self.resolve(graph)
        if name is None:
            known = ", ".join(sorted(self.graphs)[:10]) or "none"
            raise RequestError(
                404, "NO_SUCH_GRAPH", f"This graph is not loaded on the server; its graphs are: {known}."
            )
        backend = self.graphs[name]
        if not isinstance(backend, NameSearch):
            raise RequestError(501, "NO_SEARCH", f"The graph '{name}' has no search; ask it for relations of a name.")
        try:
            found = backend.search(text, count) if text.strip() else []
        except GraphServerError as error:
            raise self._unavailable(name, error) from error
        return wire.SearchResponse(matches=[wire.Match(name=shown, id=key) for shown, key in found[:count]])

    def ask(self, name: str | None, queries: Sequence[Query | Refusal]) -> list[Reply]:
        """One reply a query, in order; a query that could not be read is its own reply.

        Raises :class:`RequestError` if the backend of the graph does not answer.
        """
        replies: list[Reply | None] = []
        runnable: list[Query] = []
        for query in queries:
            checked = self._check(query, name) if isinstance(query, Query) else query
            if isinstance(checked, Query):
                runnable.append(checked)
                replies.append(None)
            else:
                replies.append(checked)
        observations = iter(self._execute(name, runnable) if name is not None else ())
        return [self._cut(next(observations)) if reply is None else reply for reply in replies]

    def _check(self, query: Query, graph: str | None) -> Query | Observation:
        if graph is None:
            known = ", ".join(sorted(self.graphs)[:10]) or "none"
            message = f"This graph is not loaded on the server; loaded graphs: {known}."
            return wire.refuse(query, ErrorCode.SERVER_ERROR, message)
        problem = wire.unsendable(query, self.limits)
        return wire.refuse(query, ErrorCode.FORMAT_ERROR, problem) if problem else query

    def _execute(self, name: str, queries: Sequence[Query]) -> list[Observation]:
        if not queries:
            return []
        graph = self.graphs[name]
        try:
            return _ask(graph, queries)
        except GraphServerError as error:
            raise self._unavailable(name, error) from error
        except Exception:
            logger.exception("a batch of %d queries failed on graph %r", len(queries), name)
        # One query that trips the backend must not spoil the others of its batch.
        return [_ask_alone(graph, query) for query in queries]

    def _unavailable(self, name: str, error: GraphServerError) -> RequestError:
        logger.warning("graph %r does not answer: %s", name, error)
        message = f"The graph '{name}' cannot be reached by the server now; try again later."
        return RequestError(503, "GRAPH_UNAVAILABLE", message)

    def _cut(self, observation: Observation) -> Observation:
        most = self.limits.max_results
        if len(observation.names) <= most:
            return observation
        cut = {key: getattr(observation, key)[:most] for key in ("names", "ids", "times")}
        return observation.model_copy(update=cut)


def outcomes(replies: Sequence[Reply]) -> Counter[tuple[str, str]]:
    """How many replies there are of each operation and outcome."""
    return Counter(
        (
            NO_OPERATION if reply.query is None else reply.query.operation.value,
            OK if reply.error is None else reply.error.value,
        )
        for reply in replies
    )


def _ask(graph: KnowledgeGraph, queries: Sequence[Query]) -> list[Observation]:
    observations = graph.execute(queries)
    if len(observations) != len(queries):
        raise RuntimeError(f"{len(observations)} observations for {len(queries)} queries")
    return observations


def _ask_alone(graph: KnowledgeGraph, query: Query) -> Observation:
    try:
        return _ask(graph, [query])[0]
    except Exception:
        logger.exception("one query failed")
        return wire.refuse(query, ErrorCode.SERVER_ERROR, "The server could not run this query; ask another one.")


def _read_request(body: bytes) -> wire.QueryRequest:
    try:
        request = wire.parse_request(body)
    except ValidationError as error:
        raise _unreadable(error) from error
    check_protocol(request.protocol)
    return request


def check_protocol(protocol: int | str) -> None:
    """Raise :class:`RequestError` if the client speaks another version."""
    if str(protocol) != str(wire.PROTOCOL_VERSION):
        message = f"This server speaks protocol {wire.PROTOCOL_VERSION}, not {protocol!s:.20}; update the older side."
        raise RequestError(422, "WRONG_PROTOCOL", message)


def _unreadable(error: ValidationError) -> RequestError:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        return RequestError(
            400, "NOT_JSON", "The request body is not valid JSON (UTF-8); send an object with 'queries'."
        )
    field = str(first["loc"][0])[:80] if first["loc"] else ""
    if first["type"] == "too_long":
        message = f"The batch has more than {wire.MOST_QUERIES} queries; split it."
        return RequestError(413, "BATCH_TOO_LARGE", message)
    if first["type"] == "missing":
        message = f"The request has no '{field}'; send an object with 'queries', a list."
    elif first["type"] == "extra_forbidden":
        message = f"The request has an unknown field '{field}'; use 'graph', 'queries' and 'protocol'."
    elif field:
        message = f"The field '{field}' is of the wrong type; 'graph' is a text and 'queries' a list."
    else:
        message = "The request is not a JSON object; send an object with 'queries', a list."
    return RequestError(422, "BAD_REQUEST", message)
