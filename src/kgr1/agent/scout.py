"""Facts that are looked up before they are asked for, so that a turn is chosen with more than was shown.

None of that takes a turn, and nothing of it is shown, but for the facts that connect results with another topic; the
graph calls are counted like others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from kgr1.agent.comparison import compare, find_comparison
from kgr1.agent.connection import MOST_LINKED, Connection, narrow, tells, values
from kgr1.agent.evidence import shown_dates
from kgr1.agent.found import MAX_MEMBERS, asked_about, done, find, find_for, last_found, shown_in
from kgr1.agent.prior import listed
from kgr1.agent.rank import rank_relations
from kgr1.agent.retrieve import Retriever
from kgr1.agent.timing import Moment, Timing, answers, dates, fits, holds, meant, moments_of, read_timing, unlike
from kgr1.config import AgentSettings
from kgr1.graph.render import neutralise
from kgr1.graph.words import text_without_topics
from kgr1.rewards.answer import normalise
from kgr1.types import FOUND, STEP, DirectedRelation, Observation, Operation, Outcome, Query, Question, Turn

MOST_RELATIONS = 50
"""Relations of an entity in each direction that are looked at: about as many as a list of them shows."""

MOST_STEPS = 500
"""Graph calls that are made at once; what takes more is not looked at."""

MOST_MEMBERS = 30
"""Results whose facts are looked at for what is between them and other topics."""

MOST_FOLLOWED = 10
"""Results that a relation is followed from to see what it leads to."""

MOST_READ = 50
"""Results of each of these that are asked for, the first in the order of their names: some relations have millions."""

MOST_NAMES = 10_000
"""Results that one fact of a topic, or of what was found, may have; of more, nothing says what is not among them."""

MOST_DATES = 3
"""Dates that single a result out."""

MOST_COMPARED = 50
"""Results that are compared with each other."""


class Scout:
    """Looks things up on behalf of one episode; all methods raise :class:`kgr1.errors.GraphError`."""

    def __init__(self, question: Question, retriever: Retriever, agent: AgentSettings) -> None:
        self.connection: Connection | None = None
        self.told_apart = False  # whether a comparison or a time singled out what was found last
        self.timing = read_timing(text_without_topics(question)) if agent.comparisons else Timing()
        self._agent = agent
        self._question = question
        self._execute = retriever.execute

    async def begin(self) -> None:
        """Look up the facts of the topics and of the numbers in the question, where these are several."""
        named = [*dict.fromkeys([*self._question.topics, *values(self._question)])]
        facts: dict[str, dict[DirectedRelation, Observation]] = {}
        if len(named) < 2:
            return  # what connects one topic with others is nothing to look for
        for fact in await self._facts(named):
            hop = fact.query.operation.outgoing, neutralise(fact.query.relation or "")
            facts.setdefault(neutralise(fact.query.entity), {})[hop] = fact
        self.connection = Connection(facts, to_topics=self.timing.asks, untimely=_untimely(self.timing, facts))

    async def look_around(self, turns: Sequence[Turn]) -> None:
        """Look up what the relations of what was found lead to, if the last turn lists them and a topic is left."""
        query = turns[-1].query
        if self.connection is None or not query or query.operation.returns_entities or query.entity != FOUND:
            return
        if done(self.connection.facts, turns).issuperset(self.connection.facts):
            return
        members = find_for(query, self._question.topics, turns).names[:MAX_MEMBERS]
        steps = [
            Query(operation=STEP[way], entity=name, relation=relation, graph_id=query.graph_id, limit=MOST_NAMES)
            for way, relation in listed(turns[-1:])
            for name in members
        ]
        ends: dict[DirectedRelation, frozenset[str]] = {}
        for step, answer in zip(steps, await self._few(steps), strict=False):
            hop = step.operation.outgoing, neutralise(step.relation or "")
            ends[hop] = ends.get(hop, frozenset()).union(answer.names)
        self.connection = replace(self.connection, ends=ends)

    async def outcomes(
        self, steps: Sequence[tuple[str, DirectedRelation]], turns: Sequence[Turn]
    ) -> dict[tuple[str, DirectedRelation], Outcome]:
        """What relations of topics, or of what was found, lead to."""
        found = find(self._question.topics, turns).names
        known = asked_about(turns)
        met = known | shown_in(turns)
        queries = {
            (entity, hop): followed(hop, found if entity == FOUND else (entity,), self._question.graph_id)
            for entity, hop in steps
        }
        answers = iter(await self._execute([query for each in queries.values() for query in each]))
        return {
            (entity, hop): outcome_of(hop, islice(answers, len(asked)), known, met if entity == FOUND else known)
            for (entity, hop), asked in queries.items()
        }

    async def links(self, turns: Sequence[Turn]) -> list[Observation]:
        """The facts by which some of what is found after ``turns`` are meant, and others are not."""
        self.told_apart = False
        found = find(self._question.topics, turns)
        if found.common or (len(found.names) < 2 and not self.timing.asks):
            return []
        members = dict(zip(found.names, found.ids, strict=True))
        links = await self._connected(members, turns)
        if links:
            linked = {name for link in links for name in link.names}
            members = {name: key for name, key in members.items() if name in linked}
        told = self._dated(turns[-1], members) or await self._compared(members)
        self.told_apart = bool(told)
        return [*narrow(links, members, {name for fact in told for name in fact.names}), *told]

    def is_named(self, found: Sequence[str]) -> bool:
        """Whether all that was found are topics of a question that has several, and that asks for no date of theirs.

        Of a question with one topic that can be the answer, as in the parent of a child.
        """
        topics = {normalise(topic) for topic in self._question.topics}
        several = self.connection is not None and len(topics) > 1 and not self.timing.asks
        return several and bool(found) and topics.issuperset(map(normalise, found))

    def is_settled(self, turns: Sequence[Turn]) -> bool:
        """Whether what was found last is of the time that the question names, or has the dates that it asks for."""
        result = turns[-1].observation
        if self.timing.asks or result is None or result.query.entity == FOUND:
            return bool(self.dates(turns))
        chosen = self._meant(turns[-1], result.names)
        if self.timing.limit is not None:
            return any(holds(each, self.timing.limit) for each in chosen)
        return 0 < len(chosen) < len(moments_of(result, result.names))

    def dates(self, turns: Sequence[Turn]) -> list[str]:
        """The dates that the question asks for, of what is found after ``turns``; none if it asks for none."""
        if not self.timing.asks:
            return []
        last = last_found(turns)
        found = find(self._question.topics, turns).names
        if last is None:
            return []
        shown = shown_dates(last)
        return dates(self.timing, [each for each in self._meant(last, found) if each.text in shown.get(each.name, ())])

    def answers(self, turns: Sequence[Turn]) -> list[str]:
        """What ``*`` stands for in an answer: what is found, or the dates that are asked for, or both."""
        return answers(self.timing, find(self._question.topics, turns).names, self.dates(turns))

    def _dated(self, turn: Turn, members: Mapping[str, str]) -> list[Observation]:
        """The facts whose dates say which of what was found are meant."""
        result = turn.observation
        if result is None or result.query.entity == FOUND:
            return []
        chosen = self._meant(turn, members)
        # What has no date is not known to be of the time that is named, if something is.
        limit = self.timing.limit
        known = limit is not None and all(holds(each, limit) for each in chosen)
        if not chosen or (len(chosen) == len(moments_of(result, members)) and not known):
            return []
        if self.timing.asks:
            chosen = unlike(self.timing, chosen)
            told_apart = 0 < len(chosen) <= MOST_LINKED  # what has no end yet is no answer to when it ended
        else:
            told_apart = tells({each.name for each in chosen}, members)
        if not told_apart:
            return []
        times: dict[str, list[str]] = {}
        for moment in chosen:
            times.setdefault(moment.name, []).append(moment.text)
        most = MOST_LINKED if self.timing.asks else MOST_DATES
        ids, texts = tuple(members[name] for name in times), tuple(tuple(each[:most]) for each in times.values())
        return [result.model_copy(update={"names": tuple(times), "ids": ids, "times": texts})]

    def _meant(self, turn: Turn, members: Collection[str]) -> list[Moment]:
        """The dated facts of a result that are meant."""
        result = turn.observation
        moments = [] if result is None or not self._agent.comparisons else moments_of(result, members)
        queries = turn.query, None if result is None else result.query
        asked = {neutralise(query.entity) for query in queries if query is not None}
        others = [topic for topic in self._question.topics if neutralise(topic) not in asked]
        return meant(self._question, self.timing, moments, others)

    async def _connected(self, members: Mapping[str, str], turns: Sequence[Turn]) -> list[Observation]:
        """The facts that some of what was found have with other topics."""
        if self.connection is None:
            return []
        behind = done(self.connection.facts, turns).union(map(neutralise, members))
        links = self.connection.links(members, behind)
        behind |= {*values(self._question)}  # a year is between too many things
        if links or behind.issuperset(self.connection.facts) or len(members) > MOST_MEMBERS:
            return links
        return self.connection.links_between(members, behind, await self._facts([*members]))

    async def _compared(self, members: Mapping[str, str]) -> list[Observation]:
        """The facts that say which of what was found are meant by a comparison."""
        comparison = find_comparison(text_without_topics(self._question)) if self._agent.comparisons else None
        if comparison is None or not 1 < len(members) <= MOST_COMPARED:
            return []
        ways = (Operation.GET_TAIL_RELATIONS,)
        facts = await self._facts([*members], ways, MOST_STEPS // len(members))
        return compare(self._question, comparison, members, facts)

    async def _facts(
        self,
        entities: Sequence[str],
        ways: Sequence[Operation] = (Operation.GET_TAIL_RELATIONS, Operation.GET_HEAD_RELATIONS),
        most: int = MOST_RELATIONS,
    ) -> list[Observation]:
        """Facts of some entities, as these are named, by relation, those that are most like the question first.

        Without those that a graph gives in part.
        """
        listings = [
            Query(operation=operation, entity=entity, graph_id=self._question.graph_id)
            for entity in entities
            for operation in ways
        ]
        steps = [
            Query(
                operation=STEP[asked.operation.outgoing],
                entity=asked.entity,
                relation=found.names[place],
                graph_id=asked.graph_id,
                limit=MOST_NAMES,
            )
            for asked, found in zip(listings, await self._execute(listings), strict=True)
            for place in rank_relations(self._question.text, found.names)[:most]
        ]
        answers = zip(steps, await self._few(steps), strict=False)
        return [_named(fact, step.entity) for step, fact in answers if len(fact.names) == fact.total]

    async def _few(self, steps: Sequence[Query]) -> list[Observation]:
        """The answers to some queries, none where there are too many."""
        return await self._execute(steps) if len(steps) <= MOST_STEPS else []


def _named(fact: Observation, entity: str) -> Observation:
    """A fact about an entity by the name that it was asked about with, which a graph may answer with another one."""
    return fact.model_copy(update={"query": fact.query.model_copy(update={"entity": entity, "limit": None})})


def _untimely(
    timing: Timing, facts: Mapping[str, Mapping[DirectedRelation, Observation]]
) -> dict[str, set[DirectedRelation]]:
    """The relations of each topic that lead to nothing at the time in question, if any of the facts have dates."""
    if timing.limit is None and not timing.asks:
        return {}
    if not any(fact.times for found in facts.values() for fact in found.values()):
        return {}
    return {topic: {hop for hop, fact in found.items() if not fits(timing, fact)} for topic, found in facts.items()}


def followed(hop: DirectedRelation, entities: Sequence[str], graph_id: str | None) -> list[Query]:
    """The queries that follow a relation from the first of some entities, to see what it leads to."""
    way, relation = hop
    return [
        Query(operation=STEP[way], entity=name, relation=relation, graph_id=graph_id, limit=MOST_READ)
        for name in entities[:MOST_FOLLOWED]
    ]


def outcome_of(
    hop: DirectedRelation, answers: Iterable[Observation], known: Collection[str], met: Collection[str] = ()
) -> Outcome:
    """What the ``answers`` to :func:`followed` give together, without what is ``known``, unless there is nothing else.

    ``known`` are the names of the entities that were asked about and ``met`` of all on the way, both neutralised.
    """
    names = sorted({name for answer in answers for name in answer.names})
    kept = [name for name in names if neutralise(name) not in known] or names  # as in kgr1.agent.found
    return Outcome(hop, tuple(kept), len(kept), all(neutralise(name) in met for name in names))
