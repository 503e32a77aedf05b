"""What connects the topics of a question with each other and with what was found (``agent.connection_weight``).

Who is asked for the actor of a character in a film looks for somebody whom both have to do with:

- a relation of one topic is likelier to be meant if something that it leads to has a fact with another topic, or if it
  leads to what was found already (:meth:`Connection.connects`);
- of what was found, those are meant that have a fact with another topic, if others have not
  (:meth:`Connection.links`), be it by way of one entity between (:meth:`Connection.links_between`).

A number in the question, such as a year, counts like a topic. :class:`kgr1.agent.scout.Scout` looks the facts up.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from kgr1.agent.spans import MONTHS
from kgr1.graph.words import text_without_topics
from kgr1.types import FOUND, STEP, DirectedRelation, Observation, Query, Question

MOST_LINKED = 20
"""Results that are singled out by a fact; where more would be, none is."""

MOST_LINKS = 3
"""Facts by which results are said to have to do with another topic."""

_THAN = r"before|after|since|until|than|to|over|under|at\s+least|at\s+most"
_BETWEEN = rf"the|year|about|around|some|nearly|{'|'.join(MONTHS)}"
_VALUE = re.compile(
    rf"(?<![\w.])(?:(?P<than>{_THAN})\s+(?:(?:{_BETWEEN})\s+){{0,2}})?(?P<value>\d+(?:,\d{{3}})*(?:\.\d+)?)(?!\w)",
    re.IGNORECASE,
)
_WHOLE = re.compile(r"\d{3,}")


def values(question: Question) -> list[str]:
    """The numbers of three digits and more in a question that are not part of a topic, nor what others are compared to.

    >>> values(Question(id="1", text="Which club of Spain was founded in 1930?", topics=("Spain",), answers=()))
    ['1930']
    >>> values(Question(id="1", text="Which club of Spain was founded after 1930?", topics=("Spain",), answers=()))
    []
    """
    found = [match["value"] for match in _VALUE.finditer(text_without_topics(question)) if not match["than"]]
    whole = filter(_WHOLE.fullmatch, found)
    return [value for value in whole if not any(value in topic for topic in question.topics)]


@dataclass(frozen=True)
class Connection:
    """All facts of each topic, by its name and the relation, and what each relation of what was found leads to.

    With ``to_topics`` a relation connects if it leads to another topic itself, as for who asks when both had to do with
    each other. ``untimely`` are the relations of each topic that lead to nothing at the time which the question names.
    """

    facts: Mapping[str, Mapping[DirectedRelation, Observation]] = field(default_factory=dict)
    ends: Mapping[DirectedRelation, frozenset[str]] = field(default_factory=dict)
    to_topics: bool = False
    untimely: Mapping[str, Collection[DirectedRelation]] = field(default_factory=dict)

    @cached_property
    def around(self) -> dict[str, frozenset[str]]:
        """All that has a fact with each topic, but for the topics."""
        return {
            topic: frozenset(name for fact in facts.values() for name in fact.names if name not in self.facts)
            for topic, facts in self.facts.items()
        }

    def weight(self, entity: str, hop: DirectedRelation, found: Collection[str], done: Collection[str]) -> int:
        """1 for a relation that :meth:`connects`, 1 less for one that is not of the time that is asked about."""
        return self.connects(entity, hop, found, done) - (hop in self.untimely.get(entity, ()))

    def connects(self, entity: str, hop: DirectedRelation, found: Collection[str], done: Collection[str]) -> bool:
        """Whether ``hop`` of ``entity``, a topic or ``*``, leads to something that has to do with another topic.

        From a topic that is what was ``found`` from others, if anything was; else it is all that has a fact with one
        of the topics that are not ``done``.
        """
        if entity == FOUND:
            ends = self.ends.get(hop, frozenset())
        else:
            fact = self.facts.get(entity, {}).get(hop)
            ends = frozenset() if fact is None else frozenset(fact.names)
            if found and any(topic != entity for topic in done):
                return not ends.isdisjoint(found)
        others = [topic for topic in self.facts if topic != entity and topic not in done]
        if self.to_topics:
            return not ends.isdisjoint(others)
        return any(not ends.isdisjoint(self.around[topic]) for topic in others)

    def links(self, found: Collection[str], done: Collection[str]) -> list[Observation]:
        """The facts with topics that are not ``done`` which some of what was ``found`` have and others have not."""
        facts: list[Observation] = []
        members = set(found)
        for topic in self.facts:
            linked = members & self.around[topic]
            if topic not in done and tells(linked, members):
                more = _cover(self.facts[topic].values(), linked)
                members = {name for fact in more for name in fact.names}
                facts += more
        kept = (_only(fact, members) for fact in facts)
        return [fact for fact in kept if fact.names]

    def links_between(
        self, found: Mapping[str, str], done: Collection[str], facts: Sequence[Observation]
    ) -> list[Observation]:
        """The same by way of one entity between; ``facts`` are those of what was ``found``, by name and identifier."""
        for topic in self.facts:
            second = [] if topic in done else _telling(facts, found, self.around[topic])
            if second:
                return [*_cover(self.facts[topic].values(), {fact.query.entity for fact in second}), *second]
        return []


def narrow(links: Sequence[Observation], members: Collection[str], kept: Collection[str]) -> list[Observation]:
    """``links`` of ``members`` for those of them that are ``kept``, all links if none is."""
    if not kept:
        return [*links]
    narrowed = (link if set(members).isdisjoint(link.names) else _only(link, kept) for link in links)
    return [link for link in narrowed if link.names]


def _telling(facts: Iterable[Observation], ids: Mapping[str, str], names: Collection[str]) -> list[Observation]:
    """Facts of ``names`` with some of the entities that ``facts`` are of, whose identifiers are ``ids``.

    None of a name that all of these have a fact with, or that is one of them.
    """
    turned = _turned(facts, ids, set(names).difference(ids))
    ends: dict[str, set[str]] = {}
    for fact in turned:
        ends.setdefault(fact.query.entity, set()).update(fact.names)
    turned = [fact for fact in turned if len(ends[fact.query.entity]) < len(ids)]
    linked = {name for fact in turned for name in fact.names}
    return _cover(turned, linked) if tells(linked, ids) else []


def _turned(facts: Iterable[Observation], ids: Mapping[str, str], names: Collection[str]) -> list[Observation]:
    """Facts of some entities with ``names``, as facts of these with the entities, whose identifiers are ``ids``."""
    ends: dict[Query, list[str]] = {}
    for fact in facts:
        for name in fact.names:
            if name in names:
                other_way = {"operation": STEP[not fact.query.operation.outgoing], "entity": name}
                ends.setdefault(fact.query.model_copy(update=other_way), []).append(fact.query.entity)
    return [
        Observation(query=query, names=tuple(each), ids=tuple(ids[name] for name in each), total=len(each))
        for query, each in ends.items()
    ]


def tells(linked: Collection[str], members: Collection[str]) -> bool:
    """Whether some of ``members`` are singled out, and not too many."""
    return 0 < len(linked) < len(members) and len(linked) <= MOST_LINKED


def _cover(facts: Iterable[Observation], names: Collection[str]) -> list[Observation]:
    """As few facts as can be, :data:`MOST_LINKS` at most, with as many of ``names`` as can be and no others."""
    result: list[Observation] = []
    left, facts = set(names), list(facts)
    while left and facts and len(result) < MOST_LINKS:
        best = _only(max(facts, key=lambda fact: len(left.intersection(fact.names))), left)
        if not best.names:
            break
        result.append(best)
        left.difference_update(best.names)
    return result


def _only(fact: Observation, names: Collection[str]) -> Observation:
    """Those of the facts that are about one of ``names``."""
    pairs = [pair for pair in zip(fact.names, fact.ids, strict=True) if pair[0] in names]
    kept, ids = ([*side] for side in zip(*pairs, strict=True)) if pairs else ([], [])
    return fact.model_copy(update={"names": tuple(kept), "ids": tuple(ids), "times": ()})
