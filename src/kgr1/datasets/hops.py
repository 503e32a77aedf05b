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


class Followed(NamedTuple):
    """One hop of an expert, with what it knew.

    ``branches`` are the hops before it, from each topic, those that led to where it starts last; ``here`` are the
    entities that it starts from, ``asked`` the topics that were asked about, ``met`` these and what was found on the
    way, and ``relations`` all that could be followed. ``goes_on`` says whether another hop follows from where it leads
    to, None if one from another topic does.
    """

    question: Question
    branches: tuple[tuple[DirectedRelation, ...], ...]
    here: tuple[str, ...]
    asked: frozenset[str]
    met: frozenset[str]
    relations: tuple[DirectedRelation, ...]
    hop: DirectedRelation
    goes_on: bool | None


def choices(trajectories: Iterable[tuple[Question, Sequence[Step]]], graph: KnowledgeGraph) -> Iterator[Choice]:
    """The choices of experts that ask about sets (:mod:`kgr1.datasets.set_expert`), without their mistakes.

    A hop with one relation to follow is no choice. Raises :class:`kgr1.errors.GraphServerError` if the graph does not
    answer.
    """
    for each in followed(trajectories, graph):
        if len(each.relations) < 2:
            continue
        before = tuple(name for _, name in each.branches[-1])
        yield Choice(each.question, before, each.relations, each.relations.index(each.hop))


def followed(trajectories: Iterable[tuple[Question, Sequence[Step]]], graph: KnowledgeGraph) -> Iterator[Followed]:
    """The hops of such experts, with what came before and what comes behind them."""
    for question, steps in trajectories:
        branches: list[tuple[DirectedRelation, ...]] = []
        found: list[str] = []
        asked: set[str] = set()
        met: set[str] = set()
        hops = [step for step in steps if step.query is None or step.query.relation is not None]
        for step, following in zip(hops, [*hops[1:], None], strict=True):
            query = step.query
            if query is None or query.relation is None:
                continue
            here = found[:MAX_MEMBERS] if query.entity == FOUND else [query.entity]
            if query.entity != FOUND:
                asked.add(query.entity)
            if query.entity != FOUND or not branches:
                branches.append(())
            hop = (query.operation.outgoing, query.relation)
            if not step.mistake:
                relations = _relations(here, question, graph)
                if hop in relations:
                    sets = frozenset(asked), frozenset(met | asked if query.entity == FOUND else asked)
                    yield Followed(question, tuple(branches), tuple(here), *sets, relations, hop, _goes_on(following))
            branches[-1] = (*branches[-1], hop)
            answers = graph.execute([query.model_copy(update={"entity": name}) for name in here])
            asked |= {answer.query.entity for answer in answers if query.entity != FOUND}
            names = {name for answer in answers for name in answer.names}
            met |= names
            found = sorted(names - asked or names)  # as in kgr1.agent.found


def _goes_on(following: Step | None) -> bool | None:
    if following is None or following.query is None:
        return False
    return True if following.query.entity == FOUND else None


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
