"""Every system with a real model, and what all of them have in common."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import get_args

import pytest
from baseline_parts import NAMES, QUESTION, graph, settings

from kgr1.baselines.systems import SYSTEMS, find_system
from kgr1.cli.evaluate import SystemName
from kgr1.config import AgentSettings
from kgr1.errors import SettingsError
from kgr1.evaluation.metrics import EpisodeRow, summarise
from kgr1.models.client import ModelClient
from kgr1.models.scripted import ScriptedClient
from kgr1.types import Episode, StopReason

SHORT = settings(answer_tokens=12, call_tokens=8, plan_tokens=8, samples=3, depth=2, runs=2).model_copy(
    update={"agent": AgentSettings(max_turns=2, max_new_tokens=10, observation_tokens=32)}
)
GRAPHLESS = {"vanilla", "cot", "self-consistency"}


@pytest.fixture(scope="module")
def client(tiny_model: Path) -> ModelClient:
    from kgr1.models.local import LocalClient

    return LocalClient.load(str(tiny_model), max_rows=4)


def together(client: ModelClient, name: str, seeds: tuple[int, ...]) -> list[Episode]:
    async def play() -> list[Episode]:
        system = find_system(name, client)
        return await asyncio.gather(*(system(QUESTION, graph(), client, SHORT, seed=seed) for seed in seeds))

    return asyncio.run(play())


@pytest.mark.parametrize("name", NAMES)
def test_a_real_model_plays_every_system(client: ModelClient, name: str) -> None:
    """Random weights write nonsense, so every way out for nonsense is taken, and the record is whole all the same."""
    episodes = together(client, name, (1, 2))
    for episode in episodes:
        assert episode.system == name
        assert episode.stop in (StopReason.ANSWERED, StopReason.MAX_TURNS)
        usage = episode.usage
        assert usage.model_calls >= 1
        assert usage.prompt_tokens > usage.generated_tokens > 0
        assert usage.graph_calls == sum(usage.graph_outcomes.values())
        assert (usage.graph_calls == 0) == (name in GRAPHLESS | {"rog", "rog-retrieval", "agent", "agent-runs"})
        assert usage.seconds > 0
        assert Episode.model_validate_json(episode.model_dump_json()) == episode
    again = together(client, name, (1, 2))
    assert [answers(episode) for episode in again] == [answers(episode) for episode in episodes]


def answers(episode: Episode) -> tuple[object, ...]:
    """What does not depend on the clock."""
    return episode.answers, [turn.text for turn in episode.turns], episode.usage.model_copy(update={"seconds": 0.0})


def test_the_command_offers_every_system() -> None:
    assert set(get_args(SystemName)) == set(SYSTEMS)


def test_a_system_that_is_not_there() -> None:
    with pytest.raises(SettingsError, match="There is no system 'gpt'; choose one of agent, "):
        find_system("gpt", ScriptedClient([]))


def test_how_the_trace_counts_in_the_metrics() -> None:
    from baseline_parts import play

    script = ["<path>capital<sep>mayor<sep>born in</path>"] * 3 + ['["San Fernando"]']
    episode, _ = play("rog", script)
    row = EpisodeRow.of(episode)
    assert (row.turns, row.model_calls, row.graph_calls, row.empty_graph_calls) == (4, 2, 3, 0)
    assert (row.asked, row.valid, row.retrieved, row.fallback) == (3, 3, 1, False)
    assert row.score.exact
    alone, _ = play("vanilla", ["[]"])
    row = EpisodeRow.of(alone)
    assert (row.turns, row.asked, row.retrieved, row.fallback) == (1, 0, 0, True)
    assert summarise([episode]).metrics["fallback"].value == 0
    old = episode.model_dump(mode="json")
    for key in ("system", "fallback"):
        del old[key]
    del old["usage"]["graph_outcomes"]
    for turn in old["turns"]:
        del turn["step"]
    loaded = Episode.model_validate(old)  # a record from before there were systems
    assert (loaded.system, loaded.fallback, EpisodeRow.of(loaded).graph_calls) == ("agent", False, 3)
