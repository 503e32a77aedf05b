"""``POST /v1/stream``: queries in, observations out, one JSON object a line (NDJSON), for as long as both sides like.

Line n of the reply answers line n of the request that is not blank. The two directions alternate: what has arrived is
answered and sent before more is read. A client that does not read its observations is therefore not read either, and
neither side holds more than a network buffer and one batch. A client may send all its lines first, or wait for each
observation before the next line.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from fastapi import Response
from pydantic import ValidationError
from starlette.types import Message, Receive, Scope, Send

from kgr1.server import wire
from kgr1.server.body import drain
from kgr1.server.desk import Answer, Desk, outcomes
from kgr1.server.gate import passing
from kgr1.server.problems import RequestError, shutting_down
from kgr1.server.runner import Runner
from kgr1.server.wire import Refusal
from kgr1.types import ErrorCode, Query

MEDIA_TYPE = "application/x-ndjson"


class StreamReply(Response):
    """A reply that reads its own request. Lines that cannot be read spoil only themselves.

    What ends a stream early (the graph is unreachable, the server stops, the client sends nothing for
    ``body_timeout_s``) is told in a last line that is an :class:`kgr1.server.wire.ErrorReply`, or by a status if
    nothing was sent yet.
    """

    def __init__(
        self,
        graph: str | None,
        desk: Desk,
        runner: Runner,
        stopping: asyncio.Event,
    ) -> None:
        super().__init__()
        self._graph = graph
        self._desk = desk
        self._runner = runner
        self._stopping = stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer until the request ends."""
        limits = self._desk.limits
        began = False

        async def write(body: bytes, more: bool) -> None:
            nonlocal began
            # A client that reads nothing for that long is gone for all that the server can tell.
            async with asyncio.timeout(limits.body_timeout_s):
                if not began:
                    began = True
                    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"x-accel-buffering", b"no")]
                    await send({"type": "http.response.start", "status": 200, "headers": headers})
                await send({"type": "http.response.body", "body": body, "more_body": more})

        try:
            with self._runner.admitted():
                async for lines in self._batches(receive):
                    started = time.perf_counter()
                    answer = await self._runner.run(self._answer, lines)
                    passing(scope).count(answer, time.perf_counter() - started)
                    await write(answer.body, True)
        except RequestError as error:
            if not began:
                await drain(receive, limits)
                await error.response()(scope, receive, send)
                return
            with suppress(TimeoutError):
                await write(error.reply.model_dump_json().encode() + b"\n", True)
        except TimeoutError:
            return
        with suppress(TimeoutError):
            await write(b"", False)

    def _answer(self, lines: list[bytes | None]) -> Answer:
        replies = self._desk.ask(self._graph, [_read_line(line, self._desk.limits.max_line_bytes) for line in lines])
        body = b"".join([wire.write_reply(reply) + b"\n" for reply in replies])
        return Answer(body, self._graph or "", outcomes(replies))

    async def _batches(self, receive: Receive) -> AsyncIterator[list[bytes | None]]:
        """Complete lines as they arrive, at most a batch at a time; None is a line that is too long."""
        splitter = _Splitter(self._desk.limits.max_line_bytes)
        most = self._desk.limits.max_batch
        more = True
        while more:
            message = await self._next(receive)
            if message["type"] == "http.disconnect":
                return
            more = message.get("more_body", False)
            splitter.feed(message.get("body", b""), last=not more)
            while splitter.lines:
                yield [splitter.lines.popleft() for _ in range(min(most, len(splitter.lines)))]
                if self._stopping.is_set() and (more or splitter.lines):
                    raise shutting_down()

    async def _next(self, receive: Receive) -> Message:
        reading: asyncio.Task[Any] = asyncio.ensure_future(_receive(receive))
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            done, _ = await asyncio.wait(
                (reading, stopping),
                timeout=self._desk.limits.body_timeout_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if reading in done:
                message: Message = reading.result()
                return message
        finally:
            for task in (reading, stopping):
                task.cancel()
        if stopping in done:
            raise shutting_down()
        raise RequestError(408, "BODY_TOO_SLOW", "The next line did not arrive in time; send the rest again.")


async def _receive(receive: Receive) -> Message:
    return await receive()


class _Splitter:
    """Bytes to lines, in bounded memory: of a line that is too long only the fact is kept."""

    def __init__(self, max_line: int) -> None:
        self.lines: deque[bytes | None] = deque()
        self._max_line = max_line
        self._rest = bytearray()
        self._skipping = False

    def feed(self, chunk: bytes, last: bool) -> None:
        """Take the next bytes; ``last`` ends an unfinished line."""
        *whole, rest = chunk.split(b"\n")
        for part in whole:
            self._add(part)
            self._end()
        self._add(rest)
        if last:
            self._end()

    def _add(self, part: bytes) -> None:
        if self._skipping:
            return
        self._rest += part
        if len(self._rest) > self._max_line:
            self._rest.clear()
            self._skipping = True

    def _end(self) -> None:
        if self._skipping:
            self.lines.append(None)
        elif self._rest.strip():
            self.lines.append(bytes(self._rest))
        self._rest.clear()
        self._skipping = False


def _read_line(line: bytes | None, most: int) -> Query | Refusal:
    if line is None:
        return Refusal(error=ErrorCode.FORMAT_ERROR, message=f"The line is longer than {most} bytes; shorten it.")
    try:
        return wire.parse_query(line)
    except ValidationError:  # also for bytes that are no UTF-8 and for halves of surrogate pairs
        return Refusal(
            error=ErrorCode.FORMAT_ERROR, message="The line is not valid JSON (UTF-8); send one object a line."
        )
