"""Reading request bodies: bounded in size and time."""

from __future__ import annotations

import asyncio

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from kgr1.server.problems import RequestError
from kgr1.server.wire import ServerLimits

DRAIN_FACTOR = 8
"""An oversized body is read and dropped up to this many limits, so that its sender gets the reply and no reset."""

DRAIN_S = 2.0
"""How long a body that nobody wants is read."""


async def read_body(request: Request, limits: ServerLimits) -> bytes:
    """The request body; raises :class:`RequestError` for one that is too large or too slow."""
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
        raise RequestError(408, "BODY_TOO_SLOW", "The request body did not arrive in time; send it again.") from error
    except ClientDisconnect as error:
        raise RequestError(400, "DISCONNECTED", "The client left before its request was complete.") from error
    if size > limits.max_body_bytes:
        message = f"The request body is larger than {limits.max_body_bytes} bytes; split the batch."
        raise RequestError(413, "BODY_TOO_LARGE", message)
    return b"".join(chunks)


async def drain(receive: Receive, limits: ServerLimits) -> None:
    """Read and drop the body of a request that is refused; gives up after a while."""
    size = 0
    try:
        async with asyncio.timeout(min(DRAIN_S, limits.body_timeout_s)):
            while size <= DRAIN_FACTOR * limits.max_body_bytes:
                message = await receive()
                size += len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return
