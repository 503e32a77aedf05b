"""The pages on the server name every limit with its default, every status code and every metric."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kgr1.graph.store import GraphStore
from kgr1.server import wire
from kgr1.server.desk import Desk
from kgr1.server.metrics import Metrics
from kgr1.server.wire import ServerLimits

ROOT = Path(__file__).resolve().parents[2]
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text("utf-8")
SERVING = (ROOT / "docs" / "serving.md").read_text("utf-8")
SOURCES = [path.read_text("utf-8") for path in (ROOT / "src" / "kgr1" / "server").glob("*.py")]


@pytest.mark.parametrize("name", ServerLimits.model_fields)
def test_every_limit_stands_in_the_docs_with_its_default(name: str) -> None:
    row = re.search(rf"^\| `{name}` \| ([\d,]+)( MiB| s)? ", PROTOCOL, re.MULTILINE)
    assert row is not None
    written = float(row[1].replace(",", "")) * (2**20 if row[2] == " MiB" else 1)
    assert written == ServerLimits.model_fields[name].default


def test_every_status_stands_in_the_docs() -> None:
    raised = {code for text in SOURCES for code in re.findall(r'RequestError\(\s*\d{3}, "([A-Z_]+)"', text)}
    raised |= {code for text in SOURCES for code in re.findall(r'ErrorReply\(code="([A-Z_]+)"', text)}
    table = {
        code
        for row in re.findall(r"^\| [\d, ]+ \| (.*?) \|", PROTOCOL, re.MULTILINE)
        for code in re.findall(r"`([A-Z_]+)`", row)
    }
    assert raised == table


def test_every_endpoint_stands_in_the_docs() -> None:
    paths = {value for name, value in vars(wire).items() if name.endswith("_PATH")}
    assert {path for path in paths if path not in PROTOCOL + SERVING} == set()


def test_every_metric_stands_in_the_docs(store: GraphStore) -> None:
    page = Metrics(Desk({"films": store}, ServerLimits())).page().decode()
    names = {
        re.sub(r"_(entities|relations|question_graphs)$", "_triples", n)
        for n in re.findall(r"^# TYPE (\S+)", page, re.MULTILINE)
    }
    documented = set(re.findall(r"`(kgr1_\w+)`", SERVING))
    assert {name for name in names if not name.endswith("_created")} == documented
