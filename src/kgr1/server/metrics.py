"""What the server counts, for Prometheus.

With several workers, each counts in files of a folder that they share (:func:`shared_folder`), and whichever of them is
asked for ``/metrics`` adds up all of them. Counts of a worker that died stay in the sums.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

import kgr1
from kgr1.server.desk import Answer, Desk

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable of prometheus_client; it must be set before a worker process imports the library."""

CONTENT_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """The metrics of one application. Safe to use from several threads."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._registry = own = CollectorRegistry()
        self._requests = Counter("kgr1_requests", "Requests answered.", ["path", "status"], registry=own)
        self._queries = Counter(
            "kgr1_queries", "Queries answered, by error code or OK.", ["graph", "operation", "outcome"], registry=own
        )
        self._seconds = Histogram(
            "kgr1_batch_seconds",
            "Time from the complete body of a batch to its answers, waiting for a thread included.",
            ["path"],
            buckets=SECONDS,
            registry=own,
        )
        self._sizes = Histogram("kgr1_batch_queries", "Queries in one batch.", ["path"], buckets=SIZES, registry=own)
        self._inside = Gauge(
            "kgr1_requests_in_flight", "Requests being served now.", multiprocess_mode="livesum", registry=own
        )
        self._size_gauges = {
            part: Gauge(f"kgr1_graph_{part}", f"Number of {part}.", ["graph"], multiprocess_mode="max", registry=own)
            for part in ("triples", "entities", "relations", "question_graphs")
        }
        build = Gauge("kgr1_build_info", "Always 1.", ["version"], multiprocess_mode="max", registry=own)
        build.labels(kgr1.__version__).set(1)

    def enter(self) -> None:
        """A request begins."""
        self._inside.inc()

    def leave(self, path: str, status: int) -> None:
        """A request ends; ``status`` is 0 if its client went away before there was one."""
        self._inside.dec()
        self._requests.labels(path, str(status or 499)).inc()

    def count_batch(self, path: str, answer: Answer, size: int, seconds: float) -> None:
        """A batch was answered."""
        for (operation, outcome), number in answer.outcomes.items():
            self._queries.labels(answer.graph or "unknown", operation, outcome).inc(number)
        self._seconds.labels(path).observe(seconds)
        self._sizes.labels(path).observe(size)

    def page(self) -> bytes:
        """Everything in the text format of Prometheus; asks the graphs for their sizes once."""
        for info in self._desk.describe().graphs:
            for part, gauge in self._size_gauges.items():
                gauge.labels(info.name).set(getattr(info, part))
        registry = self._registry
        folder = os.environ.get(FOLDER_VARIABLE)
        if folder:
            registry = CollectorRegistry()
            MultiProcessCollector(registry, path=folder)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


@contextmanager
def shared_folder() -> Iterator[Path]:
    """A folder in which processes that are started inside the block add up their counts."""
    before = os.environ.get(FOLDER_VARIABLE)
    with tempfile.TemporaryDirectory(prefix="kgr1-metrics-", ignore_cleanup_errors=True) as folder:
        os.environ[FOLDER_VARIABLE] = folder
        try:
            yield Path(folder)
        finally:
            if before is None:
                del os.environ[FOLDER_VARIABLE]
            else:
                os.environ[FOLDER_VARIABLE] = before


def forget_process(pid: int | None, folder: Path) -> None:
    """Take a dead worker out of the numbers that only live ones have, such as requests in flight."""
    if pid is not None:
        mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]
