"""Reading in one thread while another one works on what was read."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")

_WAIT_S = 0.1
_LEAVE_S = 10.0  # for a reader to notice that nobody wants more; one that waits for standard input never does


@contextmanager
def prefetch(items: Iterable[Item], depth: int = 2) -> Iterator[Iterator[Item]]:
    """Iterate over ``items`` with up to ``depth`` of them read ahead; errors come out where the item would have.

    ::

        with prefetch(batches) as ready:
            for batch in ready: ...
    """
    ahead: queue.Queue[tuple[str, object]] = queue.Queue(depth)
    stop = threading.Event()

    def put(entry: tuple[str, object]) -> bool:
        while not stop.is_set():
            try:
                ahead.put(entry, timeout=_WAIT_S)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            iterator = iter(items)
            try:
                for item in iterator:
                    if not put(("item", item)):
                        return
            finally:
                close = getattr(iterator, "close", None)
                if close is not None:
                    close()
        except BaseException as error:  # it is raised again in the thread that waits
            put(("error", error))
        else:
            put(("end", None))

    def ready() -> Iterator[Item]:
        while True:
            kind, value = ahead.get()
            if kind == "end":
                return
            if kind == "error":
                assert isinstance(value, BaseException)
                raise value
            yield value  # type: ignore[misc]

    thread = threading.Thread(target=work, name="kgr1-reader", daemon=True)
    thread.start()
    try:
        yield ready()
    finally:
        stop.set()
        thread.join(_LEAVE_S)
