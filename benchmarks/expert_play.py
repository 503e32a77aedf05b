"""Letting a model play the episodes of an expert: it computes everything, and is left with one token to draw.

Used by ``throughput.py``. What is measured does not depend on what the model has learned then, and different loops do
the same work.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch

from kgr1.agent.prompt import STOP_STRINGS, format_turn
from kgr1.config import SamplingSettings, Settings
from kgr1.datasets.embedded import embedded_questions
from kgr1.datasets.expert import Step, expert_steps
from kgr1.graph.api import KnowledgeGraph
from kgr1.models.engine import Engine
from kgr1.models.row import Row
from kgr1.models.transformers import TransformersPolicy, TransformersSession
from kgr1.types import Question

NEVER = -1e9
"""The score of a token that may not be drawn."""


class Play(NamedTuple):
    """An episode to be played: the expert's turns for a question."""

    question: Question
    steps: Sequence[Step]


def make_plays(graph: KnowledgeGraph, settings: Settings, seed: int) -> list[Play]:
    """One episode a member of each group, question by question; every second one has a mistake if one fits in."""
    plays = []
    wanted, turns = settings.train.questions_per_step, settings.agent.max_turns
    for question in embedded_questions("train", count=wanted, seed=seed, max_turns=turns):
        for member in range(settings.train.group_size):
            rng = random.Random(f"{seed}:{question.id}:{member}")
            steps = member % 2 and expert_steps(question, graph, rng, max_turns=turns, recovery=True)
            steps = steps or expert_steps(question, graph, rng, max_turns=turns)
            if not steps:
                raise SystemExit(f"The expert cannot answer '{question.text}' in {turns} turns; use another --seed.")
            plays.append(Play(question, steps))
    return plays


class ForcedEngine(Engine):
    """The engine, left with one token to draw for each row: the next of ``scripts``, by row."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.scripts: dict[int, Iterator[int]] = {}

    def _accept(self, rows: list[Row], logits: torch.Tensor) -> None:
        forced = torch.full_like(logits, NEVER)
        forced[range(len(rows)), [next(self.scripts[id(row)]) for row in rows]] = 0
        super()._accept(rows, forced)


class ForcedPolicy(TransformersPolicy):
    """The in-process policy on such an engine; the episodes of a question take its plays in turn."""

    engine: ForcedEngine

    def __init__(self, model: Any, tokenizer: Any, plays: Sequence[Play]) -> None:
        super().__init__(model, tokenizer, name="expert")
        self.engine = ForcedEngine(model, tokenizer, stops=STOP_STRINGS, max_rows=len(plays), max_context=4096)
        groups: dict[str, list[list[int]]] = {}
        for play in plays:
            texts = [format_turn(step.think, step.query or step.answer) for step in play.steps]
            groups.setdefault(play.question.id, []).append([i for text in texts for i in self.encode(text)])
        self._next = {name: itertools.cycle(group) for name, group in groups.items()}

    async def open(self, prompt: str, question: Question, sampling: SamplingSettings) -> TransformersSession:
        """See :class:`kgr1.agent.policy.Policy`."""
        row = await self.engine.open(self.encode_prompt(prompt), sampling)
        self.engine.scripts[id(row)] = iter(next(self._next[question.id]))
        return TransformersSession(self, row)
