"""What the server answers when it does not serve a request: one sentence, never a stack trace."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import Request, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from kgr1.server import wire
from kgr1.server.wire import ErrorReply

RETRY_AFTER_S = 1
"""What a busy server tells clients to wait."""


class RequestError(Exception):
    """A request that cannot be served; becomes an error reply with these headers."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.reply = ErrorReply(code=code, message=message)
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """The reply as HTTP."""
        response = json_response(self.reply, self.status)
        response.headers.update(self.headers)
        return response


def shutting_down() -> RequestError:
    """The reply of a server that stops to what it does not begin any more."""
    message = "The server stops; send what it has not answered again in a moment."
    return RequestError(503, "SHUTTING_DOWN", message, {"Retry-After": str(RETRY_AFTER_S)})


def json_response(record: BaseModel, status: int = 200) -> Response:
    """A record as a reply."""
    return Response(record.model_dump_json(), status_code=status, media_type="application/json")


def internal_error() -> Response:
    """The reply to a request on which the server itself failed."""
    return json_response(ErrorReply(code="INTERNAL", message="The server failed on this request; see its log."), 500)


async def on_request_error(request: Request, error: Exception) -> Response:
    """Exception handler for :class:`RequestError`."""
    assert isinstance(error, RequestError)
    return error.response()


async def on_http_error(request: Request, error: Exception) -> Response:
    """Exception handler for unknown paths and methods."""
    assert isinstance(error, HTTPException)
    paths = f"POST {wire.QUERY_PATH}, POST {wire.STREAM_PATH}, GET {wire.GRAPHS_PATH} and GET {wire.HEALTH_PATH}"
    reply = ErrorReply(code="NO_SUCH_ENDPOINT", message=f"There is nothing here; this server has {paths}.")
    response = json_response(reply, error.status_code)
    response.headers.update(error.headers or {})
    return response
