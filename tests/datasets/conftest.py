"""Fixtures of the data set tests."""

from __future__ import annotations

import pytest
from dict_graph import FAMILY, DictGraph


@pytest.fixture
def family() -> DictGraph:
    return DictGraph(FAMILY)
