"""How much the server does at once, and for how long.

Graphs are called in threads. An in-memory look-up is short enough to run on the event loop, but a graph may also be a
remote endpoint or a file that is not in memory yet, and then one slow batch would hold up all clients.

A thread cannot be stopped. A call that outlives its request keeps its thread until it ends, so a backend that hangs
takes at most ``max_concurrent`` threads; requests behind it are told that the server is busy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from kgr1.server.problems import RETRY_AFTER_S, RequestError, shutting_down
from kgr1.server.wire import ServerLimits

P = ParamSpec("P")
T = TypeVar("T")

_LATER = {"Retry-After": str(RETRY_AFTER_S)}


class Runner:
    """Runs calls in a bounded number of threads, with a bounded queue and a time limit. Belongs to one event loop."""

    def __init__(self, limits: ServerLimits) -> None:
        self._limits = limits
        self._pool = ThreadPoolExecutor(limits.max_concurrent, thread_name_prefix="kgr1-graph")
        self._inside = 0

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Count one request as inside while it is read and answered; raises :class:`RequestError` 429 if full."""
        if self._inside >= self._limits.max_concurrent + self._limits.max_waiting:
            message = "The server has as many requests as it takes; send this one again in a moment."
            raise RequestError(429, "TOO_MANY_REQUESTS", message, _LATER)
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of a call in a thread.

        Raises :class:`RequestError` 503 if no thread was free for ``request_timeout_s`` or the runner is closed, and
        504 if the call itself takes longer.
        """
        limit = self._limits.request_timeout_s
        try:
            call_ = self._pool.submit(call, *args, **kwargs)
        except RuntimeError as error:  # a connection that was accepted in the moment in which the server stopped
            raise shutting_down() from error
        waiting = asyncio.wrap_future(call_)
        try:
            async with asyncio.timeout(limit):
                return await asyncio.shield(waiting)
        except TimeoutError as error:
            if waiting.done():
                raise  # the call itself raised it
            began = not call_.cancel()
            waiting.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody else will look
            if began:
                message = f"The graph did not answer within {limit:g} s; ask for less at once or try again later."
                raise RequestError(504, "GRAPH_TOO_SLOW", message) from error
            message = f"The server was too busy to begin with this request within {limit:g} s; send it again later."
            raise RequestError(503, "SERVER_BUSY", message, _LATER) from error

    def close(self) -> None:
        """Drop what has not begun; what runs is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)
