"""What travels between the graph server and its clients.

One batch endpoint, ``POST /v1/query``::

    {"protocol": 1, "graph": "films", "queries": [{"operation": "get_tail_relations", "entity": "Alien"}, ...]}
    {"protocol": 1, "observations": [{"query": {...}, "names": [...], "ids": [...], "total": 3, ...}, ...]}

``observations[i]`` answers ``queries[i]``. A query that cannot be read spoils only itself: its place is taken by a
:class:`Refusal`. A request that cannot be read at all is answered with a status of 400 or more and an
:class:`ErrorReply`. The protocol number changes when an old client could misread a new server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, TypeAdapter

from kgr1.graph.api import GraphInfo
from kgr1.types import OPERATION_ALIASES, ErrorCode, Observation, Operation, Query, Record

PROTOCOL_VERSION = 1
QUERY_PATH = "/v1/query"
STREAM_PATH = "/v1/stream"
GRAPHS_PATH = "/v1/graphs"
SEARCH_PATH = "/v1/search"
HEALTH_PATH = "/healthz"
METRICS_PATH = "/metrics"
RETRIEVE_PATH = "/retrieve"  # these three are the released server's
LEGACY_HEALTH_PATH = "/health"
ACTIONS_PATH = "/actions"
OPEN_PATHS = frozenset({HEALTH_PATH, LEGACY_HEALTH_PATH, METRICS_PATH})
"""Paths that need no token."""
_PATHS = OPEN_PATHS | {QUERY_PATH, STREAM_PATH, GRAPHS_PATH, SEARCH_PATH, RETRIEVE_PATH, ACTIONS_PATH}

_FIELDS = frozenset(Query.model_fields)


MOST_QUERIES = 65_536
"""No server takes more in one request; reading stops there, whatever the body holds."""


class ServerLimits(Record):
    """What one request may ask for. The server tells its limits to clients, which split their batches by them."""

    max_batch: int = Field(default=256, ge=1, le=MOST_QUERIES, description="queries in one request")
    max_body_bytes: int = Field(default=4 * 2**20, ge=1024, description="bytes of one request body")
    max_name_chars: int = Field(default=16_384, ge=1, description="characters of an entity, relation or graph name")
    max_results: int = Field(default=10_000, ge=1, description="names in one observation; `total` counts all")
    body_timeout_s: float = Field(default=30.0, gt=0, description="seconds that a request body may take to arrive")
    request_timeout_s: float = Field(default=30.0, gt=0, description="seconds that answering one request may take")
    max_concurrent: int = Field(default=16, ge=1, description="requests that one worker answers at the same time")
    max_waiting: int = Field(default=1024, ge=0, description="further requests that one worker lets wait")
    max_line_bytes: int = Field(default=2**20, ge=256, description="bytes of one line of a stream")


MAX_MATCHES = 100
"""The most entities that one search gives."""
MAX_SEARCH_CHARS = 2000
"""Of the text of a search; it stands in the address of the request, which may not grow much longer."""


class Refusal(Record):
    """The answer to a query that could not be read; shaped like an :class:`Observation` without its query."""

    query: None = None
    names: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    times: tuple[tuple[str, ...], ...] = ()
    total: int = 0
    error: ErrorCode
    message: str


class QueryResponse(Record):
    """Answers to one batch, in its order."""

    protocol: int = PROTOCOL_VERSION
    observations: list[Annotated[Observation | Refusal, Field(union_mode="left_to_right")]]


_RESPONSE_START = f'{{"protocol":{PROTOCOL_VERSION},"observations":['.encode()


def write_reply(reply: Observation | Refusal) -> bytes:
    """One reply as JSON."""
    return reply.__pydantic_serializer__.to_json(reply)


def write_response(replies: Sequence[Observation | Refusal]) -> bytes:
    """A :class:`QueryResponse` as JSON. Written piece by piece: the serialiser of a union takes half as long again."""
    return _RESPONSE_START + b",".join([write_reply(reply) for reply in replies]) + b"]}"


class GraphsResponse(Record):
    """What a server offers: ``GET /v1/graphs``. ``unavailable`` names graphs whose backend does not answer now."""

    protocol: int = PROTOCOL_VERSION
    limits: ServerLimits
    graphs: list[GraphInfo]
    unavailable: tuple[str, ...] = ()


class Match(Record):
    """An entity that a search found."""

    name: str
    id: str


class SearchResponse(Record):
    """Entities with a name like a text, best first: ``GET /v1/search``."""

    protocol: int = PROTOCOL_VERSION
    matches: list[Match]


class HealthResponse(Record):
    """The server is up: ``GET /healthz``."""

    status: str = "ok"
    protocol: int = PROTOCOL_VERSION
    version: str


class ErrorReply(Record):
    """Body of every reply with a status of 400 or more: a stable code and one sentence."""

    code: str
    message: str


def read_query(value: object) -> Query | Refusal:
    """Turn one decoded JSON value into a query, or say in one sentence why it is none."""
    if not isinstance(value, Mapping):
        return _malformed('A query is an object such as {"operation": "get_tail_relations", "entity": "Paris"}.')
    surplus = sorted(str(key) for key in value.keys() - _FIELDS)
    if surplus:
        return _malformed(f"A query has no field '{surplus[0][:80]}'; use {', '.join(sorted(_FIELDS))}.")
    for field in ("operation", "entity"):
        if not isinstance(value.get(field), str):
            return _malformed(f"A query needs the field '{field}' with a text value.")
    for field in ("relation", "time", "graph_id"):
        if not isinstance(value.get(field), str | None):
            return _malformed(f"The field '{field}' of a query is a text or null.")
    for field, least in (("offset", 0), ("limit", 1)):
        number = value.get(field)
        whole = isinstance(number, int) and not isinstance(number, bool)
        if not (number is None or (whole and number >= least)):
            return _malformed(f"The field '{field}' of a query is a whole number of at least {least}.")
    operation = read_operation(value["operation"])
    if operation is None:
        known = ", ".join(Operation)
        return Refusal(error=ErrorCode.SERVER_ERROR, message=f"There is no such operation; use one of {known}.")
    return Query.model_construct(
        operation=operation,
        entity=value["entity"],
        relation=value.get("relation"),
        time=value.get("time"),
        graph_id=value.get("graph_id"),
        offset=value.get("offset") or 0,
        limit=value.get("limit"),
    )


def known_path(path: str) -> str:
    """The path if this server has it, else ``other``: metrics must not grow with what clients make up."""
    return path if path in _PATHS else "other"


def read_operation(name: str) -> Operation | None:
    """The operation of this name or alias, None if there is none."""
    try:
        return Operation(name)
    except ValueError:
        return OPERATION_ALIASES.get(name)


def unsendable(query: Query, limits: ServerLimits) -> str:
    """One sentence on why a name in the query cannot be handled; empty if all is well."""
    texts = (
        ("entity", query.entity),
        ("relation", query.relation),
        ("time", query.time),
        ("graph id", query.graph_id),
    )
    for field, name in texts:
        if name is None:
            continue
        if len(name) > limits.max_name_chars:
            return f"The {field} has {len(name)} characters, more than {limits.max_name_chars}; use a shorter name."
        if has_half_pair(name):
            return f"The {field} is not valid Unicode text; write the name again."
    return ""


def has_half_pair(text: str) -> bool:
    """True for a text with half of a surrogate pair, which UTF-8 cannot carry."""
    return not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text)


def refuse(query: Query, error: ErrorCode, message: str) -> Observation:
    """An observation that answers ``query`` with an error."""
    return Observation.model_construct(query=query, names=(), ids=(), times=(), total=0, error=error, message=message)


def _malformed(message: str) -> Refusal:
    return Refusal(error=ErrorCode.FORMAT_ERROR, message=message)


AnyQuery = Annotated[Query | Annotated[Any, BeforeValidator(read_query)], Field(union_mode="left_to_right")]
"""A query or the refusal of one; never fails validation. Well-formed queries do not pass through Python code.

Validate it strictly: what :func:`read_query` refuses, such as a number in quotes, would be converted otherwise.
"""
_ANY_QUERY: TypeAdapter[Query | Refusal] = TypeAdapter(AnyQuery)


class QueryRequest(Record):
    """One batch for one graph. ``graph`` may be left out if the server has only one."""

    protocol: int = PROTOCOL_VERSION
    graph: str | None = None
    queries: list[AnyQuery] = Field(max_length=MOST_QUERIES)


def parse_request(body: bytes) -> QueryRequest:
    """The request in a body; raises :class:`pydantic.ValidationError` if it is none."""
    return QueryRequest.model_validate_json(body, strict=True)


def parse_query(line: bytes) -> Query | Refusal:
    """The query in a line, read as in a request; raises :class:`pydantic.ValidationError` if it is no JSON."""
    return _ANY_QUERY.validate_json(line, strict=True)
