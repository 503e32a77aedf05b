"""The graph server: FastAPI over any number of graphs (SPEC section 2).

Graphs are called in a worker thread. An in-memory look-up is short enough to run on the event loop, but a graph may
also be a remote endpoint or a file that is not in memory yet, and then one slow batch would hold up all clients. The
thread costs about 0.2 ms of a request that takes 1.5 ms with one query and about 4 ms with 64.

Nothing that a client sends ends in a stack trace: what is wrong with one query is told in its observation, what is
wrong with the request in an :class:`kgr1.server.wire.ErrorReply`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

import kgr1
from kgr1.errors import GraphServerError
from kgr1.graph.api import GraphInfo, KnowledgeGraph
from kgr1.server import wire
from kgr1.server.wire import ErrorReply, Refusal, ServerLimits
from kgr1.types import ErrorCode, Observation, Query

logger = logging.getLogger(__name__)

DRAIN_FACTOR = 8
"""An oversized body is read and dropped up to this many limits, so that its sender gets the reply and no reset."""


class _RequestError(Exception):
    """A request that cannot be served; becomes an error reply."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reply = ErrorReply(code=code, message=message)


def create_app(graphs: Mapping[str, KnowledgeGraph], limits: ServerLimits | None = None) -> FastAPI:
    """The server as an ASGI application.

    ``graphs`` maps the names that clients use to open graphs; the caller keeps and closes them.
    """
    desk = _Desk(graphs, limits or ServerLimits())
    app = FastAPI(title="kgr1 graph server", version=kgr1.__version__, docs_url=None, redoc_url=None)
    app.add_exception_handler(_RequestError, _on_problem)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_exception)

    @app.get(wire.HEALTH_PATH, response_model=wire.HealthResponse)
    async def health() -> Response:
        return _json(wire.HealthResponse(version=kgr1.__version__))

    @app.get(wire.GRAPHS_PATH, response_model=wire.GraphsResponse)
    async def list_graphs() -> Response:
        return _json(await run_in_threadpool(desk.describe))

    @app.post(
        wire.QUERY_PATH,
        response_model=wire.QueryResponse,
        responses={status: {"model": ErrorReply} for status in (400, 408, 413, 422, 503)},
        openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": _REQUEST_SCHEMA}}}},
    )
    async def query(request: Request) -> Response:
        body = await _read_body(request, desk.limits)
        return Response(await run_in_threadpool(desk.answer, body), media_type="application/json")

    return app


_REQUEST_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["queries"],
    "properties": {
        "protocol": {"type": "integer", "default": wire.PROTOCOL_VERSION},
        "graph": {"type": ["string", "null"]},
        "queries": {"type": "array", "items": Query.model_json_schema()},
    },
}


class _Desk:
    """Reads batches, asks the graphs, writes replies. Used from several threads at once."""

    def __init__(self, graphs: Mapping[str, KnowledgeGraph], limits: ServerLimits) -> None:
        self.limits = limits
        self._graphs = dict(graphs)
        self._infos: dict[str, GraphInfo] = {}

    def describe(self) -> wire.GraphsResponse:
        """Names and counts of the graphs; a graph that fails is listed as unavailable."""
        infos, unavailable = [], []
        for name, graph in self._graphs.items():
            if name not in self._infos:
                try:
                    self._infos[name] = graph.info().model_copy(update={"name": name})
                except Exception:
                    logger.exception("graph %r has no info", name)
                    unavailable.append(name)
                    continue
            infos.append(self._infos[name])
        return wire.GraphsResponse(limits=self.limits, graphs=infos, unavailable=tuple(unavailable))

    def answer(self, body: bytes) -> bytes:
        """One request body to one response body."""
        request = _read_request(body)
        if len(request.queries) > self.limits.max_batch:
            raise _RequestError(
                413,
                "BATCH_TOO_LARGE",
                f"The batch has {len(request.queries)} queries, more than {self.limits.max_batch}; split it.",
            )
        name = self._resolve(request.graph)
        replies: list[Observation | Refusal | None] = []
        runnable: list[Query] = []
        for query in request.queries:
            if isinstance(query, Query):
                query_or_reply = self._check(query, name)
                if isinstance(query_or_reply, Query):
                    runnable.append(query_or_reply)
                    replies.append(None)
                else:
                    replies.append(query_or_reply)
            else:
                replies.append(query)
        observations = iter(self._execute(name, runnable) if name is not None else ())
        filled = [self._cut(next(observations)) if reply is None else reply for reply in replies]
        return wire.QueryResponse.model_construct(observations=filled).model_dump_json().encode()

    def _resolve(self, name: str | None) -> str | None:
        """The graph that is meant, None if it is not here."""
        if name is None and len(self._graphs) == 1:
            return next(iter(self._graphs))
        if name is not None and len(name) > self.limits.max_name_chars:
            message = f"The graph name has {len(name)} characters, more than {self.limits.max_name_chars}."
            raise _RequestError(422, "NAME_TOO_LONG", message)
        return name if name in self._graphs else None

    def _check(self, query: Query, graph: str | None) -> Query | Observation:
        if graph is None:
            known = ", ".join(sorted(self._graphs)[:10]) or "none"
            message = f"This graph is not loaded on the server; loaded graphs: {known}."
            return wire.refuse(query, ErrorCode.SERVER_ERROR, message)
        problem = wire.unsendable(query, self.limits)
        return wire.refuse(query, ErrorCode.FORMAT_ERROR, problem) if problem else query

    def _execute(self, name: str, queries: Sequence[Query]) -> list[Observation]:
        if not queries:
            return []
        graph = self._graphs[name]
        try:
            return _ask(graph, queries)
        except GraphServerError as error:
            logger.warning("graph %r does not answer: %s", name, error)
            message = f"The graph '{name}' cannot be reached by the server now; try again later."
            raise _RequestError(503, "GRAPH_UNAVAILABLE", message) from error
        except Exception:
            logger.exception("a batch of %d queries failed on graph %r", len(queries), name)
        # One query that trips the backend must not spoil the others of its batch.
        return [_ask_alone(graph, query) for query in queries]

    def _cut(self, observation: Observation) -> Observation:
        most = self.limits.max_results
        if len(observation.names) <= most:
            return observation
        cut = {key: getattr(observation, key)[:most] for key in ("names", "ids", "times")}
        return observation.model_copy(update=cut)


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
        request = wire.QueryRequest.model_validate_json(body)
    except ValidationError as error:
        raise _unreadable(error) from error
    if request.protocol != wire.PROTOCOL_VERSION:
        message = f"This server speaks protocol {wire.PROTOCOL_VERSION}, not {request.protocol}; update the older side."
        raise _RequestError(422, "WRONG_PROTOCOL", message)
    return request


def _unreadable(error: ValidationError) -> _RequestError:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        return _RequestError(
            400, "NOT_JSON", "The request body is not valid JSON (UTF-8); send an object with 'queries'."
        )
    field = str(first["loc"][0])[:80] if first["loc"] else ""
    if first["type"] == "missing":
        message = f"The request has no '{field}'; send an object with 'queries', a list."
    elif first["type"] == "extra_forbidden":
        message = f"The request has an unknown field '{field}'; use 'graph', 'queries' and 'protocol'."
    elif field:
        message = f"The field '{field}' is of the wrong type; 'graph' is a text and 'queries' a list."
    else:
        message = "The request is not a JSON object; send an object with 'queries', a list."
    return _RequestError(422, "BAD_REQUEST", message)


async def _read_body(request: Request, limits: ServerLimits) -> bytes:
    """The request body; too large or too slow a body is refused."""
    size, chunks = 0, []
    try:
        async with asyncio.timeout(limits.body_timeout_s):
            async for chunk in request.stream():
                size += len(chunk)
                if size <= limits.max_body_bytes:
                    chunks.append(chunk)
                elif size > DRAIN_FACTOR * limits.max_body_bytes:
                    break
    except TimeoutError as error:
        raise _RequestError(408, "BODY_TOO_SLOW", "The request body did not arrive in time; send it again.") from error
    except ClientDisconnect as error:
        raise _RequestError(400, "DISCONNECTED", "The client left before its request was complete.") from error
    if size > limits.max_body_bytes:
        message = f"The request body is larger than {limits.max_body_bytes} bytes; split the batch."
        raise _RequestError(413, "BODY_TOO_LARGE", message)
    return b"".join(chunks)


def _json(record: BaseModel, status: int = 200) -> Response:
    return Response(record.model_dump_json(), status_code=status, media_type="application/json")


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, _RequestError)
    return _json(error.reply, error.status)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    paths = f"POST {wire.QUERY_PATH}, GET {wire.GRAPHS_PATH} and GET {wire.HEALTH_PATH}"
    reply = ErrorReply(code="NO_SUCH_ENDPOINT", message=f"There is nothing here; this server has {paths}.")
    response = _json(reply, error.status_code)
    response.headers.update(error.headers or {})
    return response


async def _on_exception(request: Request, error: Exception) -> Response:
    logger.error("a request failed", exc_info=error)
    return _json(ErrorReply(code="INTERNAL", message="The server failed on this request; see its log."), 500)
