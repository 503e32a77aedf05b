"""Endpoints that fail: what is tried again, what becomes an observation, and what is raised."""

from __future__ import annotations

import email.utils
import json
import pickle
import socket
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

pytest.importorskip("pyoxigraph")

from sparql_servers import OxigraphEndpoint, Reply, oxigraph

from kgr1.errors import GraphServerError
from kgr1.graph.sparql import SparqlGraph, SparqlOptions, to_ntriples
from kgr1.types import ErrorCode, Observation, Operation, Query

NAMESPACE = "http://kgr1.example/"
GRAPH = "http://kgr1.example/graph"
TRIPLES = [("Alien", "starring", "John Hurt"), ("Alien", "sequel", "Aliens"), ("Aliens", "starring", "Bill Paxton")]
GOOD = Query(operation=Operation.GET_TAIL_ENTITIES, entity="Alien", relation="starring")
OTHER = Query(operation=Operation.GET_TAIL_RELATIONS, entity="Aliens")
TEXT = {"content-type": "text/plain"}


@pytest.fixture
def server() -> Iterator[OxigraphEndpoint]:
    with oxigraph() as endpoint:
        endpoint.load(to_ntriples(TRIPLES, namespace=NAMESPACE), GRAPH)
        yield endpoint


def connect(url: str, **options: object) -> SparqlGraph:
    settings = {"graph": GRAPH, "namespace": NAMESPACE, "backoff_s": 0.001, "retries": 3, "timeout_s": 60, **options}
    return SparqlGraph(url, SparqlOptions.model_validate(settings))


def play(endpoint: OxigraphEndpoint, script: Sequence[Reply | None]) -> None:
    """Answer the next queries by the script, then as usual."""
    rest = list(script)
    endpoint.instead = lambda query: rest.pop(0) if rest else None


def waits_of(graph: SparqlGraph, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the client would wait, instead of waiting."""
    waits: list[float] = []
    monkeypatch.setattr(graph.endpoint._closed, "wait", lambda seconds: waits.append(seconds) or False)
    return waits


def check_good(observation: Observation) -> None:
    assert (observation.error, observation.names) == (None, ("John Hurt",))


FAULTS = {
    "500": Reply(500, b"oops", TEXT),
    "503": Reply(503, b"", TEXT),
    "429": Reply(429, b"slow down", {**TEXT, "retry-after": "0"}),
    "garbage": Reply(200, b"{]"),
    "half": Reply(200, b'{"head": {"vars": ["n"]}, "results": {"bindings": [{"n": {"type": "liter'),
    "truncated": Reply(200, b'{"head"', missing=100),
    "no results": Reply(200, b'{"head": {}, "answer": 42}'),
    "strange values": Reply(
        200, b'{"head": {"vars": ["n"]}, "results": {"bindings": [{"n": {"type": "uri", "value": 3}}]}}'
    ),
    "other variables": Reply(200, b'{"head": {"vars": ["z"]}, "results": {"bindings": []}}'),
    "unbound variables": Reply(200, b'{"head": {"vars": ["n"]}, "results": {"bindings": [{}]}}'),
    "not objects": Reply(200, b'{"results": {"bindings": [3]}}'),
    "list": Reply(200, b"[]"),
    "not UTF-8": Reply(200, b'"\xff\xfe"'),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_passing_fault_is_tried_again(server: OxigraphEndpoint, fault: Reply) -> None:
    with connect(server.url) as graph:
        play(server, [fault, fault])
        check_good(graph.execute([GOOD])[0])
        assert server.queries[0] == server.queries[1] == server.queries[2]


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_lasting_fault_is_raised_with_the_address(server: OxigraphEndpoint, fault: Reply) -> None:
    with connect(server.url, retries=1) as graph:
        server.instead = lambda query: fault
        with pytest.raises(GraphServerError, match=r"127\.0\.0\.1") as raised:
            graph.execute([GOOD])
        assert raised.value.message.endswith(".")
        assert "\n" not in raised.value.message
        server.instead = lambda query: None
        check_good(graph.execute([GOOD])[0])


def test_backoff_doubles_with_jitter_and_a_pause_that_is_asked_for_is_kept(
    server: OxigraphEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(server.url, backoff_s=1) as graph:
        waits = waits_of(graph, monkeypatch)
        play(server, [FAULTS["503"]] * 3)
        check_good(graph.execute([GOOD])[0])
        assert [0.5 * 2**i <= wait <= 1.5 * 2**i for i, wait in enumerate(waits)] == [True] * 3
        waits.clear()
        date = email.utils.formatdate(time.time() + 40, usegmt=True)
        play(server, [Reply(429, b"", {**TEXT, "retry-after": after}) for after in ("17", date, "soon")])
        graph.execute([OTHER])
        assert waits[0] == 17
        assert 20 < waits[1] <= 41
        assert waits[2] <= 6


def test_a_pause_too_long_is_not_waited_for(server: OxigraphEndpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    with connect(server.url) as graph:
        waits = waits_of(graph, monkeypatch)
        play(server, [Reply(429, b"", {**TEXT, "retry-after": "3600"})])
        with pytest.raises(GraphServerError, match="status 429"):
            graph.execute([GOOD])
        assert waits == []


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (Reply(200, b"<html>Welcome", {"content-type": "text/html"}), "text/html instead of SPARQL results"),
        (Reply(200, b"{}", {}), "no content type instead"),
        (Reply(302, b"", {"location": "https://new.example/sparql"}), "has moved to https://new.example/sparql"),
        (Reply(308, b"", {}), "has moved to another place"),
        (Reply(404, b"<h1>Not\nFound</h1>", TEXT), "status 404: Not Found"),
        (Reply(401, b"", TEXT), "status 401"),
        (Reply(405, b"", TEXT), "status 405"),
    ],
    ids=lambda value: str(value.status) if isinstance(value, Reply) else "",
)
def test_an_address_that_is_no_endpoint_is_not_asked_twice(server: OxigraphEndpoint, reply: Reply, says: str) -> None:
    with connect(server.url) as graph:
        server.instead = lambda query: reply
        with pytest.raises(GraphServerError, match=says):
            graph.execute([GOOD])
        assert len(server.queries) == 1
        with pytest.raises(GraphServerError, match=says):
            graph.check()


def refuse(part: str, reply: Reply) -> Callable[[str], Reply | None]:
    return lambda query: reply if part in query and "VALUES" in query else None


@pytest.mark.parametrize(
    "reply",
    [
        Reply(400, b"query too long", TEXT),
        Reply(500, b"Estimated execution time exceeds the limit", TEXT),
        Reply(200, b'{"results": {"bindings": []}}', {"content-type": "application/json", "x-sql-state": "S1TAT"}),
        Reply(delay_s=2.5),
    ],
    ids=["400", "500", "partial", "slow"],
)
@pytest.mark.parametrize("names", ["local", "remote"])
def test_a_query_that_is_refused_does_not_spoil_its_batch(server: OxigraphEndpoint, reply: Reply, names: str) -> None:
    with connect(server.url, names=names, retries=0, timeout_s=1 if reply.delay_s else 60) as graph:
        graph.execute([Query(operation=Operation.GET_HEAD_RELATIONS, entity="Aliens"), GOOD])  # learns the names
        server.instead = refuse(f"<{NAMESPACE}Alien> <{NAMESPACE}starring>", reply)
        found = graph.execute([OTHER, GOOD, OTHER])
        assert found[1].error is ErrorCode.SERVER_ERROR
        assert found[1].query == GOOD
        assert found[1].message.endswith("ask for something smaller.")
        assert [observation.names for observation in found[::2]] == [("starring",)] * 2


def test_a_name_that_an_endpoint_chokes_on_does_not_spoil_its_batch(server: OxigraphEndpoint) -> None:
    with connect(server.url, names="remote", retries=0) as graph:
        server.instead = lambda query: Reply(400, b"bad name", TEXT) if "choke" in query.casefold() else None
        found = graph.execute([GOOD, Query(operation=Operation.GET_TAIL_RELATIONS, entity="Choke"), OTHER])
        assert [one.error for one in found] == [None, ErrorCode.SERVER_ERROR, None]


def test_names_that_cannot_be_looked_up_are_an_observation(server: OxigraphEndpoint) -> None:
    with connect(server.url, names="local", retries=0) as graph:
        server.instead = lambda query: Reply(500, b"", TEXT) if "UNION" in query else None
        (found,) = graph.execute([GOOD])
        assert found.error is ErrorCode.SERVER_ERROR
        server.instead = lambda query: None
        check_good(graph.execute([GOOD])[0])


def test_searches_that_take_too_long_are_given_up(server: OxigraphEndpoint) -> None:
    with connect(server.url, names="remote", scan_timeout_s=0.2, timeout_s=60) as graph:
        server.instead = lambda query: Reply(delay_s=1) if "LCASE(STR(?l)) IN" in query or "CONTAINS" in query else None
        for _ in range(3):
            found = graph.execute([Query(operation=Operation.GET_TAIL_RELATIONS, entity="aLiEnX"), GOOD])
            assert found[0].error is ErrorCode.ENTITY_NOT_FOUND
            check_good(found[1])
        assert sum("LCASE(STR(?l)) IN" in query for query in server.queries) == 1


def test_relations_that_cannot_be_listed_are_looked_up(server: OxigraphEndpoint) -> None:
    with connect(server.url, names="remote") as graph:
        server.instead = lambda query: Reply(400, b"", TEXT) if query.startswith("SELECT DISTINCT ?p ") else None
        check_good(graph.execute([GOOD.model_copy(update={"relation": "Starring"})])[0])
        assert graph.execute([GOOD.model_copy(update={"relation": "xyz"})])[0].error is ErrorCode.RELATION_NOT_FOUND


def test_lone_surrogates_from_an_endpoint_are_refused(server: OxigraphEndpoint) -> None:
    names = ["n", "e", "p", "lp", "l"]
    bindings = [{name: {"type": "literal", "value": "\ud800"} for name in names}]
    body = json.dumps({"head": {"vars": names}, "results": {"bindings": bindings}}).encode()
    with connect(server.url, retries=0) as graph:
        server.instead = lambda query: Reply(body=body) if "ASK" not in query else None
        (found,) = graph.execute([GOOD])
        assert found.error is ErrorCode.SERVER_ERROR


def spoil(endpoint: OxigraphEndpoint, *addresses: str) -> None:
    """Put signs into some addresses that no address can have."""

    def answer(query: str) -> Reply:
        body = endpoint.answer(query)
        for address in addresses:
            body = body.replace(f'"{address}"'.encode(), f'"{address}|"'.encode())
        return Reply(body=body)

    endpoint.instead = answer


@pytest.mark.parametrize("names", ["local", "remote"])
def test_addresses_that_are_none_are_left_out(server: OxigraphEndpoint, names: str) -> None:
    spoil(server, f"{NAMESPACE}Aliens")
    with connect(server.url, names=names) as graph:
        odd = Query(operation=Operation.GET_TAIL_ENTITIES, entity="Alien", relation="sequel")
        good, found = graph.execute([GOOD, odd])
        check_good(good)
        assert (found.error, found.total) == (ErrorCode.NO_RESULTS, 0)
        assert found.message == '"Alien" is not the subject of "sequel"; it has "starring" there.'
        listed = graph.execute([Query(operation=Operation.GET_TAIL_RELATIONS, entity="Alien")])[0]
        assert listed.names == ("sequel", "starring")


@pytest.mark.parametrize("sort_rows", [1000, 5])
@pytest.mark.parametrize("names", ["local", "remote"])
def test_addresses_that_are_none_do_not_end_the_pages(server: OxigraphEndpoint, names: str, sort_rows: int) -> None:
    leaves = [f"leaf{number:02}" for number in range(35)]
    server.load(to_ntriples([("hub", "has", leaf) for leaf in leaves], namespace=NAMESPACE), GRAPH)
    odd = {*leaves[9:20], leaves[29], leaves[34]}  # at the end of a page, a whole page, and at the end of all
    spoil(server, *(NAMESPACE + leaf for leaf in odd))
    with connect(server.url, names=names, page_rows=10, sort_rows=sort_rows) as graph:
        (found,) = graph.execute([Query(operation=Operation.GET_TAIL_ENTITIES, entity="hub", relation="has")])
        assert list(found.names) == [leaf for leaf in leaves if leaf not in odd]
        assert found.total == (len(leaves) if sort_rows == 5 else len(found.names))


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with connect(f"http://127.0.0.1:{port}/sparql", retries=1) as graph:
        with pytest.raises(GraphServerError, match="did not answer in 2 attempts"):
            graph.execute([GOOD])
        with pytest.raises(GraphServerError, match="did not answer"):
            graph.info()


@pytest.mark.parametrize("url", ["", "x", "ftp://x/sparql", "http://", "http://a b/", "http://x/#y", "http://[x"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(GraphServerError, match="is not the address of a SPARQL endpoint"):
        SparqlGraph(url)


def test_closed_and_pickled(server: OxigraphEndpoint) -> None:
    graph = connect(server.url)
    copy = pickle.loads(pickle.dumps(graph))
    graph.close()
    with pytest.raises(GraphServerError, match="was closed"):
        graph.execute([GOOD])
    with pytest.raises(GraphServerError, match="was closed"):
        graph.execute([])
    check_good(copy.execute([GOOD])[0])
    assert copy.options == graph.options
    copy.close()


def test_a_wrong_query_asks_nothing(server: OxigraphEndpoint) -> None:
    with connect(server.url) as graph:
        found = graph.execute([OTHER.model_copy(update={"relation": "x"}), GOOD.model_copy(update={"time": "2014"})])
        assert [observation.error for observation in found] == [ErrorCode.FORMAT_ERROR] * 2
        assert "no dates" in found[1].message
        assert server.queries == []
