"""Access tokens: who is let in, and that no token is ever shown."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import httpx
import pytest

from kgr1.errors import GraphServerError
from kgr1.graph.store import GraphStore
from kgr1.server.app import ServerOptions
from kgr1.server.client import GraphClient
from kgr1.server.serve import BackgroundServer
from kgr1.server.tokens import CLIENT_VARIABLE, SERVER_VARIABLE, Secret, Tokens
from kgr1.types import Operation, Query

FIRST, SECOND, WRONG = "first-token-0123456789", "second.token~0123456789", "wrong-token-0123456789"
DIRECTORS = Query(operation=Operation.GET_TAIL_ENTITIES, entity="Alien", relation="directed_by")
GUARDED = ServerOptions(tokens=Tokens([FIRST, SECOND]))


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CLIENT_VARIABLE, raising=False)
    monkeypatch.delenv(SERVER_VARIABLE, raising=False)


def get(url: str, path: str, authorization: str | None = None) -> httpx.Response:
    headers = {} if authorization is None else {"Authorization": authorization}
    return httpx.get(url + path, headers=headers)


def test_only_known_tokens_are_let_in(store: GraphStore) -> None:
    with BackgroundServer({"films": store}, options=GUARDED) as server:
        for good in (f"Bearer {FIRST}", f"bearer {SECOND}", f"Bearer   {FIRST}"):
            assert get(server.url, "/v1/graphs", good).status_code == 200
        for bad in (
            f"Bearer {WRONG}",
            FIRST,
            f"Basic {FIRST}",
            "Bearer",
            "",
            f"Bearer {FIRST}x",
            f"Bearer {FIRST[:-1]}",
        ):
            response = get(server.url, "/v1/graphs", bad)
            assert response.status_code == 401
            assert response.json()["code"] == "UNAUTHORIZED"
            assert response.headers["www-authenticate"] == 'Bearer realm="kgr1", error="invalid_token"'
            assert WRONG not in response.text
        assert get(server.url, "/v1/graphs").headers["www-authenticate"] == 'Bearer realm="kgr1"'


@pytest.mark.parametrize("path", ["/v1/query", "/v1/stream", "/v1/graphs", "/openapi.json", "/nothing", "/healthz/x"])
def test_everything_but_health_and_metrics_is_closed(store: GraphStore, path: str) -> None:
    with BackgroundServer({"films": store}, options=GUARDED) as server:
        for method in ("GET", "POST", "OPTIONS"):
            assert httpx.request(method, server.url + path).status_code == 401
        assert get(server.url, "/healthz").status_code == 200
        assert get(server.url, "/metrics").status_code == 200


def test_metrics_are_closed_if_asked_for(store: GraphStore) -> None:
    with BackgroundServer({"films": store}, options=GUARDED._replace(protect_metrics=True)) as server:
        assert get(server.url, "/metrics").status_code == 401
        assert get(server.url, "/metrics", f"Bearer {FIRST}").status_code == 200


def test_a_refused_body_is_read_so_that_the_reply_arrives(store: GraphStore) -> None:
    with BackgroundServer({"films": store}, options=GUARDED) as server:
        assert httpx.post(f"{server.url}/v1/query", content=b" " * 5_000_000).status_code == 401


def test_the_client_sends_its_token(store: GraphStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with BackgroundServer({"films": store}, options=GUARDED) as server:
        with GraphClient(server.url, token=SECOND) as client:
            assert client.execute([DIRECTORS])[0].ok
            assert next(client.stream([DIRECTORS])).ok
            with pickle.loads(pickle.dumps(client)) as other:
                assert other.execute([DIRECTORS])[0].ok
        monkeypatch.setenv(CLIENT_VARIABLE, FIRST)
        with GraphClient(server.url) as client:
            assert client.execute([DIRECTORS])[0].ok
        with GraphClient(server.url, token="") as client, pytest.raises(GraphServerError, match="asks for a token"):
            client.info()


def test_tokens_are_never_shown(store: GraphStore, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with BackgroundServer({"films": store}, options=GUARDED) as server, GraphClient(server.url, token=WRONG) as client:
        with pytest.raises(GraphServerError, match="does not know this token") as caught:
            client.execute([DIRECTORS])
        shown = [str(caught.value), repr(caught.value), repr(client), repr(client.__reduce__()), repr(GUARDED)]
        shown += [str(caught.value.details), caplog.text, repr(Secret(WRONG)), str(Secret(WRONG)), repr(vars(Secret))]
    assert pickle.dumps(GUARDED).find(FIRST.encode()) < 0
    for text in shown:
        assert WRONG not in text
        assert FIRST not in text
    assert repr(GUARDED.tokens) == "<Tokens: 2>"


def test_tokens_come_from_a_file_and_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"# people\n\n{FIRST}  # of the first\n")
    tokens = Tokens.load(file, {SERVER_VARIABLE: f"{SECOND}, another-token-012345"})
    assert repr(tokens) == "<Tokens: 3>"
    for token in (FIRST, SECOND, "another-token-012345"):
        assert tokens.accept(f"Bearer {token}".encode())
    assert not tokens.accept(f"Bearer {WRONG}".encode())
    assert not Tokens.load(None, {})


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b"", "holds no token"),
        (b"# nothing\n", "holds no token"),
        (b"short\n", "at least 16 characters"),
        (b"two words of a token 0123\n", "without blanks"),
        ("tökentökentökentöken\n".encode(), "visible ASCII"),
        (b"\xff\xfe", "is not text"),
    ],
)
def test_bad_token_files_stop_the_server(tmp_path: Path, content: bytes, hint: str) -> None:
    file = tmp_path / "tokens"
    file.write_bytes(content)
    with pytest.raises(GraphServerError, match=hint) as caught:
        Tokens.load(file, {})
    assert "words" not in str(caught.value)


def test_missing_token_sources(tmp_path: Path) -> None:
    with pytest.raises(GraphServerError, match="Cannot read the token file"):
        Tokens.load(tmp_path / "none", {})
    with pytest.raises(GraphServerError, match="KGR1_TOKENS holds no token"):
        Tokens.load(None, {SERVER_VARIABLE: " , "})


def test_a_token_that_cannot_be_sent() -> None:
    with pytest.raises(GraphServerError, match="visible ASCII") as caught:
        GraphClient("http://127.0.0.1:1", token="line\nbreak")
    assert "break" not in str(caught.value)
