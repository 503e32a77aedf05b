"""What the graph answers to an episode's queries, and how it is shown.

Four options of :class:`kgr1.config.AgentSettings` go beyond the paper and are off by default: relations in the order
of their likeness to the question, the neighbours of results that have no name, a remark on names that several entities
share, and queries about all that was found (:mod:`kgr1.agent.found`). What is shown beside a result is recorded in the
turn, so that evidence and rewards count what the model saw, no more and no less.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Sequence
from itertools import repeat
from typing import NamedTuple

from kgr1.agent.found import Found, members_of, not_yet, other_way, past_the_end, together
from kgr1.agent.ledger import Ledger
from kgr1.agent.rank import rank_relations
from kgr1.agent.retrieve import Retriever
from kgr1.config import AgentSettings
from kgr1.graph.api import KnowledgeGraph, NameIndex
from kgr1.graph.names import is_identifier
from kgr1.graph.render import neutralise, render, show_dates, show_name
from kgr1.types import FOUND, STEP, ErrorCode, Observation, Operation, Query, Question

MAX_EXPANDED = 12
"""Nameless results of one observation whose neighbours are fetched."""

MAX_RELATIONS = 8
"""Relations of a nameless result, in each direction, whose entities are fetched."""

MAX_VALUES = 3
"""Neighbours shown for one relation of a nameless result."""

MAX_COMMON = 10
"""Names in the remark on what the results from several topics share."""

NOTHING = Found()

_WAYS = {True: "out: ", False: "in: "}
_NAMESAKES = 3  # entities that the remark on a shared name lists


class Shown(NamedTuple):
    """The text for the model, how many of the observation's names stand in it, and the facts shown beside them."""

    text: str
    shown: int
    expanded: tuple[Observation, ...] = ()
    linked: tuple[Observation, ...] = ()


class Asked(NamedTuple):
    """The answer to a query, and what belongs to it: relations of the other direction, or the answer of each member."""

    observation: Observation
    beside: tuple[Observation, ...] = ()


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

    async def ask(self, query: Query, found: Found = NOTHING) -> Asked:
        """The answer to one query; raises :class:`kgr1.errors.GraphError` if the graph does not answer.

        ``found`` is what ``*`` stands for.
        """
        if not self._agent.sets:
            return Asked((await self._answers([query], found))[0])
        if query.operation.returns_entities:
            if query.entity != FOUND or not found.names:
                return Asked((await self._answers([query], found))[0])
            parts = await self._execute(members_of(query, found))
            return Asked(together(query, parts), tuple(part for part in parts if part.ok))
        one, other = await self._answers([query, other_way(query)], found)
        if other.ok and not one.ok:
            one, other = other, one
        return Asked(one, (other,) if other.ok else ())

    async def _answers(self, queries: Sequence[Query], found: Found) -> list[Observation]:
        """One answer to each query; relations in the order that the settings want."""
        ranks = self._agent.rank_relations != "none"
        result = []
        for query in queries:
            ranking = ranks and not query.operation.returns_entities
            # The order is that of the whole list, so pages are cut after ranking.
            asked = query.model_copy(update={"offset": 0, "limit": None}) if ranking else query
            about_found = self._agent.sets and query.entity == FOUND
            if about_found and found.names:
                answer = together(asked, await self._execute(members_of(asked, found)))
            else:
                (answer,) = await self._execute([asked])
                if about_found and answer.error is ErrorCode.ENTITY_NOT_FOUND:  # unless an entity has this name
                    answer = not_yet(asked)
            result.append(ranked(answer, query, self._question.text) if ranking else answer)
        return result

    async def show(
        self, asked: Asked, budget: int, *, common: Sequence[str] = (), links: Sequence[Observation] = ()
    ) -> Shown:
        """Lay out an answer in at most ``budget`` tokens, marks of directions apart.

        ``common`` is what the results from several topics share; the first of them stand in a remark after the results,
        behind ``links``, the facts of other topics with some of them.
        May ask the graph for neighbours and raise as above.
        """
        observation = asked.observation
        note = self._namesakes(asked) if self._agent.show_namesakes and observation.ok else ""
        if asked.beside and not observation.query.operation.returns_entities:
            return self._both_ways(observation, asked.beside[0], budget, note)
        beside: dict[int, str] = {}
        facts: dict[int, tuple[Observation, ...]] = {}
        if self._agent.expand_mediators and observation.ok and observation.query.operation.returns_entities:
            facts = await self._neighbours(asked)
            beside = {position: _in_brackets(found) for position, found in facts.items()}
        remarked = common[:MAX_COMMON]
        note = " ".join(filter(None, (note, *map(_link, links), _in_both(remarked, more=len(common) > len(remarked)))))
        text, shown = render(observation, self._count_tokens, budget, self._agent.layout, beside=beside, note=note)
        if self._agent.sets and observation.ok and not observation.query.operation.returns_entities:
            text = _WAYS[observation.query.operation.outgoing] + text
        expanded = tuple(fact for position, found in facts.items() if position < shown for fact in found)
        return Shown(text, shown, (*_parts(asked, shown, remarked), *expanded), tuple(links))

    def _both_ways(self, one: Observation, other: Observation, budget: int, note: str) -> Shown:
        """Relations of both directions; the second list has a third of the room, and what the first one leaves."""
        budget -= self._count_tokens(note) if note else 0
        least = render(other, self._count_tokens, budget // 3, self._agent.layout)
        first = render(one, self._count_tokens, budget - self._count_tokens(least.text), self._agent.layout)
        second = render(other, self._count_tokens, budget - self._count_tokens(first.text), self._agent.layout)
        lists = {one.query.operation.outgoing: first.text, other.query.operation.outgoing: second.text}
        text = "\n".join(filter(None, (*(_WAYS[way] + lists[way] for way in (True, False)), note)))
        left = other.model_copy(update={"names": other.names[: second.shown], "ids": other.ids[: second.shown]})
        return Shown(text, first.shown, (left,))

    async def _neighbours(self, asked: Asked) -> dict[int, tuple[Observation, ...]]:
        """The facts of the nameless results, by their position; without those that lead back to what was asked."""
        observation = asked.observation
        back = {observation.query.entity, *(part.query.entity for part in asked.beside)}
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
            (position, query.model_copy(update={"operation": STEP[query.operation.outgoing], "relation": name}))
            for position, query, found in zip(_twice(positions), listed, relations, strict=True)
            for name in found.names[:MAX_RELATIONS]
        ]
        answers = await self._execute([query for _, query in wanted])
        facts: dict[int, tuple[Observation, ...]] = {}
        for (position, _), answer in zip(wanted, answers, strict=True):
            fact = _few(answer, without=back)
            if fact is not None:
                facts[position] = (*facts.get(position, ()), fact)
        return facts

    def _namesakes(self, asked: Asked) -> str:
        """A remark if several entities bear the name that was asked for; only graphs with a name index know."""
        query = asked.observation.query
        about_found = self._agent.sets and query.entity == FOUND
        if about_found or query.graph_id is not None or not isinstance(self._graph, NameIndex):
            return ""
        bearers = [match.name for match in self._graph.find_names(query.entity)]
        if len(bearers) < 2:
            return ""
        listed = ", ".join(show_name(name) for name in bearers[:_NAMESAKES])
        rest = ", ..." if len(bearers) > _NAMESAKES else ""
        return f"({len(bearers)} entities are named {neutralise(query.entity)}: {listed}{rest})"


def _link(fact: Observation) -> str:
    """The remark on results that have a fact with another topic."""
    dates = (show_dates(times, most=len(times)) for times in fact.times) if fact.times else repeat("")
    names = ", ".join(show_name(name) + when for name, when in zip(fact.names, dates, strict=False))
    return f"({neutralise(fact.query.entity)}, {neutralise(fact.query.relation or '')}: {names})"


def _in_both(names: Sequence[str], *, more: bool) -> str:
    """The remark on what the results from several topics have in common; empty if that is nothing."""
    return f"(in both: {', '.join(map(show_name, names))}{', ...' if more else ''})" if names else ""


def _parts(asked: Asked, shown: int, remarked: Sequence[str]) -> list[Observation]:
    """The answers of members as far as they were shown; else the results that only a remark shows, if there are any."""
    listed = asked.observation.names[:shown]
    if asked.beside:
        return _only(asked.beside, {*listed, *remarked})
    return _only([asked.observation], {*remarked} - {*listed})


def _only(parts: Sequence[Observation], names: Container[str]) -> list[Observation]:
    """Answers with those of their results that are among ``names``."""
    result = []
    for part in parts:
        places = [place for place, name in enumerate(part.names) if name in names]
        if places:
            kept = {
                field: tuple(values[place] for place in places if place < len(values))
                for field, values in (("names", part.names), ("ids", part.ids), ("times", part.times))
            }
            result.append(part.model_copy(update=kept))
    return result


def ranked(whole: Observation, query: Query, question: str) -> Observation:
    """The page that ``query`` asks for of all relations, the likeliest for the question first."""
    asked = whole.query.model_copy(update={"offset": query.offset, "limit": query.limit})
    if not whole.ok:
        return whole.model_copy(update={"query": asked})
    order = rank_relations(question, whole.names)
    page = order[query.offset :][: query.limit]
    if not page:
        return past_the_end(query, whole.total)
    names = tuple(whole.names[i] for i in page)
    ids = tuple(whole.ids[i] for i in page)
    return whole.model_copy(update={"query": asked, "names": names, "ids": ids})


def is_nameless(name: str, identifier: str) -> bool:
    """True for a node that is shown by an identifier which says nothing, such as a mediator of Freebase.

    >>> is_nameless("m.04j60kc", "m.04j60kc"), is_nameless("Alien", "m.0kcn7"), is_nameless("1979", "1979")
    (True, False, False)
    """
    return name == identifier and is_identifier(name)


def _few(answer: Observation, without: Container[str]) -> Observation | None:
    """The first neighbours of an answer apart from some, None if there are no others."""
    others = [pair for pair in zip(answer.names, answer.ids, strict=True) if pair[0] not in without]
    if not answer.ok or not others:
        return None
    names, ids = zip(*others[:MAX_VALUES], strict=True)
    total = answer.total - len(answer.names) + len(others)
    return answer.model_copy(update={"names": names, "ids": ids, "times": (), "total": total})


def _in_brackets(facts: Sequence[Observation]) -> str:
    """Facts of one node in a line: ``(film: Alien; character: Ripley)``; ``^`` marks relations that point to it."""
    parts = []
    for fact in facts:
        relation = fact.query.relation or ""
        short = relation.rpartition(".")[2] or relation
        same = sum((other.query.relation or "").rpartition(".")[2] == short for other in facts)
        mark = "" if fact.query.operation.outgoing else "^"
        rest = ", ..." if fact.total > len(fact.names) else ""
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
