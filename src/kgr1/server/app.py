"""The graph server: FastAPI over any number of graphs (SPEC section 2).

Nothing that a client sends ends in a stack trace: what is wrong with one query is told in its observation, what is
wrong with the request in an :class:`kgr1.server.wire.ErrorReply`.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from typing import Any, NamedTuple

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

import kgr1
from kgr1.graph.api import KnowledgeGraph
from kgr1.server import legacy, problems, stream, wire
from kgr1.server.body import drain, read_body
from kgr1.server.desk import Desk, check_protocol
from kgr1.server.gate import Gate, passing
from kgr1.server.logs import LogSettings
from kgr1.server.metrics import CONTENT_TYPE, Metrics
from kgr1.server.problems import RequestError, json_response
from kgr1.server.runner import Runner
from kgr1.server.stream import StreamReply
from kgr1.server.tokens import Tokens
from kgr1.server.wire import ErrorReply, ServerLimits
from kgr1.types import Query


class ServerOptions(NamedTuple):
    """How a server treats its clients. Picklable, so that worker processes get it too."""

    limits: ServerLimits = ServerLimits()
    tokens: Tokens = Tokens()
    protect_metrics: bool = False  # /metrics wants a token, too, if the server has any
    logs: LogSettings = LogSettings()


def create_app(graphs: Mapping[str, KnowledgeGraph], options: ServerOptions | None = None) -> FastAPI:
    """The server as an ASGI application.

    ``graphs`` maps the names that clients use to open graphs; the caller keeps and closes them.
    """
    options = options or ServerOptions()
    desk = Desk(graphs, options.limits)
    runner = Runner(desk.limits)
    metrics = Metrics(desk)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        runner.close()

    app = FastAPI(title="kgr1 graph server", version=kgr1.__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    open_paths = wire.OPEN_PATHS - ({wire.METRICS_PATH} if options.protect_metrics else set())
    app.add_middleware(Gate, limits=desk.limits, tokens=options.tokens, metrics=metrics, open_paths=open_paths)
    app.state.stopping = asyncio.Event()  # set it when the server begins to stop: streams end then
    app.add_exception_handler(RequestError, problems.on_request_error)
    app.add_exception_handler(HTTPException, problems.on_http_error)

    @app.post(
        wire.QUERY_PATH,
        response_model=wire.QueryResponse,
        responses={status: {"model": ErrorReply} for status in (400, 401, 408, 413, 422, 429, 503, 504)},
        openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": _REQUEST_SCHEMA}}}},
    )
    async def query(request: Request) -> Response:
        async with _admitted(request, runner, desk.limits):
            body = await read_body(request, desk.limits)
            started = time.perf_counter()
            answer = await runner.run(desk.answer, body)
        passing(request.scope).count(answer, time.perf_counter() - started)
        return Response(answer.body, media_type="application/json")

    @app.post(wire.STREAM_PATH, response_class=Response, responses={200: {"content": {stream.MEDIA_TYPE: {}}}})
    async def stream_queries(graph: str | None = None, protocol: str = str(wire.PROTOCOL_VERSION)) -> Response:
        check_protocol(protocol)
        return StreamReply(desk.resolve(graph), desk, runner, app.state.stopping)

    _add_facts(app, desk, runner, metrics)
    _add_legacy(app, desk, runner)
    return app


def _add_facts(app: FastAPI, desk: Desk, runner: Runner, metrics: Metrics) -> None:
    """The endpoints that tell what there is."""

    @app.get(wire.HEALTH_PATH, response_model=wire.HealthResponse)
    async def health() -> Response:
        return json_response(wire.HealthResponse(version=kgr1.__version__))

    @app.get(wire.GRAPHS_PATH, response_model=wire.GraphsResponse)
    async def list_graphs() -> Response:
        return json_response(await runner.run(desk.describe))

    @app.get(wire.SEARCH_PATH, response_model=wire.SearchResponse, responses={404: {"model": ErrorReply}})
    async def search(text: str = "", graph: str | None = None, count: str = "10") -> Response:
        if not re.fullmatch(r"[1-9]\d{0,2}", count) or int(count) > wire.MAX_MATCHES:
            message = f"'count' is a whole number from 1 to {wire.MAX_MATCHES}."
            raise RequestError(422, "BAD_REQUEST", message)
        return json_response(await runner.run(desk.search, graph, text, int(count)))

    @app.get(wire.METRICS_PATH, response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def show_metrics() -> Response:
        return Response(await runner.run(metrics.page), headers={"content-type": CONTENT_TYPE})


def _add_legacy(app: FastAPI, desk: Desk, runner: Runner) -> None:
    """The endpoints of the released server; see :mod:`kgr1.server.legacy`."""

    @app.post(wire.RETRIEVE_PATH, response_class=Response, include_in_schema=False)
    async def retrieve(request: Request) -> Response:
        async with _admitted(request, runner, desk.limits):
            body = await read_body(request, desk.limits)
            started = time.perf_counter()
            answer = await runner.run(legacy.retrieve, desk, body)
        passing(request.scope).count(answer, time.perf_counter() - started)
        return Response(answer.body, media_type="application/json")

    @app.get(wire.LEGACY_HEALTH_PATH, include_in_schema=False)
    async def legacy_health() -> dict[str, str]:
        return {"status": "healthy", "service": "kg_retrieval"}

    @app.get(wire.ACTIONS_PATH, include_in_schema=False)
    async def legacy_actions() -> dict[str, Any]:
        return legacy.actions(desk)


_REQUEST_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["queries"],
    "properties": {
        "protocol": {"type": "integer", "default": wire.PROTOCOL_VERSION},
        "graph": {"type": ["string", "null"]},
        "queries": {"type": "array", "items": Query.model_json_schema()},
    },
}


@asynccontextmanager
async def _admitted(request: Request, runner: Runner, limits: ServerLimits) -> AsyncIterator[None]:
    """The request counts as inside; one too many is refused after its body, so that its sender reads the reply."""
    with ExitStack() as stack:
        try:
            stack.enter_context(runner.admitted())
        except RequestError:
            await drain(request.receive, limits)
            raise
        yield
