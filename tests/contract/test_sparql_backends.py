"""SPARQL endpoints pass the contract: pyoxigraph and Virtuoso, with names fetched and with names looked up remotely."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import pytest
from graph_contract import GraphContract
from question_graph_contract import QuestionGraphContract

from kgr1.graph.api import KnowledgeGraph
from kgr1.graph.sparql import SparqlGraph, SparqlOptions, to_ntriples

pytest.importorskip("pyoxigraph")
sys.path.append(str(Path(__file__).resolve().parents[1] / "graph"))

from sparql_servers import ISQL, VIRTUOSO, oxigraph, virtuoso

Triples = Sequence[tuple[str, str, str]]
Labels = Mapping[str, str] | None
NAMESPACE = "http://kgr1.example/"


@pytest.fixture(scope="module")
def oxigraph_server() -> Iterator[Any]:
    with oxigraph() as server:
        yield server


@pytest.fixture(scope="module")
def virtuoso_server() -> Iterator[Any]:
    if VIRTUOSO is None or ISQL is None:
        pytest.skip("needs virtuoso-t and isql-vt (Debian: virtuoso-opensource-7-bin)")
    with virtuoso() as server:
        yield server


class EndpointContract(GraphContract, QuestionGraphContract):
    """Every graph of a test is a named graph of one server."""

    server: ClassVar[Any]
    numbers: ClassVar = count()
    names: ClassVar[str] = "auto"

    def make_graph(self, triples: Triples, labels: Labels = None) -> KnowledgeGraph:
        graph = f"http://kgr1.example/graph/{next(self.numbers)}"
        self.server.load(to_ntriples(triples, labels, namespace=NAMESPACE), graph)
        return self.connect(graph=graph)

    def make_question_graphs(self, graphs: Mapping[str, Triples]) -> KnowledgeGraph:
        number = next(self.numbers)
        whole, prefix = f"http://kgr1.example/graph/{number}", f"http://kgr1.example/questions/{number}/"
        for graph_id, triples in graphs.items():
            lines = list(to_ntriples(triples, namespace=NAMESPACE))
            self.server.load(lines, prefix + quote(graph_id))
            self.server.load(lines, whole)
        return self.connect(graph=whole, graph_prefix=prefix)

    def connect(self, **options: object) -> KnowledgeGraph:
        settings = {"namespace": NAMESPACE, "names": self.names, "timeout_s": 300, "scan_timeout_s": 300, **options}
        return SparqlGraph(self.server.url, SparqlOptions.model_validate(settings))


class OxigraphContract(EndpointContract):
    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _server(cls, oxigraph_server: Any) -> None:
        cls.server = oxigraph_server


class VirtuosoContract(EndpointContract):
    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _server(cls, virtuoso_server: Any) -> None:
        cls.server = virtuoso_server


class TestOxigraphLocalNames(OxigraphContract):
    names = "local"


class TestOxigraphRemoteNames(OxigraphContract):
    names = "remote"


class TestVirtuosoLocalNames(VirtuosoContract):
    names = "local"


class TestVirtuosoRemoteNames(VirtuosoContract):
    names = "remote"
