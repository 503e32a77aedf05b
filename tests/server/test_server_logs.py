"""Request ids and log lines."""

from __future__ import annotations

import io
import json
import logging
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from faults import Interposed

from kgr1.graph.store import GraphStore
from kgr1.server.logs import JsonFormatter, LogSettings, TextFormatter, configure
from kgr1.server.serve import BackgroundServer

DIRECTORS = {"operation": "get_tail_entities", "entity": "Alien", "relation": "directed_by"}
NOBODY = {"operation": "get_tail_relations", "entity": "secret name"}


class Written(io.StringIO):
    """A stand-in for stderr."""

    def lines(self, count: int) -> list[str]:
        """The lines, once there are that many: a reply leaves before its line is written."""
        deadline = time.monotonic() + 5
        while len(self.getvalue().splitlines()) < count and time.monotonic() < deadline:
            time.sleep(0.01)
        found = self.getvalue().splitlines()
        assert len(found) == count
        return found

    def records(self, count: int) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines(count)]


@pytest.fixture
def stderr(monkeypatch: pytest.MonkeyPatch) -> Iterator[Written]:
    """What the server writes after ``configure``; logging is as before afterwards."""
    stream = Written()
    monkeypatch.setattr("kgr1.server.logs.sys", SimpleNamespace(stderr=stream))
    kept = [(log, log.handlers[:], log.level, log.propagate) for log in map(logging.getLogger, ("kgr1", "uvicorn"))]
    yield stream
    for log, handlers, level, propagate in kept:
        log.handlers[:], log.propagate = handlers, propagate
        log.setLevel(level)


def test_one_json_line_a_request(server: BackgroundServer, stderr: Written) -> None:
    configure(LogSettings(format="json"))
    response = httpx.post(f"{server.url}/v1/query", json={"queries": [DIRECTORS, NOBODY]})
    httpx.get(f"{server.url}/nothing?secret=1", headers={"X-Request-ID": "abc-1"})
    first, second = stderr.records(2)
    assert first["message"] == "request"
    assert first["logger"] == "kgr1.server.requests"
    assert first["request_id"] == response.headers["x-request-id"]
    assert (first["method"], first["path"], first["status"]) == ("POST", "/v1/query", 200)
    assert (first["graph"], first["queries"], first["failed"]) == ("films", 2, 1)
    assert first["bytes"] == len(response.content)
    assert 0 < first["ms"] < 10_000
    assert first["time"].endswith("+00:00")
    assert (second["request_id"], second["status"], second["queries"]) == ("abc-1", 404, 0)
    assert "secret" not in stderr.getvalue()


def test_text_lines(server: BackgroundServer, stderr: Written) -> None:
    configure(LogSettings(format="text"))
    httpx.post(f"{server.url}/v1/query", json={"queries": [DIRECTORS]}, headers={"X-Request-ID": "r1"})
    (line,) = stderr.lines(1)
    assert " INFO kgr1.server.requests: request request_id=r1 method=POST path=/v1/query status=200 ms=" in line


def test_levels(server: BackgroundServer, stderr: Written) -> None:
    configure(LogSettings(format="json", level="warning"))
    httpx.get(f"{server.url}/healthz")
    assert stderr.getvalue() == ""
    configure(LogSettings())  # changes nothing
    assert logging.getLogger("kgr1").level == logging.WARNING


def test_a_client_cannot_forge_lines(server: BackgroundServer, stderr: Written) -> None:
    for number, form in enumerate(("json", "text"), start=1):
        configure(LogSettings(format=form))  # type: ignore[arg-type]
        httpx.get(f"{server.url}/%0a%0dforged%1b[31m%e2%80%a8")
        stderr.lines(number)  # a line that is on its way when the form changes is written in both
    assert "\x1b" not in stderr.getvalue()


@pytest.mark.parametrize("given", ["a" * 64, "A-b_c.d:9"])
def test_sane_request_ids_come_back(server: BackgroundServer, given: str) -> None:
    assert httpx.get(f"{server.url}/healthz", headers={"x-request-id": given}).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "a" * 65, "a b", 'a"', "<script>", "é"])
def test_other_request_ids_are_replaced(server: BackgroundServer, given: str) -> None:
    headers = [(b"x-request-id", given.encode())]
    made = httpx.get(f"{server.url}/healthz", headers=headers).headers["x-request-id"]
    assert made != given
    assert len(made) == 16


def test_an_internal_error_names_the_request_in_the_log(
    store: GraphStore, stderr: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: object, body: bytes) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("kgr1.server.desk.Desk.answer", fail)
    configure(LogSettings(format="json"))
    with BackgroundServer({"films": Interposed(store, lambda queries: None)}) as server:
        response = httpx.post(f"{server.url}/v1/query", json={"queries": [DIRECTORS]})
    assert (response.status_code, response.json()["code"]) == (500, "INTERNAL")
    failure, line = stderr.records(2)
    request_id = response.headers["x-request-id"]
    assert failure["message"] == f"request {request_id} failed"
    assert "secret detail" in failure["error"]
    assert (line["request_id"], line["status"]) == (request_id, 500)


def test_formats_of_other_records() -> None:
    record = logging.LogRecord("kgr1.x", logging.WARNING, __file__, 1, "line\n%s", ("two",), None)
    line = TextFormatter().format(record)
    assert line.endswith(" WARNING kgr1.x: line\\ntwo")
    assert json.loads(JsonFormatter().format(record))["message"] == "line\ntwo"
