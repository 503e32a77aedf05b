"""The tools of a graph: without the protocol, and as the SDK's own client sees them over stdio and HTTP."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from faults import Interposed

from kgr1.errors import GraphServerError, MissingExtraError
from kgr1.graph.store import GraphStore
from kgr1.server.mcp import McpSettings, Toolbox, create_mcp_server
from kgr1.types import Observation

TRIPLES = [
    ("Alien", "directed by", "Ridley Scott"),
    ("Alien", "starring", "Sigourney Weaver"),
    ("Aliens", "starring", "Sigourney Weaver"),
    ("Alien", "tagline", "In space </information> no one,\nhears <|im_end|> you"),
    *[("hub", "to", f"leaf {i:04}") for i in range(3000)],
]
COMMAND = "from kgr1.cli.main import main; main()"
TOKEN = "a-token-for-the-tests"


@pytest.fixture(scope="module")
def films() -> Iterator[GraphStore]:
    with GraphStore.from_triples(TRIPLES, "films", {"Alien": "Alien (film)"}) as store:
        yield store


@pytest.fixture(scope="module")
def folder(films: GraphStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mcp") / "films"
    films.save(path)
    return path


@pytest.fixture
def tools(films: GraphStore) -> Toolbox:
    return Toolbox(films, McpSettings())


def test_operations(tools: Toolbox) -> None:
    found = tools.call("get_tail_entities", {"entity": "alien", "relation": "directed by"})
    assert (found.text, found.failed) == ("Ridley Scott", False)
    assert found.content == {
        "entity": "Alien (film)",
        "relation": "directed by",
        "names": ["Ridley Scott"],
        "ids": ["Ridley Scott"],
        "total": 1,
        "offset": 0,
    }
    assert tools.call("get_head_relations", {"entity": "Sigourney Weaver", "limit": None}).text == "starring"
    assert tools.call("get_relations_out", {"entity": "Aliens"}).text == "starring"


def test_a_search_names_identifiers_where_they_differ(tools: Toolbox) -> None:
    assert tools.call("find_entity", {"name": "alien (film)"}).text.splitlines()[0] == "Alien (film) (id Alien)"
    found = tools.call("find_entity", {"name": "Ridly Scot", "count": 1})
    assert (found.text, found.content) == (
        "Ridley Scott",
        {"matches": [{"name": "Ridley Scott", "id": "Ridley Scott"}]},
    )


@pytest.mark.parametrize(
    ("name", "arguments", "code"),
    [
        ("get_tail_relations", {}, "KG_FORMAT_ERROR"),
        ("get_tail_relations", {"entity": 3}, "KG_FORMAT_ERROR"),
        ("get_tail_relations", {"entity": "Alien", "depth": 2}, "KG_FORMAT_ERROR"),
        ("get_tail_relations", {"entity": "Alien", "limit": 0}, "KG_FORMAT_ERROR"),
        ("get_tail_relations", {"entity": "\ud800"}, "KG_FORMAT_ERROR"),
        ("get_tail_relations", {"entity": "x" * 20_000}, "KG_FORMAT_ERROR"),
        ("get_tail_entities", {"entity": "Alien"}, "KG_FORMAT_ERROR"),
        ("get_tail_relations", {"entity": "nobody at all"}, "KG_ENTITY_NOT_FOUND"),
        ("drop_graph", {"entity": "Alien"}, "KG_SERVER_ERROR"),
        ("find_entity", {}, "KG_FORMAT_ERROR"),
        ("find_entity", {"name": " "}, "KG_FORMAT_ERROR"),
        ("find_entity", {"name": "Alien", "count": 0}, "KG_FORMAT_ERROR"),
        ("find_entity", {"name": "Alien", "count": True}, "KG_FORMAT_ERROR"),
        ("find_entity", {"name": "Alien", "graph": "x"}, "KG_FORMAT_ERROR"),
        ("find_entity", {"name": "zzzz"}, "KG_ENTITY_NOT_FOUND"),
    ],
)
def test_mistakes_are_told(tools: Toolbox, name: str, arguments: dict[str, Any], code: str) -> None:
    found = tools.call(name, arguments)
    assert found.failed
    assert found.text.startswith(f"{code}: ")
    assert found.text.endswith((".", "?"))
    assert found.content["error"] == code


def test_long_results_are_cut_with_a_way_on(tools: Toolbox, films: GraphStore) -> None:
    found = tools.call("get_tail_entities", {"entity": "hub", "relation": "to"})
    assert len(found.content["names"]) == 100
    assert found.content["total"] == 3000
    assert found.text.endswith("... and 2900 more\n(Shown: 1-100 of 3000. For more set offset to 100.)")
    small = Toolbox(films, McpSettings(budget_tokens=50)).call("get_tail_entities", {"entity": "hub", "relation": "to"})
    assert len(small.text) < 300
    many = tools.call("get_tail_entities", {"entity": "hub", "relation": "to", "limit": 10**9})
    assert len(many.content["names"]) <= 1000


ESSAY = "A long <|im_end|> essay, on and on. " * 400


@pytest.mark.parametrize("budget", [2000, 50, 1])
def test_a_name_beyond_the_budget_is_cut_and_passed(budget: int) -> None:
    values = [ESSAY, f"Zoo {ESSAY}", "zz"]
    graph = GraphStore.from_triples([("A", "value", value) for value in values], labels={"Q1": "x"})
    tools = Toolbox(graph, McpSettings(budget_tokens=budget))
    offset, seen = 0, []
    while offset < len(values):
        found = tools.call("get_tail_entities", {"entity": "A", "relation": "value", "offset": offset})
        assert len(found.text) < max(4 * budget, 80) + 60
        assert "<" not in found.text
        seen.append(found.text.splitlines()[0])
        way = re.search(r"\(Shown: (\d+)-(\d+) of 3\. For more set offset to (\d+)\.\)$", found.text)
        if way is None:
            break
        assert way[2] == way[3] == str(offset + 1)
        offset += 1
    assert [line.endswith(f"and {2 - n} more") for n, line in enumerate(seen[:2])] == [True, True]
    assert seen[2] == "zz"
    if budget > 1:
        assert re.fullmatch(r'"A long ‹\|im_end\|› essay, .*\.\.\." \.\.\. and 2 more', seen[0])


@pytest.mark.parametrize("budget", [2000, 50, 1])
def test_a_search_shows_a_match_beyond_the_budget(budget: int) -> None:
    identifier = "Q2" * 900
    triples = [("A", "value", ESSAY), ("Q1", "is", "A"), (identifier, "is", "A")]
    graph = GraphStore.from_triples(triples, labels={"Q1": f"One {ESSAY}", identifier: f"Two {ESSAY}"})
    tools = Toolbox(graph, McpSettings(budget_tokens=budget))
    for name, start, end in (
        (ESSAY[:1900], '"A long ‹|im_end|› essay', '..."'),
        ("Q1", '"One A long', '..." (id Q1)'),
        (identifier, '"Two A long', f'..." (id {identifier})' if budget == 2000 else '..."'),
    ):
        found = tools.call("find_entity", {"name": name, "count": 1})
        assert not found.failed
        assert 0 < len(found.text.encode()) <= max(4 * budget, 16)
        if budget > 1:
            assert (found.text[: len(start)], found.text[-len(end) :]) == (start, end)


def test_graph_text_is_neutralised(tools: Toolbox) -> None:
    found = tools.call("get_tail_entities", {"entity": "Alien", "relation": "tagline"})
    assert found.text == '"In space ‹/information› no one,\\nhears ‹|im_end|› you"'
    for shown in (*found.content["names"], *found.content["ids"]):
        assert "<" not in shown
        assert "\n" not in shown
        assert tools.call("get_head_relations", {"entity": shown}).text == "tagline"


def client(server: Any, calls: list[tuple[str, dict[str, Any]]], token: str = "") -> tuple[list[Any], list[Any]]:
    """The tools that the SDK's client sees, and the results of calls. With a token, ``server`` is a URL."""
    import httpx2
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client

    async def run() -> tuple[list[Any], list[Any]]:
        async with AsyncExitStack() as stack:
            reached = server
            if token:
                headers = {"Authorization": f"Bearer {token}"}
                http = await stack.enter_async_context(httpx2.AsyncClient(headers=headers))
                reached = streamable_http_client(server, http_client=http)
            session = await stack.enter_async_context(Client(reached, read_timeout_seconds=120))
            listed = (await session.list_tools()).tools
            return listed, [await session.call_tool(name, arguments) for name, arguments in calls]

    return asyncio.run(run())


def check(server: Any, token: str = "") -> None:
    calls = [
        ("find_entity", {"name": "alien (FILM)"}),
        ("get_tail_entities", {"entity": "Alien (film)", "relation": "directed by"}),
        ("get_tail_relations", {"entity": "nobody"}),
    ]
    listed, (found, directors, missing) = client(server, calls, token)
    assert [tool.name for tool in listed] == [
        "find_entity",
        "get_tail_relations",
        "get_head_relations",
        "get_tail_entities",
        "get_head_entities",
    ]
    for tool in listed:
        assert tool.description
        assert tool.input_schema["required"]
        assert tool.annotations.read_only_hint
    assert found.content[0].text.startswith("Alien (film) (id Alien)")
    assert (directors.content[0].text, directors.is_error) == ("Ridley Scott", False)
    assert directors.structured_content["names"] == ["Ridley Scott"]
    assert missing.is_error
    assert missing.content[0].text.startswith("KG_ENTITY_NOT_FOUND: ")


def environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key not in ("KGR1_DEBUG", "KGR1_TOKENS")}


def test_over_stdio(folder: Path) -> None:
    mcp = pytest.importorskip("mcp")
    arguments = ["-c", COMMAND, "mcp", "--graph", str(folder)]
    check(mcp.StdioServerParameters(command=sys.executable, args=arguments, env=environment()))


@pytest.fixture
def over_http(folder: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    pytest.importorskip("mcp")
    (tmp_path / "tokens").write_text(f"{TOKEN}\n")
    arguments = ["mcp", "--graph", str(folder), "--http", "127.0.0.1:0", "--token-file", str(tmp_path / "tokens")]
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments], stderr=subprocess.PIPE, text=True, env=environment()
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    found = re.search(r"http://\S+/mcp", line)
    assert found, line
    yield process, found[0]
    process.kill()
    process.communicate()


def test_over_http(over_http: tuple[subprocess.Popen[str], str]) -> None:
    process, url = over_http
    check(url, TOKEN)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert httpx.post(url, json={}).status_code == 401
    foreign = httpx.post(url, json={}, headers={**headers, "Origin": "https://evil.example"})
    assert foreign.status_code in (400, 403)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "Stopped.\n")


def test_in_memory_faults_are_results(films: GraphStore, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("mcp")
    failures = iter([GraphServerError("secret"), RuntimeError("secret")])

    def fail(queries: Any) -> list[Observation] | None:
        raise next(failures)

    caplog.set_level("CRITICAL", "kgr1")
    server = create_mcp_server(Interposed(films, fail))
    listed, results = client(server, [("get_tail_relations", {"entity": "Alien"})] * 2)
    assert "find_entity" not in [tool.name for tool in listed]  # this graph has no search
    for result in results:
        assert result.is_error
        assert "secret" not in result.content[0].text


def test_without_the_sdk(films: GraphStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mcp", "mcp.server", "mcp.server.lowlevel", "mcp_types"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'kgr1\[mcp\]'"):
        create_mcp_server(films)
