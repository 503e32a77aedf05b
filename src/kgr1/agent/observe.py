"""What the graph answers to an episode's queries, and how it is shown.

Three options of :class:`kgr1.config.AgentSettings` go beyond the paper and are off by default: relations in the order
of their likeness to the question, the neighbours of results that have no name, and a remark on names that several
entities share. What is shown beside a result is recorded in the turn, so that evidence and rewards count what the model
saw, no more and no less.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import NamedTuple

from kgr1.agent.ledger import Ledger
from kgr1.agent.rank import rank_relations
from kgr1.agent.retrieve import Retriever
from kgr1.config import AgentSettings
from kgr1.graph.api import KnowledgeGraph, NameIndex
from kgr1.graph.names import is_identifier
from kgr1.graph.render import neutralise, render, show_name
from kgr1.types import ErrorCode, Observation, Operation, Query, Question

MAX_EXPANDED = 12
"""Nameless results of one observation whose neighbours are fetched."""

MAX_RELATIONS = 8
"""Relations of a nameless result, in each direction, whose entities are fetched."""

MAX_VALUES = 3
"""Neighbours shown for one relation of a nameless result."""

_NAMESAKES = 3  # entities that the remark on a shared name lists
_ASKED_OF = {True: Operation.GET_TAIL_ENTITIES, False: Operation.GET_HEAD_ENTITIES}


class Shown(NamedTuple):
    """The text for the model, how many of the observation's names stand in it, and the facts shown beside them."""

    text: str
    shown: int
    expanded: tuple[Observation, ...] = ()


class Observer:
    """Asks a graph on behalf of one episode, and enters what was asked in its ledger."""

    def __init__(
        self,
        question: Question,
        graph: KnowledgeGraph,
        agent: AgentSettings,
        count_tokens: Callable[[str], int],
        ledger: Ledger | None = None,
    ) -> None:
        self._question = question
        self._graph = graph
        self._agent = agent
        self._count_tokens = count_tokens
        self._execute = Retriever(graph, ledger or Ledger()).execute

    async def ask(self, query: Query) -> Observation:
        """The answer to one query; raises :class:`kgr1.errors.GraphError` if the graph does not answer."""
        if self._agent.rank_relations == "none" or query.operation.returns_entities:
            return (await self._execute([query]))[0]
        # The order is that of the whole list, so pages are cut after ranking.
        (whole,) = await self._execute([query.model_copy(update={"offset": 0, "limit": None})])
        return ranked(whole, query, self._question.text)

    async def show(self, observation: Observation, budget: int) -> Shown:
        """Lay out an observation in at most ``budget`` tokens; may ask the graph for neighbours and raise as above."""
        beside: dict[int, str] = {}
        facts: dict[int, tuple[Observation, ...]] = {}
        if self._agent.expand_mediators and observation.ok and observation.query.operation.returns_entities:
            facts = await self._neighbours(observation)
            beside = {position: _in_brackets(found) for position, found in facts.items()}
        note = self._namesakes(observation.query) if self._agent.show_namesakes and observation.ok else ""
        text, shown = render(observation, self._count_tokens, budget, self._agent.layout, beside=beside, note=note)
        expanded = tuple(fact for position, found in facts.items() if position < shown for fact in found)
        return Shown(text, shown, expanded)

    async def _neighbours(self, observation: Observation) -> dict[int, tuple[Observation, ...]]:
        """The facts of the nameless results, by their position; without those that lead back to the asked entity."""
        pairs = zip(observation.names, observation.ids, strict=True)
        positions = [i for i, (name, identifier) in enumerate(pairs) if is_nameless(name, identifier)][:MAX_EXPANDED]
        graph_id = observation.query.graph_id
        listed = [
            Query(operation=operation, entity=observation.names[position], graph_id=graph_id)
            for position in positions
            for operation in (Operation.GET_TAIL_RELATIONS, Operation.GET_HEAD_RELATIONS)
        ]
        relations = await self._execute(listed)
        wanted = [
            (position, query.model_copy(update={"operation": _ASKED_OF[query.operation.outgoing], "relation": name}))
            for position, query, found in zip(_twice(positions), listed, relations, strict=True)
            for name in found.names[:MAX_RELATIONS]
        ]
        answers = await self._execute([query for _, query in wanted])
        facts: dict[int, tuple[Observation, ...]] = {}
        for (position, _), answer in zip(wanted, answers, strict=True):
            fact = _few(answer, without=observation.query.entity)
            if fact is not None:
                facts[position] = (*facts.get(position, ()), fact)
        return facts

    def _namesakes(self, query: Query) -> str:
        """A remark if several entities bear the name that was asked for; only graphs with a name index know."""
        if query.graph_id is not None or not isinstance(self._graph, NameIndex):
            return ""
        bearers = [match.name for match in self._graph.find_names(query.entity)]
        if len(bearers) < 2:
            return ""
        listed = ", ".join(show_name(name) for name in bearers[:_NAMESAKES])
        rest = ", ..." if len(bearers) > _NAMESAKES else ""
        return f"({len(bearers)} entities are named {neutralise(query.entity)}: {listed}{rest})"


def ranked(whole: Observation, query: Query, question: str) -> Observation:
    """The page that ``query`` asks for of all relations, the likeliest for the question first."""
    asked = whole.query.model_copy(update={"offset": query.offset, "limit": query.limit})
    if not whole.ok:
        return whole.model_copy(update={"query": asked})
    order = rank_relations(question, whole.names)
    page = order[query.offset :][: query.limit]
    if not page:
        last = -(-whole.total // (query.limit or whole.total))
        message = f"There are only {whole.total} results; the last page is page={last}."
        return Observation(query=query, error=ErrorCode.NO_RESULTS, message=message)
    names = tuple(whole.names[i] for i in page)
    ids = tuple(whole.ids[i] for i in page)
    return whole.model_copy(update={"query": asked, "names": names, "ids": ids})


def is_nameless(name: str, identifier: str) -> bool:
    """True for a node that is shown by an identifier which says nothing, such as a mediator of Freebase.

    >>> is_nameless("m.04j60kc", "m.04j60kc"), is_nameless("Alien", "m.0kcn7"), is_nameless("1979", "1979")
    (True, False, False)
    """
    return name == identifier and is_identifier(name)


def _few(answer: Observation, without: str) -> Observation | None:
    """The first neighbours of an answer apart from one, None if there is no other."""
    pairs = [pair for pair in zip(answer.names, answer.ids, strict=True) if pair[0] != without][:MAX_VALUES]
    if not answer.ok or not pairs:
        return None
    names, ids = zip(*pairs, strict=True)
    return answer.model_copy(update={"names": names, "ids": ids, "times": ()})


def _in_brackets(facts: Sequence[Observation]) -> str:
    """Facts of one node in a line: ``(film: Alien; character: Ripley)``; ``^`` marks relations that point to it."""
    parts = []
    for fact in facts:
        relation = fact.query.relation or ""
        short = relation.rpartition(".")[2] or relation
        same = sum((other.query.relation or "").rpartition(".")[2] == short for other in facts)
        mark = "" if fact.query.operation.outgoing else "^"
        rest = ", ..." if fact.total > len(fact.names) + 1 else ""
        values = ", ".join(_value(name) for name in fact.names)
        parts.append(f"{mark}{neutralise(short if same == 1 else relation)}: {values}{rest}")
    return f" ({'; '.join(parts)})"


def _value(name: str) -> str:
    shown = show_name(name)
    if not shown.startswith('"') and any(mark in shown for mark in ";()"):
        return json.dumps(shown, ensure_ascii=False)
    return shown


def _twice(positions: Sequence[int]) -> list[int]:
    return [position for position in positions for _ in range(2)]
