"""The choices that an expert makes: which relation it follows, of all that were listed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from kgr1.datasets.set_expert import MAX_MEMBERS
from kgr1.datasets.steps import Step
from kgr1.graph.api import KnowledgeGraph
from kgr1.types import FOUND, DirectedRelation, Operation, Query, Question

_LISTINGS = {True: Operation.GET_TAIL_RELATIONS, False: Operation.GET_HEAD_RELATIONS}


class Choice(NamedTuple):
    """One hop: ``chosen`` is its place in ``relations``; ``before`` led from a topic to where it starts."""

    question: Question
    before: tuple[str, ...]
    relations: tuple[DirectedRelation, ...]
    chosen: int


def choices(trajectories: Iterable[tuple[Question, Sequence[Step]]], graph: KnowledgeGraph) -> Iterator[Choice]:
    """The choices of experts that ask about sets (:mod:`kgr1.datasets.set_expert`), without their mistakes.

    A hop with one relation to follow is no choice. Raises :class:`kgr1.errors.GraphServerError` if the graph does not
    answer.
    """
    for question, steps in trajectories:
        before: list[str] = []
        found: list[str] = []
        asked: set[str] = set()
        for step in steps:
            query = step.query
            if query is None or not query.operation.returns_entities or query.relation is None:
                continue
            here = found[:MAX_MEMBERS] if query.entity == FOUND else [query.entity]
            if query.entity != FOUND:
                before = []
                asked.add(query.entity)
            if not step.mistake:
                relations = _relations(here, question, graph)
                hop = (query.operation.outgoing, query.relation)
                if len(relations) > 1 and hop in relations:
                    yield Choice(question, tuple(before), relations, relations.index(hop))
            before.append(query.relation)
            answers = graph.execute([query.model_copy(update={"entity": name}) for name in here])
            asked |= {answer.query.entity for answer in answers if query.entity != FOUND}
            names = {name for answer in answers for name in answer.names}
            found = sorted(names - asked or names)  # as in kgr1.agent.found


def _relations(entities: Sequence[str], question: Question, graph: KnowledgeGraph) -> tuple[DirectedRelation, ...]:
    """All relations of some entities, in both directions."""
    asked = [
        Query(operation=operation, entity=entity, graph_id=question.graph_id)
        for operation in _LISTINGS.values()
        for entity in entities
    ]
    result: dict[DirectedRelation, None] = {}
    for query, answer in zip(asked, graph.execute(asked), strict=True):
        result |= {(query.operation.outgoing, name): None for name in answer.names}
    return tuple(result)
