"""Every backend passes the same contract: in memory, on disk, and over HTTP on loopback."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import ClassVar

import pytest
from graph_contract import GraphContract
from reference_graph import ReferenceGraph

from kgr1.graph.api import KnowledgeGraph
from kgr1.graph.store import GraphStore
from kgr1.server.client import GraphClient
from kgr1.server.serve import BackgroundServer

Triples = Sequence[tuple[str, str, str]]
Labels = Mapping[str, str] | None


class TestReference(GraphContract):
    """The contract can be met by the simplest possible graph."""

    def make_graph(self, triples: Triples, labels: Labels = None) -> KnowledgeGraph:
        return ReferenceGraph(triples, labels)


class TestStoreInMemory(GraphContract):
    def make_graph(self, triples: Triples, labels: Labels = None) -> KnowledgeGraph:
        return GraphStore.from_triples(triples, labels=labels)


class TestStoreOnDisk(GraphContract):
    folder: ClassVar[Path]
    numbers: ClassVar = count()

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _folder(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        cls.folder = tmp_path_factory.mktemp("graphs")

    def make_graph(self, triples: Triples, labels: Labels = None) -> KnowledgeGraph:
        path = self.folder / str(next(self.numbers))
        with GraphStore.from_triples(triples, labels=labels) as graph:
            graph.save(path)
        return GraphStore.open(path)


class ServedGraph(GraphClient):
    """A client that owns the server behind it: real HTTP, any free port."""

    def __init__(self, graph: KnowledgeGraph) -> None:
        self.server = BackgroundServer({"g": graph})
        super().__init__(self.server.url)

    def close(self) -> None:
        super().close()
        self.server.close()


class TestClient(GraphContract):
    def make_graph(self, triples: Triples, labels: Labels = None) -> KnowledgeGraph:
        return ServedGraph(GraphStore.from_triples(triples, labels=labels))
