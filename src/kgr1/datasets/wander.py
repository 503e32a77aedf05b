"""Random walks in place of the right ones: material that teaches the form of a trajectory and not the choices in it.

A policy trained on them writes well-formed turns and copies names, and follows whatever relation comes first to its
mind. Reinforcement learning from there has all of the choosing left to learn.
"""

from __future__ import annotations

import random

from kgr1.datasets.paths import Hop, parse_path
from kgr1.graph.api import KnowledgeGraph
from kgr1.types import GoldAnswer, Observation, Question

ATTEMPTS = 8


def wander(question: Question, graph: KnowledgeGraph, rng: random.Random, *, max_answers: int = 30) -> Question | None:
    """The question with the path and the answers of a random walk from its first topic in place of its own.

    The walk has as many hops as ``gold_path`` (two without one), all from subject to object, and passes through one
    entity at a time. None if no such walk was found in :data:`ATTEMPTS` attempts.
    Raises :class:`kgr1.errors.GraphServerError` if the graph does not answer.
    """
    branches = parse_path(question.gold_path)
    for _ in range(ATTEMPTS if question.topics else 0):
        found = _walk(question, graph, rng, len(branches[0]) if branches else 2)
        if found is not None and len(found[1].names) <= max_answers:
            path, end = found
            answers = tuple(GoldAnswer(label=name, id=key) for name, key in zip(end.names, end.ids, strict=True))
            return question.model_copy(
                update={"gold_path": path, "answers": answers, "parses": (), "topics": question.topics[:1]}
            )
    return None


def _walk(
    question: Question, graph: KnowledgeGraph, rng: random.Random, hops: int
) -> tuple[tuple[str, ...], Observation] | None:
    """Relations and the result of the last one."""
    entity, path, end = question.topics[0], [], None
    for _ in range(hops):
        if end is not None:
            if len(end.names) != 1:
                return None
            entity = end.names[0]
        in_graph = {"graph_id": question.graph_id}
        (listing,) = graph.execute([Hop("").relations(entity).model_copy(update=in_graph)])
        if not listing.ok:
            return None
        path.append(rng.choice(listing.names))
        (end,) = graph.execute([Hop(path[-1]).entities(entity).model_copy(update=in_graph)])
        if not end.ok or end.total > len(end.names):
            return None
    return None if end is None else (tuple(path), end)
