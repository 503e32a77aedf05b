"""The agent on a model of which only texts are known: over a real server, and against the engine."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from kgr1.agent.rollout import run_episode
from kgr1.config import AgentSettings, EndpointSettings, SamplingSettings
from kgr1.graph.store import GraphStore
from kgr1.models.chat import with_stop
from kgr1.models.openai import OpenAIClient
from kgr1.types import Episode, FinishReason, Question, StopReason
from model_servers import ModelServer
from small_world import small_graph, small_questions

ASK = '<think>I ask</think>\n<kg-query>get_tail_entities("Ann", "likes")</kg-query>'
SAY = '<think>I see</think>\n<answer>["Bob"]</answer>'


def cut(texts: list[str]) -> Any:
    """What servers do: they stop before the stop string and leave it out."""
    left = iter(texts)

    def answer(body: dict[str, Any]) -> str:
        text = next(left)
        return re.split("|".join(map(re.escape, body["stop"])), text)[0]

    return answer


def play(
    server: ModelServer, graph: GraphStore, question: Question, agent: AgentSettings | None = None, **endpoint: Any
) -> Episode:
    settings = EndpointSettings.model_validate({"retries": 0, **endpoint})
    policy = OpenAIClient(server.url, "small", settings).policy()
    return asyncio.run(
        run_episode(question, graph, policy, agent=agent or AgentSettings(), sampling=SamplingSettings(seed=3))
    )


@pytest.mark.parametrize("continue_reply", [False, True])
def test_an_episode_over_http(continue_reply: bool) -> None:
    with ModelServer(cut([ASK, SAY])) as server:
        episode = play(server, small_graph(), small_questions()[0], continue_reply=continue_reply)
    assert (episode.stop, episode.answers, len(episode.evidence)) == (StopReason.ANSWERED, ("Bob",), 1)
    assert [turn.text for turn in episode.turns] == [ASK, SAY]
    assert all(turn.well_formed and turn.token_ids == () for turn in episode.turns)
    assert episode.prompt_ids == ()
    first, second = (body["messages"] for body in server.bodies)
    assert [message["role"] for message in first] == ["user"]
    if continue_reply:
        assert [message["role"] for message in second] == ["user", "assistant"]
        assert second[1]["content"] == f"{ASK}\n<information>Bob</information>\n"
        assert server.bodies[1]["continue_final_message"] is True
    else:
        assert [message["role"] for message in second] == ["user", "assistant", "user"]
        assert "continue_final_message" not in server.bodies[1]
    # What the server has counted, words in this case.
    words = [sum(len(message["content"].split()) for message in body["messages"]) for body in server.bodies]
    assert episode.usage.prompt_tokens == sum(words)
    cut_words = [len(re.split("</kg-query>|</answer>", text)[0].split(" ")) for text in (ASK, SAY)]
    assert episode.usage.generated_tokens == sum(cut_words)
    assert episode.usage.context_tokens == words[1] + cut_words[1]
    assert [body["seed"] for body in server.bodies] == [3, 4]


def test_a_server_that_dies_half_way_ends_the_episode() -> None:
    with ModelServer(cut([ASK, SAY]), lives=1) as server:
        episode = play(server, small_graph(), small_questions()[0])
    assert episode.stop is StopReason.POLICY_ERROR
    assert "did not answer in 1 attempt" in episode.error
    assert [turn.text for turn in episode.turns] == [ASK]
    assert episode.usage.model_calls == 1


def test_a_served_model_cannot_be_guided() -> None:
    with ModelServer(cut([ASK, SAY])) as server:
        episode = play(server, small_graph(), small_questions()[0], AgentSettings(guided=True))
        assert not server.bodies
    assert episode.stop is StopReason.POLICY_ERROR
    assert "agent.guided=false" in episode.error


def test_a_context_that_is_full() -> None:
    with ModelServer(cut([ASK, SAY])) as server:
        episode = play(server, small_graph(), small_questions()[0], context=256)
        short = episode.usage.context_tokens
        assert server.bodies[0]["max_tokens"] < 256
    assert short < 256


def test_closing_tags_are_put_back() -> None:
    query = '<think>a</think><kg-query>get_tail_relations("x")'
    assert with_stop(query, FinishReason.EOS) == (f"{query}</kg-query>", FinishReason.STOP)
    assert with_stop(query, FinishReason.LENGTH) == (query, FinishReason.LENGTH)
    assert with_stop(f"{query}</kg-query>", FinishReason.EOS)[0] == f"{query}</kg-query>"
    assert with_stop("I see <answer> nothing</answer> here", FinishReason.EOS)[1] is FinishReason.EOS
    assert with_stop("<kg-query>x</kg-query><answer>[]", FinishReason.EOS)[0].endswith("</answer>")
    assert with_stop("", FinishReason.EOS) == ("", FinishReason.EOS)
