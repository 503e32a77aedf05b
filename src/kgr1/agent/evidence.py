"""Which of the facts that the model was shown carry an answer."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from itertools import chain, repeat
from typing import NamedTuple

from kgr1.graph.names import lookup_key
from kgr1.graph.render import dates_behind
from kgr1.graph.temporal import parse_date
from kgr1.rewards.answer import normalise
from kgr1.types import Observation, Triple, Turn


class _Result(NamedTuple):
    """A shown fact as one result of a query: the entity that was asked, the one that came back, and its shown dates.

    ``linked`` says that it was singled out, by a time or by another topic.
    """

    triple: Triple
    asked: str
    found: str
    dates: tuple[str, ...]
    linked: bool


def shown_triples(turns: Iterable[Turn]) -> list[Triple]:
    """Every fact that stood in an observation, in order, without duplicates."""
    return list(dict.fromkeys(result.triple for result in _results(turns)))


def shown_times(turns: Iterable[Turn]) -> dict[Triple, tuple[str, ...]]:
    """The dates that stood behind each fact in an observation, in order; facts without any are left out."""
    times: dict[Triple, dict[str, None]] = {}
    for result in _results(turns):
        if result.dates:
            times.setdefault(result.triple, {}).update(dict.fromkeys(result.dates))
    return {triple: tuple(dates) for triple, dates in times.items()}


def _results(turns: Iterable[Turn]) -> Iterator[_Result]:
    """Every fact that stood in an observation, in order."""
    for turn in turns:
        told = shown_dates(turn)
        for observation, shown in turn.facts():
            times = chain(observation.times, repeat(()))
            for triple, name, dates in zip(observation.triples(shown), observation.names, times, strict=False):
                seen = told.get(name, ())
                linked = any(observation is each for each in turn.linked)
                yield _result(triple, observation, tuple(date for date in dates if date in seen), linked=linked)


def shown_dates(turn: Turn) -> dict[str, set[str]]:
    """The dates that stood behind each result in the observation of a turn; names without any are left out."""
    beside = (each for fact in (*turn.expanded, *turn.linked) for each in zip(fact.names, fact.times, strict=False))
    found = turn.observation
    listed = () if found is None else zip(found.names[: turn.shown], found.times, strict=False)
    shown: dict[str, set[str]] = {}
    for name, dates in (*listed, *beside):
        if seen := dates_behind(name, dates, turn.information):
            shown.setdefault(name, set()).update(seen)
    return shown


def _result(triple: Triple, observation: Observation, dates: tuple[str, ...], *, linked: bool) -> _Result:
    asked, found = (triple.head, triple.tail) if observation.query.operation.outgoing else (triple.tail, triple.head)
    return _Result(triple, asked, found, dates, linked)


def find_evidence(topics: Sequence[str], answers: Sequence[str], turns: Sequence[Turn]) -> tuple[Triple, ...]:
    """The facts behind any of the answers (see :func:`find_supports`), in the order they were shown."""
    used = {triple for support in find_supports(topics, answers, turns) for triple in support}
    return tuple(triple for triple in shown_triples(turns) if triple in used)


def find_supports(
    topics: Sequence[str], answers: Sequence[str], turns: Sequence[Turn]
) -> tuple[tuple[Triple, ...], ...]:
    """For each answer the shown facts on a shortest path to it, in the order they were shown.

    There is one from each topic that leads to it past no other topic: what France and Germany both border on takes a
    fact about each.
    A topic is an answer if the path comes from another topic, or if a query had it as a result (the wife of the
    husband of a topic). A name that no shown entity has stands for those that it equals but for punctuation and
    articles. A date is one if it, or a day or month within it, was shown behind a result; the facts are then
    those of that result. An answer that no chain of shown facts connects with a topic has none.
    """
    trace = _Trace(topics, turns)
    return tuple(trace.support(answer) for answer in answers)


Steps = dict[str, tuple[str, int] | None]
"""How a search came to an entity: from which one, and by which fact; None where it began."""


class _Trace:
    """The shown facts of an episode, and the entities that they connect with its topics."""

    def __init__(self, topics: Sequence[str], turns: Sequence[Turn]) -> None:
        self._results = list(_results(turns))
        self._triples = list(dict.fromkeys(result.triple for result in self._results))
        self._number = {triple: number for number, triple in enumerate(self._triples)}
        self._neighbours: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for number, triple in enumerate(self._triples):
            self._neighbours[triple.head].append((triple.tail, number))
            self._neighbours[triple.tail].append((triple.head, number))
        self._alike = [(form, _by_form(form, self._neighbours)) for form in (lookup_key, normalise)]
        # What was asked about may be spelt as in the question, and its results as in the graph.
        self._topics = [node for topic in topics for node in self._like(topic)]
        self._reached = self._search(self._topics)
        self._apart = [self._search([topic], past=set(self._topics) - {topic}) for topic in dict.fromkeys(self._topics)]

    def support(self, answer: str) -> tuple[Triple, ...]:
        """The facts behind an answer."""
        ways = (self._way_to(node) for node in self._nodes(answer))
        used = min(filter(None, ways), key=len, default=set()) or self._dated(answer)
        return tuple(self._triples[number] for number in sorted(used))

    def _nodes(self, name: str) -> list[str]:
        """The shown entities that a name stands for: the one that has it, else those that are like it."""
        return [name] if name in self._neighbours else self._like(name)

    def _like(self, name: str) -> list[str]:
        """The shown entities with the same name but for its spelling, else those with the same normal form."""
        return next((found for form, nodes in self._alike if (found := nodes.get(form(name)))), [])

    def _way_to(self, node: str) -> set[int]:
        if node not in self._topics:
            return set().union(*(_way(reached, node) for reached in self._apart))
        others = self._search([topic for topic in self._topics if topic != node])
        return _way(others, node) or self._back(node)

    def _search(self, roots: Iterable[str], past: Set[str] = frozenset()) -> Steps:
        """Breadth first over facts in both directions, and not by way of ``past``."""
        reached: Steps = dict.fromkeys(roots)
        queue = deque(reached)
        while queue:
            node = queue.popleft()
            for other, number in self._neighbours.get(node, ()):
                if other not in reached and other not in past:
                    reached[other] = (node, number)
                    queue.append(other)
        return reached

    def _back(self, node: str) -> set[int]:
        """The shortest way on which a query had this entity as a result."""
        return min(
            (
                self._with_way(result)
                for result in self._results
                if result.found == node and result.asked in self._reached
            ),
            key=len,
            default=set(),
        )

    def _dated(self, answer: str) -> set[int]:
        """The way to the first result that a date stands behind: one that was singled out, else one that is a topic."""
        days = parse_date(answer)
        if days is None:
            return set()
        for result in sorted(self._results, key=lambda result: (not result.linked, result.found not in self._topics)):
            edges = [parse_date(edge) for date in result.dates for edge in date.split("/")]
            if result.asked in self._reached and any(e and days[0] <= e[0] and e[1] <= days[1] for e in edges):
                return self._with_way(result)
        return set()

    def _with_way(self, result: _Result) -> set[int]:
        return _way(self._reached, result.asked) | {self._number[result.triple]}


def _by_form(form: Callable[[str], str], names: Iterable[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(form(name), []).append(name)
    return groups


def _way(reached: Steps, node: str) -> set[int]:
    """The facts from where a search began to an entity; empty if it began there or never came there."""
    used: set[int] = set()
    step = reached.get(node)
    while step is not None:
        used.add(step[1])
        step = reached[step[0]]
    return used
