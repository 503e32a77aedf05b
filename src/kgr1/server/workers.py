"""Several server processes on one address.

The processes share one listening socket, which the operating system hands requests from, and the memory-mapped files
of the graphs. uvicorn has a supervisor of its own, but it binds the socket itself and in a way that leaves Nagle's
algorithm on, which delays every reply by 40 ms.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from types import FrameType

from kgr1.errors import GraphServerError

logger = logging.getLogger(__name__)

YOUNG_S = 10.0
"""A worker that ends by itself younger than this will not do better the next time."""
MAX_YOUNG_KILLS = 3
"""So many workers may be killed young, one after the other, before the server gives up."""


def run_workers(
    target: Callable[[socket.socket], None],
    listener: socket.socket,
    count: int,
    on_ready: Callable[[], None],
    shutdown_s: float,
    on_end: Callable[[int | None], None] = lambda pid: None,
) -> None:
    """Run ``target(listener)`` in ``count`` new processes until SIGINT or SIGTERM; dead ones are replaced.

    Call it in the main thread. ``target`` must be picklable and stop on SIGTERM, for which it has ``shutdown_s``.
    ``on_end`` gets the process id of each worker that is replaced.
    Raises :class:`GraphServerError` if a worker dies soon after its start.
    """
    context = multiprocessing.get_context("spawn")
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()

    def start() -> tuple[BaseProcess, float]:
        process = context.Process(target=_work, args=(target, listener), daemon=True)
        process.start()
        return process, time.monotonic()

    handlers = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    workers: list[tuple[BaseProcess, float]] = []
    try:
        workers.extend(start() for _ in range(count))
        on_ready()
        young_kills = 0
        while not stop.is_set():
            wait([process.sentinel for process, _ in workers], timeout=0.2)
            for place, (process, started) in enumerate(workers):
                if process.is_alive() or stop.is_set():
                    continue
                young = time.monotonic() - started < YOUNG_S
                young_kills = young_kills + 1 if young else 0
                killed = process.exitcode is not None and process.exitcode < 0  # by a signal, e.g. for its memory
                if young and not (killed and young_kills <= MAX_YOUNG_KILLS):
                    raise GraphServerError(f"A server process ended with status {process.exitcode}; see its log.")
                logger.error("a server process ended with status %s; starting another", process.exitcode)
                on_end(process.pid)
                workers[place] = start()
    finally:
        _end([process for process, _ in workers], shutdown_s)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _end(processes: Sequence[BaseProcess], shutdown_s: float) -> None:
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + shutdown_s
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()


def _work(target: Callable[[socket.socket], None], listener: socket.socket) -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    target(listener)


def _follow(parent: BaseProcess) -> None:
    """End with the parent, however it ends, so that no orphan keeps the port."""
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
