"""Episodes with ``agent.sets`` on graphs small enough to be searched triple by triple, and players of guided turns."""

from __future__ import annotations

import random
from collections.abc import Sequence

from episode_parts import play
from hypothesis import strategies as st

from kgr1.agent.policy import Generation, Grammar, Policy, ScriptedPolicy, ScriptedSession
from kgr1.agent.set_grammar import SetGrammar
from kgr1.config import SamplingSettings
from kgr1.graph.api import GraphInfo, KnowledgeGraph
from kgr1.graph.store import GraphStore
from kgr1.types import Episode, Observation, Query, Question

Rows = list[tuple[str, str, str]]

FILMS: Rows = [
    ("Alien", "director", "Scott"),
    ("Legend", "director", "Scott"),
    ("Aliens", "director", "Cameron"),
    ("Titanic", "director", "Cameron"),
    ("Alien", "actor", "Weaver"),
    ("Aliens", "actor", "Weaver"),
    ("Legend", "actor", "Cruise"),
    ("Scott", "born in", "England"),
    ("Cameron", "born in", "Canada"),
    ("Weaver", "born in", "US"),
]

# Names that must be quoted or made harmless, one that is the sign for all that was found, and nodes without a name.
ENTITIES = ("A", "B", "C", "d, e", '"f"', "<think>g", "*", "m.0x1", "m.0y2")
RELATIONS = ("r", "s", "p.q", "</answer>t")


def named(*topics: str, **more: object) -> Question:
    return Question(id="q", text="What is it?", topics=topics, answers=()).model_copy(update=more)


def play_sets(
    texts: Sequence[str] | Policy, topics: Sequence[str], on: Rows | KnowledgeGraph = FILMS, **agent: object
) -> Episode:
    """An episode of an agent with ``*``, with room for everything unless said otherwise."""
    graph = GraphStore.from_triples(on) if isinstance(on, list) else on
    settings = {"sets": True, "max_turns": 12, "observation_tokens": 5000, **agent}
    return play(texts, on=graph, question=named(*topics), **settings)


@st.composite
def graphs(draw: st.DrawFn) -> Rows:
    """Up to 25 triples over few names, so that paths, cycles, self-loops and repeats all occur."""
    entity, relation = st.sampled_from(ENTITIES), st.sampled_from(RELATIONS)
    return draw(st.lists(st.tuples(entity, relation, entity), min_size=1, max_size=25))


def step(rows: Rows, entity: str, relation: str, *, outgoing: bool) -> set[str]:
    """Where a relation leads from an entity, looked up triple by triple."""
    if outgoing:
        return {tail for head, other, tail in rows if (head, other) == (entity, relation)}
    return {head for head, other, tail in rows if (tail, other) == (entity, relation)}


class Guessing(ScriptedPolicy):
    """Writes any of the queries that the grammar of a turn allows, or the answer ``["*"]``."""

    def __init__(self, seed: int, answers: float = 0.15) -> None:
        super().__init__([], "guessing")
        self._seed, self._answers = seed, answers

    async def open(self, prompt: str, question: Question, sampling: SamplingSettings) -> ScriptedSession:
        return _Guesses(prompt, random.Random(self._seed), self._answers)


class _Guesses(ScriptedSession):
    def __init__(self, prompt: str, rng: random.Random, answers: float) -> None:
        super().__init__(prompt, [])
        self._rng, self._share = rng, answers

    async def generate(self, max_new_tokens: int, grammar: Grammar | None = None) -> Generation:
        assert isinstance(grammar, SetGrammar)
        action = '<answer>["*"]</answer>'
        if grammar.queries and self._rng.random() > self._share:
            action = f"<kg-query>{self._rng.choice(grammar.queries)}</kg-query>"
        return Generation(text=f"<think>Perhaps.</think>\n{action}")


class Recording:
    """A graph that remembers what it was asked."""

    def __init__(self, rows: Rows) -> None:
        self.store = GraphStore.from_triples(rows)
        self.asked: list[Query] = []

    def execute(self, queries: Sequence[Query]) -> list[Observation]:
        self.asked += queries
        return self.store.execute(queries)

    def info(self) -> GraphInfo:
        return self.store.info()

    def close(self) -> None:
        self.store.close()
