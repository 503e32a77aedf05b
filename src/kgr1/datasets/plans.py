"""What a planner of relation paths is trained on: questions with the shortest paths to their answers."""

from __future__ import annotations

import random
from collections.abc import Sequence

from kgr1.datasets.paths import Path, shortest_paths
from kgr1.graph.api import KnowledgeGraph
from kgr1.types import Question


def planner_pairs(
    questions: Sequence[Question],
    graph: KnowledgeGraph,
    *,
    count: int,
    seed: int,
    max_hops: int = 3,
    backward: bool = False,
    paths_per_question: int = 5,
) -> list[tuple[Question, Path]]:
    """Questions with one relation path each, for ``count`` questions that have one; gold paths are not looked at.

    The supervision of RoG (Luo et al., ICLR 2024): every shortest path from a topic to an answer counts as right, here
    at most ``paths_per_question`` of them (:func:`kgr1.datasets.paths.shortest_paths`). The seed draws the questions.
    Raises :class:`kgr1.errors.GraphServerError` if the graph does not answer.
    """
    drawn = list(questions)
    random.Random(seed).shuffle(drawn)
    pairs: list[tuple[Question, Path]] = []
    solved = 0
    for question in drawn:
        if solved == count:
            break
        paths = shortest_paths(question, graph, max_hops=max_hops, backward=backward, most=paths_per_question)
        solved += bool(paths)
        pairs += [(question, path) for path in paths]
    return pairs
