"""A small graph, questions about it, and a short way to let a system play a script."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from typing import Any

from kgr1.baselines.systems import SYSTEMS, find_system
from kgr1.config import BaselineSettings, Settings
from kgr1.graph.api import KnowledgeGraph
from kgr1.graph.store import GraphStore
from kgr1.models.client import Request
from kgr1.models.scripted import ScriptedClient
from kgr1.types import Episode, GoldAnswer, Question, Turn

FACTS = (
    ("France", "capital", "Paris"),
    ("France", "city", "Lyon"),
    ("France", "city", "Nice"),
    ("France", "city", "Paris"),
    ("France", "type.kind", "country"),
    ("Paris", "mayor", "Hidalgo"),
    ("Lyon", "mayor", "Doucet"),
    ("Hidalgo", "born in", "San Fernando"),
    ("Hidalgo", "office", "mayor"),
    ("Spain", "city", "San Fernando"),
)
QUESTION = Question(
    id="q1",
    text="Where was the mayor of the capital of France born?",
    topics=("France",),
    answers=(GoldAnswer(label="San Fernando", id="San Fernando"),),
    hops=3,
)
Script = Iterable[str | Exception] | Callable[[Request], str]


def graph(facts: Iterable[tuple[str, str, str]] = FACTS) -> GraphStore:
    return GraphStore.from_triples(facts, name="france")


def settings(**baseline: Any) -> Settings:
    return Settings(baseline=BaselineSettings.model_validate(baseline))


def play(
    name: str,
    script: Script,
    *,
    on: KnowledgeGraph | None = None,
    question: Question = QUESTION,
    seed: int = 7,
    planner: ScriptedClient | None = None,
    max_context: int = 1 << 20,
    **baseline: Any,
) -> tuple[Episode, ScriptedClient]:
    """One question played by a system with a model that follows a script."""
    client = ScriptedClient(script, max_context=max_context)
    system = find_system(name, client, planner)
    episode = asyncio.run(system(question, on or graph(), client, settings(**baseline), seed=seed, sample=2))
    assert Episode.model_validate_json(episode.model_dump_json()) == episode
    return episode, client


def written(episode: Episode) -> list[Turn]:
    """The turns that a model wrote."""
    return [turn for turn in episode.turns if turn.step != "retrieve"]


def steps(episode: Episode) -> list[str]:
    return [turn.step for turn in written(episode)]


def picks(**scores: float) -> str:
    """Scores by name, as a model writes them."""
    return json.dumps({name.replace("_", " "): score for name, score in scores.items()})


def candidates(prompt: str) -> list[str]:
    """The numbered lines of a prompt, without their numbers."""
    lines = [line.split(". ", 1) for line in prompt.splitlines()]
    return [line[1] for line in lines if len(line) == 2 and line[0].isdecimal()]


NAMES = tuple(SYSTEMS)
