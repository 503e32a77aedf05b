"""Graphs and policies that fail on purpose, and a short way to run an episode."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from kgr1.agent.grammar import TurnGrammar
from kgr1.agent.policy import Generation, Policy, ScriptedPolicy, ScriptedSession
from kgr1.agent.rollout import run_episode
from kgr1.config import AgentSettings, SamplingSettings
from kgr1.errors import GraphServerError, ModelError
from kgr1.graph.api import GraphInfo, KnowledgeGraph
from kgr1.graph.store import GraphStore
from kgr1.types import Episode, GoldAnswer, Observation, Query, Question

FACTS = (
    ("France", "capital", "Paris"),
    ("France", "city", "Lyon"),
    ("France", "city", "Marseille"),
    ("France", "city", "Paris"),
    ("Paris", "mayor", "Hidalgo"),
    ("Hidalgo", "born in", "San Fernando"),
)
QUESTION = Question(
    id="q1",
    text="Where was the mayor of the capital of France born?",
    topics=("France",),
    answers=(GoldAnswer(label="San Fernando", id="San Fernando"),),
    gold_path=("capital", "mayor", "born in"),
    hops=3,
)


def graph() -> GraphStore:
    return GraphStore.from_triples(FACTS, name="france")


def ask(call: str, think: str = "I look.") -> str:
    return f"<think>{think}</think>\n<kg-query>{call}</kg-query>"


def answer(names: str) -> str:
    return f"<think>I know.</think>\n<answer>{names}</answer>"


def play(
    texts: Sequence[str] | Policy,
    *,
    on: KnowledgeGraph | None = None,
    question: Question = QUESTION,
    seed: int = 0,
    **agent: object,
) -> Episode:
    """Run one episode of a script or policy."""
    policy = ScriptedPolicy(texts) if isinstance(texts, Sequence) else texts
    settings = AgentSettings.model_validate({"max_turns": 5, **agent})
    return asyncio.run(
        run_episode(question, on or graph(), policy, agent=settings, sampling=SamplingSettings(seed=seed), sample=2)
    )


class FailingGraph:
    """Answers ``good`` queries and then fails."""

    def __init__(self, good: int, error: Callable[[], Exception] = lambda: GraphServerError("The graph is gone.")):
        self._graph, self._good, self._error = graph(), good, error

    def execute(self, queries: Sequence[Query]) -> list[Observation]:
        self._good -= len(queries)
        if self._good < 0:
            raise self._error()
        return self._graph.execute(queries)

    def info(self) -> GraphInfo:
        return self._graph.info()

    def close(self) -> None:
        self._graph.close()


class BrokenSession(ScriptedSession):
    """Fails, or has no more room, after ``good`` turns; remembers what was shown and that it was closed."""

    def __init__(self, prompt: str, texts: list[str], good: int, room: int | None) -> None:
        super().__init__(prompt, texts)
        self._good, self._room = good, room
        self.shown: list[str] = []
        self.closed = 0

    @property
    def room(self) -> int:
        return super().room if self._room is None or self._good > 0 else self._room

    async def generate(self, max_new_tokens: int, grammar: TurnGrammar | None = None) -> Generation:
        self._good -= 1
        if self._good < 0:
            raise ModelError("The model is gone.")
        return await super().generate(max_new_tokens, grammar)

    def append(self, text: str) -> tuple[int, ...]:
        self.shown.append(text)
        return super().append(text)

    def close(self) -> None:
        self.closed += 1


class BrokenPolicy(ScriptedPolicy):
    """A script whose sessions break; ``opens`` False fails at once."""

    def __init__(
        self, texts: Sequence[str], *, good: int = 1 << 30, room: int | None = None, opens: bool = True
    ) -> None:
        super().__init__(texts)
        self._texts, self._limits, self._opens = list(texts), (good, room), opens
        self.sessions: list[BrokenSession] = []

    async def open(self, prompt: str, question: Question, sampling: SamplingSettings) -> BrokenSession:
        if not self._opens:
            raise ModelError("There is no model.")
        self.sessions.append(BrokenSession(prompt, self._texts, *self._limits))
        return self.sessions[-1]
