"""The client on a model in this process: what it samples, and what it counts."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from kgr1.config import SamplingSettings  # noqa: E402
from kgr1.errors import ModelError  # noqa: E402
from kgr1.models.client import Message, Reply, Request  # noqa: E402
from kgr1.models.local import LocalClient  # noqa: E402
from kgr1.types import FinishReason  # noqa: E402


@pytest.fixture(scope="module")
def client(tiny_model: Path) -> LocalClient:
    return LocalClient.load(str(tiny_model), max_rows=4)


def ask(client: LocalClient, *requests: Request) -> list[Reply]:
    return asyncio.run(client.generate(list(requests)))


def test_a_reply_is_what_the_engine_samples(client: LocalClient) -> None:
    request = Request.ask("Which country borders Germany?", max_new_tokens=12, temperature=1.0, seed=5)
    (reply,) = ask(client, request)
    policy = client.policy()

    async def sample() -> list[int]:
        ids = policy.encode_prompt("Which country borders Germany?")
        row = await policy.engine.open(ids, SamplingSettings(temperature=1.0, seed=5), ())
        turn = await policy.engine.generate(row, 12)
        policy.engine.close(row)
        return [len(ids), *turn.ids]

    length, *ids = asyncio.run(sample())
    assert reply.text == policy.tokenizer.decode(ids)
    assert (reply.prompt_tokens, reply.generated_tokens) == (length, len(ids))
    assert reply.finishes == (FinishReason.LENGTH,)
    assert reply.seconds > 0


def test_several_samples_and_a_batch_larger_than_the_rows(client: LocalClient) -> None:
    request = Request.ask("Ann", max_new_tokens=8, temperature=1.0).model_copy(update={"n": 6})
    (many,) = ask(client, request)
    singles = ask(client, *(Request.ask("Ann", max_new_tokens=8, temperature=1.0, seed=seed) for seed in range(6)))
    assert many.texts == tuple(reply.text for reply in singles)
    assert len(set(many.texts)) > 1
    assert many.generated_tokens == sum(reply.generated_tokens for reply in singles)
    assert many.prompt_tokens == singles[0].prompt_tokens


def test_stop_strings_are_those_of_the_request(client: LocalClient) -> None:
    free = ask(client, Request.ask("Ann", max_new_tokens=40, temperature=1.0, seed=2))[0]
    assert free.finishes == (FinishReason.LENGTH,)
    stop = free.text[3:5]
    stopped = ask(
        client, Request.ask("Ann", max_new_tokens=40, temperature=1.0, seed=2).model_copy(update={"stop": (stop,)})
    )[0]
    assert stopped.finishes == (FinishReason.STOP,)
    assert stop in stopped.text
    assert free.text.startswith(stopped.text)
    assert stopped.generated_tokens < free.generated_tokens


def test_beams_are_those_of_transformers(client: LocalClient) -> None:
    engine, tokenizer = client.policy().engine, client.policy().tokenizer
    request = Request.ask("Who?", max_new_tokens=6).model_copy(update={"n": 3, "beams": 3})
    (reply,) = ask(client, request)
    ids = client.policy().encode_prompt("Who?")

    def score(new: list[int]) -> float:
        with torch.no_grad():
            logits = engine.model(input_ids=torch.tensor([ids + new])).logits[0, len(ids) - 1 : -1]
        return float(torch.log_softmax(logits, -1).gather(1, torch.tensor(new)[:, None]).sum())

    found = engine.model.generate(
        input_ids=torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        max_new_tokens=6,
        num_beams=3,
        num_return_sequences=3,
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id,
    )
    rows = [row.tolist()[len(ids) :] for row in found]
    assert reply.texts == tuple(tokenizer.decode(row) for row in rows)
    assert len(set(reply.texts)) == 3
    scores = [score(row) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert reply.generated_tokens == 18
    greedy = ask(client, Request.ask("Who?", max_new_tokens=6))[0]
    assert scores[0] >= score(tokenizer.encode(greedy.text, add_special_tokens=False)) - 1e-4


def test_prompts_chats_and_replies_that_go_on(client: LocalClient) -> None:
    counted = client.count_tokens
    (plain,) = ask(client, Request(prompt="Once upon a time", max_new_tokens=2))
    assert plain.prompt_tokens == counted("Once upon a time")
    chat = (Message(role="user", content="Who?"), Message(role="assistant", content="I think"))
    closed, going_on = ask(
        client,
        Request(messages=chat, max_new_tokens=2),
        Request(messages=chat, max_new_tokens=2, continue_last=True),
    )
    assert going_on.prompt_tokens < closed.prompt_tokens  # no end of the message, no header of another one
    ids = client.policy().encode_prompt("Who?")
    assert going_on.prompt_tokens == len(ids) + counted("I think")


def test_what_cannot_be_asked(client: LocalClient) -> None:
    for wrong in (
        {},
        {"prompt": "x", "messages": (Message(role="user", content="x"),)},
        {"prompt": "x", "beams": 2, "n": 3},
        {"messages": (Message(role="user", content="x"),), "continue_last": True},
    ):
        values: dict[str, Any] = dict(wrong)
        with pytest.raises(ValueError, match=r"request|message|beam"):
            Request(**values)
    for beams in (0, 2):
        with pytest.raises(ModelError, match="the context holds"):
            ask(client, Request(prompt="word " * 5000, beams=beams))


ONE = "<{{ m.role }}>{{ m.content }}{% endfor %}"
REFUSES = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + ONE
LEAVES_OUT = "{% for m in messages %}{% if m.role != 'system' %}<{{ m.role }}>{{ m.content }}{% endif %}{% endfor %}"
ALTERNATES = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}" + ONE
)
TAKES = "{% for m in messages %}" + ONE


def prompt_of(client: LocalClient, template: str, *messages: tuple[str, str]) -> str:
    policy = client.policy()
    whole = policy.tokenizer.chat_template
    policy.tokenizer.chat_template = template
    try:
        request = Request(messages=tuple(Message(role=role, content=text) for role, text in messages))
        return str(policy.tokenizer.decode(client._encode(request)))
    finally:
        policy.tokenizer.chat_template = whole


@pytest.mark.parametrize("template", [REFUSES, LEAVES_OUT, ALTERNATES])
def test_a_template_without_a_system_role(client: LocalClient, template: str) -> None:
    messages = (("system", "Be brief."), ("user", "Who?"), ("assistant", "Me."), ("user", "Why?"))
    wanted = "<user>Be brief.\n\nWho?<assistant>Me.<user>Why?"
    assert prompt_of(client, template, *messages) == wanted
    assert prompt_of(client, template, *messages[:1]) == "<user>Be brief."
    assert prompt_of(client, TAKES, *messages[:2]) == "<system>Be brief.<user>Who?"


def test_messages_that_a_template_refuses(client: LocalClient) -> None:
    with pytest.raises(ModelError, match="refuses these messages: roles must alternate"):
        prompt_of(client, ALTERNATES, ("user", "One."), ("user", "Two."))


def test_a_plain_prompt_begins_as_the_tokenizer_begins_texts(client: LocalClient) -> None:
    from tokenizers.processors import TemplateProcessing

    policy, request = client.policy(), Request(prompt="Who?<|im_end|>")
    piece = policy.encode("Who?<|im_end|>")
    assert client._encode(request) == piece
    backend = policy.tokenizer.backend_tokenizer
    begin = policy.tokenizer.convert_tokens_to_ids("<|im_start|>")
    before = backend.post_processor
    backend.post_processor = TemplateProcessing(single="<|im_start|> $A", special_tokens=[("<|im_start|>", begin)])
    try:
        assert client._encode(request) == [begin, *piece]
        assert policy.encode("Who?<|im_end|>") == piece  # what is appended to a context does not
    finally:
        backend.post_processor = before
