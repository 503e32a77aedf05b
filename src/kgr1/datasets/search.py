"""Paths for questions that come without one: looked for on the graph, and chosen by all questions together."""

from __future__ import annotations

from collections.abc import Sequence

from kgr1.datasets.alignment import choose
from kgr1.datasets.paths import Solution, find_solutions, matches_gold
from kgr1.datasets.walks import encode
from kgr1.graph.api import KnowledgeGraph
from kgr1.types import GoldAnswer, Question

NEAR = 0.5
"""F1 of what a path ends at, for a question that has no exact one."""


def with_paths(
    questions: Sequence[Question],
    order: Sequence[int],
    graph: KnowledgeGraph,
    *,
    count: int,
    near: int,
    max_frontier: int,
) -> tuple[list[Question], set[int]]:
    """The questions, in their order, with the found paths of those that have none.

    Twice as many are looked at as are needed (``count``), in the order of the places ``order``. Paths through more
    entities than ``max_frontier`` are not followed. Of several paths that end at the answers, the one that fits the
    other questions is taken (:mod:`kgr1.datasets.alignment`). Where no path was found the topics are gone, so that
    nobody looks again.

    Up to ``near`` questions without an exact path have one to about their answers; they have the end of that path for
    answers, and their places are returned, too. Then all questions are looked at.
    """
    result = list(questions)
    # Who has no exact path is known only after a search.
    enough = len(order) if near else 2 * count
    places = [index for index in order if not questions[index].gold_path][:enough]
    places = [index for index in places if questions[index].topics and questions[index].answers]
    ends: dict[int, dict[Solution, dict[str, str]]] = {}
    found: list[list[Solution]] = []
    for index in places:
        question = questions[index]
        least = NEAR if len(ends) < near else 1.0
        ways = find_solutions(question, graph, least=least, max_frontier=max_frontier)
        found.append(list(ways))
        if ways and not any(matches_gold(end, question.answers) for end in ways.values()):
            ends[index] = ways
    chosen = choose([questions[index] for index in places], found)
    for index, solution in zip(places, chosen, strict=True):
        topics, paths = solution or ((), ())
        update: dict[str, object] = {"topics": topics, "gold_path": encode(paths)}
        if solution is not None and index in ends:
            end = sorted(ends[index][solution].items())
            update["answers"] = tuple(GoldAnswer(label=name, id=key) for name, key in end)
        result[index] = questions[index].model_copy(update=update)
    return result, set(ends)
