"""What the server counts."""

from __future__ import annotations

import threading
from pathlib import Path

import httpx
import pytest
from faults import Interposed
from prometheus_client.parser import text_string_to_metric_families

from kgr1.graph.store import GraphStore
from kgr1.server.metrics import FOLDER_VARIABLE, forget_process, shared_folder
from kgr1.server.serve import BackgroundServer

DIRECTORS = {"operation": "get_tail_entities", "entity": "Alien", "relation": "directed_by"}
NOBODY = {"operation": "get_tail_relations", "entity": "nobody"}


def metrics(url: str) -> dict[str, float]:
    response = httpx.get(f"{url}/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    found = {}
    for family in text_string_to_metric_families(response.text):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def test_requests_queries_and_batches(store: GraphStore) -> None:
    with BackgroundServer({"films": store}) as server:
        for queries in ([DIRECTORS] * 3, [NOBODY, None]):
            httpx.post(f"{server.url}/v1/query", json={"queries": queries})
        httpx.post(f"{server.url}/v1/query", content=b"{")
        httpx.post(f"{server.url}/v1/stream", content=b'{"operation": "get_tail_relations", "entity": "Alien"}\n' * 2)
        for made_up in ("/a", "/b"):
            httpx.get(server.url + made_up)
        found = metrics(server.url)
    assert found["kgr1_requests_total{path=/v1/query,status=200}"] == 2
    assert found["kgr1_requests_total{path=/v1/query,status=400}"] == 1
    assert found["kgr1_requests_total{path=/v1/stream,status=200}"] == 1
    assert found["kgr1_requests_total{path=other,status=404}"] == 2
    assert found["kgr1_queries_total{graph=films,operation=get_tail_entities,outcome=OK}"] == 3
    assert found["kgr1_queries_total{graph=films,operation=get_tail_relations,outcome=OK}"] == 2
    assert found["kgr1_queries_total{graph=films,operation=get_tail_relations,outcome=KG_ENTITY_NOT_FOUND}"] == 1
    assert found["kgr1_queries_total{graph=films,operation=none,outcome=KG_FORMAT_ERROR}"] == 1
    assert found["kgr1_batch_seconds_count{path=/v1/query}"] == 2
    assert found["kgr1_batch_queries_sum{path=/v1/query}"] == 5
    assert found["kgr1_batch_queries_bucket{le=2.0,path=/v1/query}"] == 1
    assert found["kgr1_graph_triples{graph=films}"] == 4
    assert found["kgr1_graph_entities{graph=films}"] == 5
    assert found["kgr1_requests_in_flight"] == 1  # the request for the metrics


def test_requests_in_flight(store: GraphStore) -> None:
    inside, release = threading.Event(), threading.Event()

    def hang(queries: object) -> None:
        inside.set()
        release.wait(10)

    with BackgroundServer({"films": Interposed(store, hang)}) as server:
        asking = threading.Thread(
            target=httpx.post, args=(f"{server.url}/v1/query",), kwargs={"json": {"queries": [DIRECTORS]}}
        )
        asking.start()
        assert inside.wait(10)
        assert metrics(server.url)["kgr1_requests_in_flight"] == 2
        release.set()
        asking.join()
        assert metrics(server.url)["kgr1_requests_in_flight"] == 1


def test_a_graph_that_clients_make_up_is_no_label(store: GraphStore) -> None:
    with BackgroundServer({"films": store}) as server:
        httpx.post(f"{server.url}/v1/query", json={"graph": "made up", "queries": [DIRECTORS]})
        text = httpx.get(f"{server.url}/metrics").text
    assert "made up" not in text
    assert 'graph="unknown"' in text


def test_two_servers_of_one_process_count_apart(store: GraphStore) -> None:
    with BackgroundServer({"films": store}) as first, BackgroundServer({"films": store}) as second:
        httpx.post(f"{first.url}/v1/query", json={"queries": [DIRECTORS]})
        assert "kgr1_requests_total{path=/v1/query,status=200}" in metrics(first.url)
        assert "kgr1_requests_total{path=/v1/query,status=200}" not in metrics(second.url)


def test_the_shared_folder_is_gone_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, "before")
    with shared_folder() as folder:
        assert folder.is_dir()
        (folder / "gauge_livesum_12.db").write_bytes(b"")
        forget_process(12, folder)
        forget_process(None, folder)
        assert list(folder.iterdir()) == []
    assert not folder.exists()
    assert Path(__import__("os").environ[FOLDER_VARIABLE]) == Path("before")
