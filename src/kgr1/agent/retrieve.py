"""Asking a graph on behalf of one episode: remote graphs in a thread, every call in the ledger."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from kgr1.agent.ledger import Ledger
from kgr1.graph.api import KnowledgeGraph
from kgr1.types import Observation, Query


class Retriever:
    """A graph and the ledger that its calls are entered in."""

    def __init__(self, graph: KnowledgeGraph, ledger: Ledger) -> None:
        self.graph = graph
        self.ledger = ledger

    async def execute(self, queries: Sequence[Query]) -> list[Observation]:
        """One observation a query, in order; raises :class:`kgr1.errors.GraphError` if the graph does not answer."""
        if not queries:
            return []
        started = time.perf_counter()
        if getattr(self.graph, "remote", False):
            answers = await asyncio.to_thread(self.graph.execute, queries)
        else:
            answers = self.graph.execute(queries)
        self.ledger.graph(answers, time.perf_counter() - started)
        return answers
