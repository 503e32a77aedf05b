"""An entity with a million neighbours: what a page of them needs does not grow with their number."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import polars as pl
import pytest

from kgr1.graph import GraphStore
from kgr1.graph.batches import Batch
from kgr1.graph.build import build_from_batches
from kgr1.graph.render import render
from kgr1.types import ErrorCode, Observation, Operation, Query

NEIGHBOURS = 1_000_000
MOST_BYTES = 2 << 20


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GraphStore]:
    folder = tmp_path_factory.mktemp("hub")
    numbers = pl.int_range(NEIGHBOURS, eager=True).cast(pl.String).str.zfill(7)
    facts = pl.DataFrame({"tail": "leaf " + numbers}).select(head=pl.lit("Hub"), relation=pl.lit("has"), tail="tail")
    build_from_batches([Batch(facts=facts, labels=None, rows=NEIGHBOURS)], folder / "graph")
    with GraphStore.open(folder / "graph") as store:
        yield store


def measured(store: GraphStore, query: Query) -> tuple[Observation, int]:
    """The answer and the most memory that it took, in bytes."""
    store.execute([Query(operation=Operation.GET_HEAD_RELATIONS, entity="leaf 0000000")])
    tracemalloc.start()
    try:
        (observation,) = store.execute([query])
        return observation, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("offset", [0, 500_000, NEIGHBOURS - 20])
def test_a_page_of_a_hub(hub: GraphStore, offset: int) -> None:
    query = Query(operation=Operation.GET_TAIL_ENTITIES, entity="Hub", relation="has", offset=offset, limit=20)
    observation, used = measured(hub, query)
    assert observation.names == tuple(f"leaf {offset + i:07}" for i in range(20))
    assert observation.total == NEIGHBOURS
    assert used < MOST_BYTES


def test_relations_of_a_hub_and_errors_at_it(hub: GraphStore) -> None:
    observation, used = measured(hub, Query(operation=Operation.GET_TAIL_RELATIONS, entity="Hub"))
    assert observation.names == ("has",)
    assert used < MOST_BYTES
    wrong = Query(operation=Operation.GET_TAIL_ENTITIES, entity="Hub", relation="hass")
    observation, used = measured(hub, wrong)
    assert observation.error is ErrorCode.RELATION_NOT_FOUND
    assert '"has"' in observation.message
    assert used < MOST_BYTES


def test_a_store_that_bounds_its_results(hub: GraphStore) -> None:
    assert hub.path is not None
    with GraphStore.open(hub.path, max_results=1000) as store:
        observation, used = measured(store, Query(operation=Operation.GET_TAIL_ENTITIES, entity="Hub", relation="has"))
    assert (len(observation.names), observation.total) == (1000, NEIGHBOURS)
    assert used < MOST_BYTES
    rendered = render(observation, lambda text: len(text.split()), 50)
    assert len(rendered.text.split()) <= 50
    assert "more" in rendered.text
