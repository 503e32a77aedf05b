"""What every request passes on its way in and out: its id, the token, and what logs and metrics keep of it.

Plain ASGI, because the classes for this in Starlette copy every body through another task.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kgr1.server import problems, wire
from kgr1.server.body import drain
from kgr1.server.desk import OK, Answer
from kgr1.server.metrics import Metrics
from kgr1.server.problems import RequestError
from kgr1.server.tokens import CLIENT_VARIABLE, Tokens
from kgr1.server.wire import ServerLimits

logger = logging.getLogger(__name__)
request_log = logging.getLogger("kgr1.server.requests")
"""One record a request at the level INFO; the fields stand in ``record.fields``. No text of a query is in it."""

REQUEST_ID = "x-request-id"
_SANE_ID = re.compile(rb"[A-Za-z0-9._:-]{1,64}")
_HEADER = REQUEST_ID.encode()


class Passing:
    """What is known of one request while it is served; the endpoints find it with :func:`passing`."""

    def __init__(self, scope: Scope, known_id: bytes | None) -> None:
        self.id = known_id.decode() if known_id else secrets.token_hex(8)
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.status = 0
        self.queries = 0
        self.failed = 0  # queries that were answered with an error code
        self.sent = 0  # bytes of the reply's body
        self.graph = ""
        self._started = time.perf_counter()
        self._metrics: Metrics | None = None

    def count(self, answer: Answer, seconds: float) -> None:
        """Add one batch that was answered in this time."""
        total = answer.outcomes.total()
        self.queries += total
        self.failed += total - sum(n for (_, outcome), n in answer.outcomes.items() if outcome == OK)
        self.graph = answer.graph
        if self._metrics is not None:
            self._metrics.count_batch(wire.known_path(self.path), answer, total, seconds)

    @property
    def seconds(self) -> float:
        """Time since the request began."""
        return time.perf_counter() - self._started

    def fields(self) -> dict[str, Any]:
        """What the log tells."""
        return {
            "request_id": self.id,
            "method": self.method[:20],
            "path": self.path[:200],
            "status": self.status,
            "ms": round(self.seconds * 1000, 3),
            "graph": self.graph,
            "queries": self.queries,
            "failed": self.failed,
            "bytes": self.sent,
        }


def passing(scope: Scope) -> Passing:
    """The record of the request that an endpoint serves."""
    found: Passing = scope["kgr1.passing"]
    return found


class Gate:
    """ASGI middleware around the whole application."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: ServerLimits,
        tokens: Tokens | None = None,
        metrics: Metrics | None = None,
        open_paths: frozenset[str] = wire.OPEN_PATHS,
    ) -> None:
        self._app = app
        self._limits = limits
        self._tokens = tokens or Tokens()
        self._metrics = metrics
        self._open = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; whatever goes wrong in it is answered here at the latest."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(_HEADER)
        seen = Passing(scope, given if given and _SANE_ID.fullmatch(given) else None)
        seen._metrics = self._metrics
        scope["kgr1.passing"] = seen

        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen.status = message["status"]
                message["headers"] = [*message["headers"], (_HEADER, seen.id.encode())]
            else:
                seen.sent += len(message.get("body", b""))
            await send(message)

        if self._metrics is not None:
            self._metrics.enter()
        try:
            if (
                self._tokens
                and scope["path"] not in self._open
                and not self._tokens.accept(headers.get(b"authorization"))
            ):
                await drain(receive, self._limits)
                await _unauthorized(b"authorization" in headers).response()(scope, receive, tell)
            else:
                await self._app(scope, receive, tell)
        except Exception:
            logger.exception("request %s failed", seen.id)
            if not seen.status:
                await problems.internal_error()(scope, receive, tell)
        finally:
            if self._metrics is not None:
                self._metrics.leave(wire.known_path(seen.path), seen.status)
            if request_log.isEnabledFor(logging.INFO):
                request_log.info("request", extra={"fields": seen.fields()})


def _unauthorized(wrong: bool) -> RequestError:
    challenge = 'Bearer realm="kgr1"' + (', error="invalid_token"' if wrong else "")
    message = (
        "The server does not know this token; check it."
        if wrong
        else f"The server asks for a token; set it in the environment variable {CLIENT_VARIABLE}, or send it as "
        "'Authorization: Bearer TOKEN'."
    )
    return RequestError(401, "UNAUTHORIZED", message, {"WWW-Authenticate": challenge})
