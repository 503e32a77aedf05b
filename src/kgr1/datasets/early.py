"""Paths cut one hop short: material that teaches everything but how far to go.

A policy trained on them writes well-formed turns, copies names and picks relations, and answers with what it sees one
hop before the answer. Its one systematic mistake is what reinforcement learning from there has to undo.
"""

from __future__ import annotations

from kgr1.datasets.paths import parse_path
from kgr1.datasets.walks import encode
from kgr1.graph.api import KnowledgeGraph
from kgr1.types import GoldAnswer, Question


def stop_early(question: Question, graph: KnowledgeGraph, *, max_answers: int = 30) -> Question | None:
    """The question with its path without the last hop, and the entities where that ends for answers.

    None for a path of one hop, an intersection, a question without ``gold_path``, and where the shorter path leads
    nowhere, through a result that was cut, or to more than ``max_answers`` entities.
    Raises :class:`kgr1.errors.GraphServerError` if the graph does not answer.
    """
    branches = parse_path(question.gold_path)
    if len(branches) != 1 or len(branches[0]) < 2 or not question.topics:
        return None
    frontier = {question.topics[0]: question.topics[0]}
    shorter = branches[0][:-1]
    for hop in shorter:
        queries = [hop.entities(name).model_copy(update={"graph_id": question.graph_id}) for name in sorted(frontier)]
        results = [result for result in graph.execute(queries) if result.ok]
        frontier = {name: key for result in results for name, key in zip(result.names, result.ids, strict=True)}
        if not 0 < len(frontier) <= max_answers or any(result.total > len(result.names) for result in results):
            return None
    answers = tuple(GoldAnswer(label=name, id=key) for name, key in sorted(frontier.items()))
    return question.model_copy(update={"gold_path": encode([shorter]), "answers": answers, "parses": ()})
