"""How many facts lie between the topics of a question and its gold answers.

A breadth-first search from the topics in both directions of the arrows, as an agent could walk, that ends when all
answers are found. An entity with very many facts is reached but not expanded (unless it is a topic), nor is one whose
facts the graph refuses to give, and a search ends after a number of entities; all this is said in the result, because
it can only make a distance seem longer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from pydantic import Field

from kgr1.graph.api import KnowledgeGraph, NameIndex
from kgr1.graph.around import RELATIONS, execute, facts_around, refused
from kgr1.types import GoldAnswer, Observation, Query, Question, Record

_DATE = re.compile(r"\d{3,4}(-\d\d){0,2}")  # two digits are rather a number
_TOPIC_PAGE = 100_000  # names of one relation of a topic that are looked at
_KEPT = 4_000_000  # neighbours kept in memory


class ReachOptions(Record):
    """How far a search goes."""

    hops: int = Field(default=4, ge=1, le=10)
    hub_limit: int = Field(default=5_000, ge=1)  # facts of an entity that is still expanded
    max_entities: int = Field(default=50_000, ge=1)  # expanded for one question


@dataclass
class Distances:
    """What a search found. ``answers`` runs parallel to the gold answers of the question.

    A distance is the number of facts in between, 0 for a topic that is an answer itself, None if the search did not
    find the answer. ``present`` says whether the graph holds an answer at all, None for a date, which is no node.
    """

    answers: list[int | None]
    present: list[bool | None]
    missing_topics: list[str] = field(default_factory=list)
    ambiguous_topics: dict[str, tuple[str, ...]] = field(default_factory=dict)  # the entities behind a shared name
    hubs: int = 0  # entities that were not expanded
    cut: bool = False  # the search ended at its limit of entities

    def within(self, hops: int) -> tuple[bool, bool]:
        """Whether some, and whether all gold answers are at most so far away."""
        near = [distance is not None and distance <= hops for distance in self.answers]
        return any(near), bool(near) and all(near)


@dataclass(frozen=True)
class _Near:
    """The neighbours of an entity, and the dates of its facts; ``hub`` if it has too many."""

    names: tuple[str, ...]
    dates: tuple[str, ...] = ()
    hub: bool = False


class Search:
    """Searches on one graph; neighbours that were asked for are kept for the next question."""

    def __init__(self, graph: KnowledgeGraph, options: ReachOptions | None = None) -> None:
        self._graph = graph
        self._options = options or ReachOptions()
        self._index: NameIndex | None = graph if isinstance(graph, NameIndex) else None
        self._dated = graph.info().dated > 0
        self._graph_id: str | None = None
        self._kept: dict[str, _Near] = {}
        self._size = 0
        self._meant: dict[str, tuple[str, ...]] = {}

    @property
    def knows_namesakes(self) -> bool:
        """True if the graph tells which entities share a name."""
        return self._index is not None

    def distances(self, question: Question) -> Distances:
        """The distances of all gold answers.

        Raises :class:`kgr1.errors.GraphServerError` if the graph cannot answer.
        """
        if question.graph_id != self._graph_id:
            self._graph_id = question.graph_id
            self._kept, self._size, self._meant = {}, 0, {}
        targets = [self._answer(answer) for answer in question.answers]
        # A year can be a node as well as the date of a fact; the nearer one counts.
        dates = [_iso(answer.label) if self._is_date(answer) else "" for answer in question.answers]
        present = [True if target else None if date else False for date, target in zip(dates, targets, strict=True)]
        found = Distances(answers=[None] * len(targets), present=present)
        starts = self._starts(question.topics, found)
        self._walk(starts, targets, dates, found)
        return found

    def _starts(self, topics: Iterable[str], found: Distances) -> list[str]:
        starts: dict[str, None] = {}
        for topic in dict.fromkeys(topics):
            names = self._names(topic)
            if not names:
                found.missing_topics.append(topic)
            elif len(names) > 1:
                found.ambiguous_topics[topic] = names
            starts.update(dict.fromkeys(names))
        return list(starts)

    def _walk(self, starts: Sequence[str], targets: Sequence[set[str]], dates: Sequence[str], found: Distances) -> None:
        seen, level = set(starts), list(starts)
        _mark(found, 0, targets, self._bare(level))
        expanded = 0
        for hop in range(1, self._options.hops + 1):
            # What the graph does not hold cannot be found by going on.
            open_ = [n for n, distance in enumerate(found.answers) if distance is None and (targets[n] or dates[n])]
            if not open_ or not level:
                return
            room = self._options.max_entities - expanded
            if len(level) > room:
                level, found.cut = level[:room], True
            expanded += len(level)
            reached: set[str] = set()
            when: set[str] = set()
            for near in self._around(level, topics=hop == 1):
                found.hubs += near.hub
                reached.update(near.names)
                when.update(near.dates)
            fresh = reached - seen
            seen |= fresh
            _mark(found, hop, targets, self._bare(fresh))
            for number in open_:
                if dates[number] and found.answers[number] is None and _holds(when, dates[number]):
                    found.answers[number] = hop
            if found.cut:
                return
            level = sorted(fresh)

    def _around(self, entities: Sequence[str], *, topics: bool) -> Iterator[_Near]:
        unknown = [entity for entity in entities if entity not in self._kept or (topics and self._kept[entity].hub)]
        page = max(_TOPIC_PAGE if topics else 0, self._options.hub_limit)
        fresh: dict[str, _Near] = {}
        for entity, results in zip(
            unknown, facts_around(self._graph, unknown, graph_id=self._graph_id, limit=page), strict=True
        ):
            # What an endpoint refuses to list is, most likely, a hub that is too much for it.
            withheld = any(map(refused, results))
            hub = sum(found.total for found in results) > self._options.hub_limit and not topics
            near = _Near((), hub=True) if hub or withheld else _near(results, self._dated)
            fresh[entity] = near
        for entity in entities:
            yield fresh[entity] if entity in fresh else self._kept[entity]
        if topics:  # a topic is expanded whatever its size, any other entity is not
            fresh = {entity: near for entity, near in fresh.items() if len(near.names) <= self._options.hub_limit}
        self._size += sum(1 + len(near.names) for near in fresh.values())
        if self._size > _KEPT:
            self._kept, self._size = {}, 0
        self._kept.update(fresh)

    def _answer(self, answer: GoldAnswer) -> set[str]:
        """The display names of the entities that a gold answer can be, by id before label before aliases."""
        for text in dict.fromkeys((answer.id, answer.label, *answer.aliases)):
            names = self._names(text) if text else ()
            if names:
                return set(names)
        return set()

    def _is_date(self, answer: GoldAnswer) -> bool:
        return self._dated and answer.named and _DATE.fullmatch(answer.label) is not None

    def _names(self, text: str) -> tuple[str, ...]:
        """Display names of the entities of the graph that a text names, those with most facts first."""
        known = self._meant.get(text)
        if known is None:
            if len(self._meant) > _KEPT // 10:
                self._meant.clear()
            known = self._meant[text] = self._asked(text)
        return known

    def _asked(self, text: str) -> tuple[str, ...]:
        names = [text]
        if self._index is not None:
            names = [match.name for match in self._index.find_names(text)]
            if self._graph_id is None:
                return tuple(names)
        queries = [Query(operation=each, entity=name, graph_id=self._graph_id) for name in names for each in RELATIONS]
        # A name whose relations are too much for an endpoint is there; of one that is not, it says so.
        there = (found for found in execute(self._graph, queries) if found.ok or refused(found))
        return tuple(dict.fromkeys(found.query.entity for found in there))

    def _bare(self, names: Iterable[str]) -> set[str]:
        """The names, and without the ids behind shared ones where the graph cannot tell who shares a name."""
        found = set(names)
        if self._index is None:
            found |= {name.rpartition(" [")[0] for name in found if name.endswith("]") and " [" in name}
        return found


def _iso(date: str) -> str:
    """A date with four digits for the year, as facts have it."""
    return date if len(date.partition("-")[0]) == 4 else f"0{date}"


def _mark(found: Distances, hop: int, targets: Sequence[set[str]], names: set[str]) -> None:
    for number, target in enumerate(targets):
        if found.answers[number] is None and not target.isdisjoint(names):
            found.answers[number] = hop


def _near(results: Sequence[Observation], dated: bool) -> _Near:
    names = dict.fromkeys(name for found in results for name in found.names)
    if not dated:
        return _Near(tuple(names))
    spans = (span for found in results for each in found.times for span in each)
    return _Near(tuple(names), tuple(dict.fromkeys(date for span in spans for date in span.split("/") if date)))


def _holds(dates: Iterable[str], wanted: str) -> bool:
    """True if one of the dates is the wanted one, or one of the two is a part of the other, such as a year of a day."""
    return any(date == wanted or date.startswith(f"{wanted}-") or wanted.startswith(f"{date}-") for date in dates)
