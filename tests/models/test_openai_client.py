"""The client of OpenAI-compatible servers, against servers on loopback that answer, fail and die."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from kgr1.config import EndpointSettings
from kgr1.errors import ModelError, ModelServerError
from kgr1.models.client import Message, Reply, Request
from kgr1.models.openai import KEY_VARIABLE, OpenAIClient
from kgr1.types import FinishReason
from model_servers import ModelServer

KEY = "sk-test-0123456789abcdef"


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)


def client(server: ModelServer, model: str = "small", **settings: Any) -> OpenAIClient:
    values = {"retries": 2, "backoff_s": 0.01, "timeout_s": 5.0, **settings}
    return OpenAIClient(server.url, model, EndpointSettings.model_validate(values))


def ask(asked: OpenAIClient, *requests: Request) -> list[Reply]:
    return asyncio.run(asked.generate(list(requests)))


def test_what_is_sent_and_what_comes_back() -> None:
    with ModelServer(lambda body: f"seed {body['seed']}") as server:
        request = Request(
            messages=(Message(role="system", content="Be short."), Message(role="user", content="Who are you?")),
            max_new_tokens=7,
            temperature=0.5,
            top_p=0.9,
            seed=3,
            n=2,
            stop=("END",),
        )
        (reply,) = ask(client(server), request)
    assert sorted(body["seed"] for body in server.bodies) == [3, 4]
    body = min(server.bodies, key=lambda body: body["seed"])
    assert body == {
        "model": "small",
        "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Who are you?"}],
        "max_tokens": 7,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 3,
        "stop": ["END"],
    }
    assert reply.texts == ("seed 3", "seed 4")
    assert (reply.prompt_tokens, reply.generated_tokens) == (5, 4)
    assert reply.seconds > 0
    assert "authorization" not in server.headers[0]


def test_a_plain_prompt_goes_to_the_other_address_and_limits_are_told() -> None:
    with ModelServer(lambda body: "one two three four", usage=False) as server:
        (reply,) = ask(client(server), Request(prompt="Once upon", max_new_tokens=3))
    assert server.bodies[0]["prompt"] == "Once upon"
    assert "messages" not in server.bodies[0]
    assert (reply.text, reply.finishes) == ("one two three", (FinishReason.LENGTH,))
    assert (reply.prompt_tokens, reply.generated_tokens) == (3, 5)  # estimates: the server has counted nothing


def test_a_batch_keeps_its_order_and_its_bound() -> None:
    lock, running, most = threading.Lock(), 0, 0

    def answer(body: dict[str, Any]) -> str:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1
        return str(body["messages"][0]["content"]).upper()

    with ModelServer(answer) as server:
        asked = client(server, concurrency=3)
        replies = ask(asked, *(Request.ask(f"q{number}") for number in range(20)))
        assert [reply.text for reply in replies] == [f"Q{number}" for number in range(20)]
        assert [reply.text for reply in ask(asked, Request.ask("again"))] == ["AGAIN"]  # another event loop
    assert 1 < most <= 3


def test_the_key_comes_from_the_environment_and_is_told_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    with ModelServer(failures=[(401, {"error": {"message": f"bad key {KEY}"}}, {})]) as server:
        asked = client(server)
        with pytest.raises(ModelServerError, match=KEY_VARIABLE) as caught:
            ask(asked, Request.ask("?"))
        assert KEY not in str(caught.value)
        assert KEY not in f"{asked.name} {vars(asked)}"
        assert ask(asked, Request.ask("?"))[0].text == "ok"
    assert server.headers[-1]["authorization"] == f"Bearer {KEY}"
    monkeypatch.setenv(KEY_VARIABLE, "two words")
    with pytest.raises(ModelServerError, match="holds no key"):
        client(server)


@pytest.mark.parametrize("failure", [429, 500, 502, 503, 504, (429, {"message": "busy"}, {"retry-after": "0"})])
def test_what_may_pass_is_tried_again(failure: Any) -> None:
    with ModelServer(failures=[failure, failure]) as server:
        assert ask(client(server), Request.ask("?"))[0].text == "ok"
    assert len(server.bodies) == 3


def test_attempts_are_counted() -> None:
    busy = (503, {"error": {"message": "the model <|im_end|> is\nloading"}}, {})
    with (
        ModelServer(failures=[busy] * 3) as server,
        pytest.raises(ModelServerError, match=r"3 attempts \(status 503: the model ‹\|im_end\|› is loading\)"),
    ):
        ask(client(server), Request.ask("?"))
    with (
        ModelServer(failures=[2.0]) as slow,
        pytest.raises(ModelServerError, match=r"1 attempt \(no answer within 0\.2 s\)"),
    ):
        ask(client(slow, timeout_s=0.2, retries=0), Request.ask("?"))


def test_a_server_that_dies_half_way() -> None:
    with ModelServer(lives=3) as server:
        asked = client(server)
        for _ in range(3):
            assert ask(asked, Request.ask("?"))[0].text == "ok"
        with pytest.raises(ModelServerError, match="did not answer in 3 attempts") as caught:
            ask(asked, Request.ask("?"))
        assert isinstance(caught.value, ModelError)  # so that an episode records it
        server.stop()
        with pytest.raises(ModelServerError, match="check that it runs"):
            ask(asked, Request.ask("?"))


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        ((200, {"choices": []}, {}), "not a completion"),
        ((200, ["what"], {}), "not a completion"),
        ((200, {"choices": [{"message": {"content": 3}}]}, {}), "not a completion"),
        ((400, {"error": {"message": "too long"}}, {}), "refused the request: too long"),
        ((400, {"detail": [{"loc": "x"}]}, {}), "status 400"),
        ((404, {"error": {"message": "The model `small` does not exist."}}, {}), "knows no model 'small'"),
        ((302, {}, {"location": "http://127.0.0.1:9/"}), "status 302"),
    ],
)
def test_nonsense_is_one_sentence_and_is_not_tried_again(reply: Any, sentence: str) -> None:
    with ModelServer(failures=[reply]) as server, pytest.raises(ModelServerError, match=sentence):
        ask(client(server), Request.ask("?"))
    assert len(server.bodies) == 1


def test_the_model_is_found() -> None:
    with ModelServer() as server:
        asked = client(server, model="")
        asyncio.run(asked.connect())
        assert asked.name == f"{server.url}#small"
    with ModelServer(models=("a", "b")) as server:
        with pytest.raises(ModelServerError, match=r"serves 2 models \(a, b\); name one"):
            asyncio.run(client(server, model="").connect())
        asyncio.run(client(server, model="c").connect())  # an alias, for all that is known


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://x/v1", "http://", "http://x/v1?key=1", "file:///etc/passwd"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(ModelServerError, match="is not the address of a model server"):
        OpenAIClient(url)
    with pytest.raises(ModelServerError, match="do not belong") as caught:
        OpenAIClient(f"http://me:{KEY}@x/v1")
    assert KEY not in str(caught.value)


def test_what_the_interface_lacks() -> None:
    with ModelServer() as server, pytest.raises(ModelServerError, match="Beam search"):
        ask(client(server), Request(messages=(Message(role="user", content="?"),), n=2, beams=2))
    assert server.bodies == []
