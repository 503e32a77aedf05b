"""Fixtures of the data set tests."""

from __future__ import annotations

import pytest
from small_graphs import FAMILY

from kgr1.graph.store import GraphStore


@pytest.fixture
def family() -> GraphStore:
    return GraphStore.from_triples(FAMILY)
