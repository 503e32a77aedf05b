"""Every backend passes the same contract: in memory, on disk, and over HTTP on loopback."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import ClassVar

import pytest
from dated_contract import DatedContract
from graph_contract import GraphContract
from question_graph_contract import QuestionGraphContract
from reference_graph import ReferenceGraph

from kgr1.graph.api import KnowledgeGraph
from kgr1.graph.store import GraphStore
from kgr1.graph.temporal import parse_span
from kgr1.server.client import GraphClient
from kgr1.server.serve import BackgroundServer

Triples = Sequence[tuple[str, str, str]]
Facts = Sequence[tuple[str, str, str, str]]
Labels = Mapping[str, str] | None


class TestReference(GraphContract):
    """The contract can be met by the simplest possible graph."""

    def make_graph(self, triples: Triples, labels: Labels = None) -> KnowledgeGraph:
        return ReferenceGraph(triples, labels)


def dated(facts: Facts) -> GraphStore:
    spans = [parse_span(fact[3]) for fact in facts]
    return GraphStore.from_triples([fact[:3] for fact in facts], spans=[span for span in spans if span is not None])


class TestStoreInMemory(GraphContract, DatedContract, QuestionGraphContract):
    def make_dated(self, facts: Facts) -> KnowledgeGraph:
        return dated(facts)

    def make_question_graphs(self, graphs: Mapping[str, Triples]) -> KnowledgeGraph:
        return GraphStore.from_question_graphs(graphs)

    def make_graph(self, triples: Triples, labels: Labels = None) -> KnowledgeGraph:
        return GraphStore.from_triples(triples, labels=labels)


class TestStoreOnDisk(GraphContract, DatedContract, QuestionGraphContract):
    folder: ClassVar[Path]
    numbers: ClassVar = count()

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _folder(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        cls.folder = tmp_path_factory.mktemp("graphs")

    def saved(self, graph: GraphStore) -> KnowledgeGraph:
        path = self.folder / str(next(self.numbers))
        with graph:
            graph.save(path)
        return GraphStore.open(path, verify=True)

    def make_graph(self, triples: Triples, labels: Labels = None) -> KnowledgeGraph:
        return self.saved(GraphStore.from_triples(triples, labels=labels))

    def make_dated(self, facts: Facts) -> KnowledgeGraph:
        return self.saved(dated(facts))

    def make_question_graphs(self, graphs: Mapping[str, Triples]) -> KnowledgeGraph:
        return self.saved(GraphStore.from_question_graphs(graphs))


class ServedGraph(GraphClient):
    """A client that owns the server behind it: real HTTP, any free port."""

    def __init__(self, graph: KnowledgeGraph) -> None:
        self.server = BackgroundServer({"g": graph})
        super().__init__(self.server.url)

    def close(self) -> None:
        super().close()
        self.server.close()


class TestClient(GraphContract, DatedContract, QuestionGraphContract):
    def make_dated(self, facts: Facts) -> KnowledgeGraph:
        return ServedGraph(dated(facts))

    def make_question_graphs(self, graphs: Mapping[str, Triples]) -> KnowledgeGraph:
        return ServedGraph(GraphStore.from_question_graphs(graphs))

    def make_graph(self, triples: Triples, labels: Labels = None) -> KnowledgeGraph:
        return ServedGraph(GraphStore.from_triples(triples, labels=labels))
