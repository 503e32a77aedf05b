"""A small graph in memory and a server that offers it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kgr1.graph.store import GraphStore
from kgr1.server.serve import BackgroundServer

FILMS = [
    ("Alien", "directed_by", "Ridley Scott"),
    ("Alien", "starring", "Sigourney Weaver"),
    ("Aliens", "directed_by", "James Cameron"),
    ("Aliens", "starring", "Sigourney Weaver"),
]


@pytest.fixture(scope="session")
def store() -> Iterator[GraphStore]:
    graph = GraphStore.from_triples(FILMS)
    yield graph
    graph.close()


@pytest.fixture(scope="session")
def server(store: GraphStore) -> Iterator[BackgroundServer]:
    with BackgroundServer({"films": store}) as running:
        yield running
