"""The agent as a system: one run, several runs as one, and the same answer as through its own door."""

from __future__ import annotations

import asyncio

from baseline_parts import FACTS, QUESTION, ScriptedClient, graph, play

from kgr1.agent.policy import ScriptedPolicy
from kgr1.agent.rollout import run_episode
from kgr1.baselines.agent import agent, agent_runs
from kgr1.config import AgentSettings, BaselineSettings, SamplingSettings, Settings
from kgr1.errors import ModelError
from kgr1.models.client import Request
from kgr1.types import StopReason, Triple

CAPITAL = '<think>a</think>\n<kg-query>get_tail_entities("France", "capital")</kg-query>'
CITY = '<think>a</think>\n<kg-query>get_tail_entities("France", "city")</kg-query>'


def final(names: str) -> str:
    return f"<think>b</think>\n<answer>{names}</answer>"


def test_one_run_is_the_agents() -> None:
    texts = [CAPITAL, final('["Paris"]')]
    episode, client = play("agent", texts)
    direct = asyncio.run(
        run_episode(
            QUESTION, graph(FACTS), ScriptedPolicy(texts), agent=AgentSettings(), sampling=SamplingSettings(seed=7)
        )
    )
    assert episode.turns[0].observation == direct.turns[0].observation
    assert [turn.text for turn in episode.turns] == [turn.text for turn in direct.turns]
    assert (episode.answers, episode.evidence, episode.stop) == (direct.answers, direct.evidence, direct.stop)
    assert (episode.system, episode.fallback, direct.system) == ("agent", False, "agent")
    assert episode.usage.graph_outcomes == direct.usage.graph_outcomes == {"ok": 1}
    assert [message.role for message in client.requests[1].messages] == ["user", "assistant", "user"]
    assert client.requests[1].messages[2].content == "<information>Paris</information>"


def test_several_runs_are_put_together() -> None:
    # Runs take their turns in order: the first turn of each, then the second of each.
    def play_three(request: Request) -> str:
        run = request.seed - 7 - (len(request.messages) - 1) // 2
        if len(request.messages) == 1:
            return CITY if run == 1 else CAPITAL
        return final(['["Nice", "Paris"]', '["Lyon", "Paris"]', "no list of names"][run])

    episode, client = play("agent-runs", play_three)
    assert episode.system == "agent-runs"
    assert len(client.requests) == episode.usage.model_calls == 6
    assert {request.temperature for request in client.requests} == {1.0}
    assert episode.answers == ("Paris", "Nice", "Lyon", "no list of names")
    assert episode.answer_ids == ("Paris", None, "Lyon", None)  # Nice was shown to another run only
    assert episode.usage.graph_calls == 3
    assert (episode.sample, episode.seed, episode.stop) == (2, 7, StopReason.ANSWERED)
    assert Triple("France", "city", "Lyon") in episode.evidence
    assert len(episode.turns) == 6


def test_a_run_that_fails_does_not_spoil_the_others() -> None:
    def fail_once(request: Request) -> str:
        if request.seed == 7:
            raise ModelError("gone")
        return final('["Paris"]')

    episode, _ = play("agent-runs", fail_once, runs=2)
    assert (episode.stop, episode.answers, episode.error) == (StopReason.ANSWERED, ("Paris",), "")

    def fail(request: Request) -> str:
        raise ModelError("gone")

    episode, _ = play("agent-runs", fail, runs=2)
    assert (episode.stop, episode.answers, episode.error) == (StopReason.POLICY_ERROR, (), "gone")


def test_what_is_withheld() -> None:
    """One run is judged alone; several are judged by what all of them were shown and how many agree."""

    def script(request: Request) -> str:
        if len(request.messages) == 1:
            return CAPITAL
        return final('["Nice", "Paris"]' if request.seed < 9 else '["Nice"]')

    def settings(**changed: object) -> Settings:
        return Settings(agent=AgentSettings.model_validate(changed), baseline=BaselineSettings(runs=2))

    async def both(**changed: object) -> tuple[tuple[str, ...], ...]:
        found = settings(**changed)
        one = await agent(QUESTION, graph(FACTS), ScriptedClient(script), found, seed=7)
        two = await agent_runs(QUESTION, graph(FACTS), ScriptedClient(script), found, seed=7)
        assert two.system == "agent-runs"
        return one.answers, one.withheld, two.answers, two.withheld

    assert asyncio.run(both()) == (("Nice", "Paris"), (), ("Nice", "Paris"), ())
    assert asyncio.run(both(abstain=True)) == (("Paris",), ("Nice",), ("Paris",), ("Nice",))
    # This client knows no probabilities: one run has no confidence, two have their agreement.
    assert asyncio.run(both(min_confidence=0.9)) == ((), ("Nice", "Paris"), ("Nice",), ("Paris",))
