"""Relation paths: their encoding in a question, and the search for one that leads exactly to the gold answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple

from kgr1.graph.api import KnowledgeGraph
from kgr1.graph.temporal import parse_filter
from kgr1.graph.words import word_stems
from kgr1.types import GoldAnswer, Observation, Operation, Query, Question

AND = "&"
"""Separates the branches of an intersection in ``Question.gold_path``."""

BACKWARD = "^"

TIME = "@"
"""Before a time filter that limits the hop in front of it."""


class Hop(NamedTuple):
    """One step along a relation; ``backward`` walks from tail to head, ``time`` limits it to the facts of a time."""

    relation: str
    backward: bool = False
    time: str | None = None

    @classmethod
    def parse(cls, text: str) -> Hop:
        """Read ``r`` or ``^r``."""
        return cls(text[1:], True) if text.startswith(BACKWARD) else cls(text)

    def __str__(self) -> str:
        return BACKWARD + self.relation if self.backward else self.relation

    @property
    def back(self) -> Hop:
        """The same relation the other way, at any time."""
        return Hop(self.relation, not self.backward)

    def relations(self, entity: str) -> Query:
        """The query that lists the relations of an entity in the direction of this hop."""
        operation = Operation.GET_HEAD_RELATIONS if self.backward else Operation.GET_TAIL_RELATIONS
        return Query(operation=operation, entity=entity)

    def entities(self, entity: str) -> Query:
        """The query that takes this hop from an entity."""
        operation = Operation.GET_HEAD_ENTITIES if self.backward else Operation.GET_TAIL_ENTITIES
        return Query(operation=operation, entity=entity, relation=self.relation, time=self.time)


Path = tuple[Hop, ...]


def parse_path(gold_path: Sequence[str]) -> list[Path]:
    """One path for each topic; empty for an empty or malformed encoding.

    >>> parse_path(("a", "&", "^b"))
    [(Hop(relation='a', backward=False, time=None),), (Hop(relation='b', backward=True, time=None),)]
    >>> parse_path(("a", "@before 2014", "b"))[0][0]
    Hop(relation='a', backward=False, time='before 2014')
    """
    branches: list[list[Hop]] = [[]]
    for item in gold_path:
        if item == AND:
            branches.append([])
        elif is_time(item):
            if not branches[-1]:
                return []
            branches[-1][-1] = branches[-1][-1]._replace(time=item[len(TIME) :])
        else:
            branches[-1].append(Hop.parse(item))
    return [tuple(branch) for branch in branches] if all(branches) else []


def is_time(item: str) -> bool:
    """True if an item of ``Question.gold_path`` is a time filter; a relation may begin with ``@`` as well.

    >>> is_time("@2014-02"), is_time("@type"), is_time("2014-02")
    (True, False, False)
    """
    return item.startswith(TIME) and parse_filter(item[len(TIME) :]) is not None


def hops_of(gold_path: Sequence[str]) -> list[str]:
    """The items of a gold path that are hops, written as there: no times, no signs of branches."""
    return [item for item in gold_path if item != AND and not is_time(item)]


def matches_gold(found: Mapping[str, str], gold: Sequence[GoldAnswer]) -> bool:
    """True if the found entities (display name -> id) are exactly the gold ones, by id, label or alias."""
    right, reached = _hits(found, gold)
    return right == len(found) and reached == len(gold)


def gold_f1(found: Mapping[str, str], gold: Sequence[GoldAnswer]) -> float:
    """F1 of the found entities (display name -> id) against the gold ones, by id, label or alias."""
    right, reached = _hits(found, gold)
    if not right:
        return 0.0
    precision, recall = right / len(found), reached / len(gold)
    return 2 * precision * recall / (precision + recall)


def _hits(found: Mapping[str, str], gold: Sequence[GoldAnswer]) -> tuple[int, int]:
    """How many of the found entities are gold answers, and how many gold answers are found."""
    numbers = _Gold(gold).numbers(found)
    return len(numbers), len(set(numbers))


class _Gold:
    """The gold answers of a question, found by id, label or alias as the graph writes them."""

    def __init__(self, answers: Sequence[GoldAnswer]) -> None:
        self._index: dict[str, int] = {}
        self._labels: dict[str, int] = {}  # of those that are known by their label alone
        for number, answer in enumerate(answers):
            for key in (answer.id, answer.label, *answer.aliases):
                if key is not None:
                    self._index.setdefault(key, number)
            if answer.named:
                self._labels.setdefault(answer.label, number)

    def numbers(self, found: Mapping[str, str]) -> list[int]:
        """Which gold answer each of the found entities (display name -> id) is, those that are none left out.

        Of several entities with one label each is displayed as ``label [id]``; a gold answer that is known by its label
        alone is any of them.
        """
        numbers = (
            self._index.get(key, self._index.get(name, self._labels.get(name.removesuffix(f" [{key}]"))))
            for name, key in found.items()
        )
        return [number for number in numbers if number is not None]


class Solution(NamedTuple):
    """Topics and one path for each; where all of the paths end are the gold answers, or something close to them."""

    topics: tuple[str, ...]
    paths: tuple[Path, ...]


def find_path(
    question: Question,
    graph: KnowledgeGraph,
    *,
    max_hops: int = 3,
    max_frontier: int = 20,
    max_queries: int = 2000,
) -> tuple[tuple[str, ...], list[Path]]:
    """Topics and one path for each of them that lead to exactly the gold answers; both empty if none is found.

    The best of :func:`find_solutions`: that which shares most words with the question, then that with fewest hops from
    tail to head, then the first in sorted order.
    """
    found = find_solutions(question, graph, max_hops=max_hops, max_frontier=max_frontier, max_queries=max_queries)
    if not found:
        return (), []
    words = word_stems(question.text)
    best = max(found, key=lambda item: (_overlap(item.paths, words), *_tie(item)))
    return best.topics, list(best.paths)


def find_solutions(
    question: Question,
    graph: KnowledgeGraph,
    *,
    least: float = 1.0,
    max_hops: int = 3,
    max_frontier: int = 20,
    max_queries: int = 2000,
) -> dict[Solution, dict[str, str]]:
    """All the shortest ways to exactly the gold answers, and the entities (display name -> id) where they end.

    First the shortest paths from single topics, in both directions; then, for two topics, intersections of one hop
    from each. Where no way is exact, those with the best F1 against the gold answers, from ``least`` on, again the
    shortest. Paths that pass through more than ``max_frontier`` entities are not followed, and the search stops after
    ``max_queries`` queries.
    """
    search = _Search(graph, question, max_queries)
    levels: dict[str, list[_Walked]] = {topic: [((), {topic: topic})] for topic in dict.fromkeys(question.topics)}
    best: dict[Solution, dict[str, str]] = {}
    reached = 0.0
    for depth in range(max_hops):
        shorter = reached
        for topic, level in levels.items():
            walked = search.extend(level)
            for path, end in walked:
                rest = {name: key for name, key in end.items() if name != topic}
                f1, found = max(((gold_f1(names, question.answers), names) for names in (end, rest)), key=itemgetter(0))
                if f1 < least or f1 <= shorter or f1 < reached:
                    continue
                if f1 > reached:
                    best, reached = {}, f1
                best[Solution((topic,), (path,))] = found
            levels[topic] = walked
        if reached == 1.0:
            return best
        if depth == 0 and len(levels) > 1 and (pairs := _intersections(question, levels)):
            return pairs
        levels = {
            topic: [(path, end) for path, end in level if len(end) <= max_frontier and topic not in end]
            for topic, level in levels.items()
        }
    return best


def shortest_paths(
    question: Question,
    graph: KnowledgeGraph,
    *,
    max_hops: int = 3,
    backward: bool = False,
    max_frontier: int = 50,
    max_queries: int = 2000,
    most: int = 5,
) -> list[Path]:
    """The ``most`` best of the shortest relation paths from a topic to a gold answer; empty if none is found.

    All of one length, without the topic itself as an answer. Best are those that reach most gold answers, then those
    that reach fewest other entities, then those that share most words with the question, then the first in sorted
    order. ``backward`` also walks from tail to head. The bounds are those of :func:`find_path`.
    """
    search = _Search(graph, question, max_queries, backward=backward)
    words = word_stems(question.text)
    gold = _Gold(question.answers)
    levels: dict[str, list[_Walked]] = {topic: [((), {topic: topic})] for topic in dict.fromkeys(question.topics)}
    for _ in range(max_hops):
        reached: dict[Path, tuple[int, int]] = {}
        for topic, level in levels.items():
            walked = search.extend(level)
            for path, end in walked:
                hits = len(set(gold.numbers({name: key for name, key in end.items() if topic not in (name, key)})))
                if hits:
                    reached[path] = max(reached.get(path, (0, 0)), (hits, -len(end)))
            levels[topic] = [(path, end) for path, end in walked if len(end) <= max_frontier and topic not in end]
        if reached:
            order = sorted(reached, key=lambda path: (*(-x for x in reached[path]), -_overlap([path], words), path))
            return order[:most]
    return []


_Walked = tuple[Path, dict[str, str]]


def _tie(solution: Solution) -> tuple[int, list[int]]:
    backward = sum(hop.backward for path in solution.paths for hop in path)
    return -backward, [-ord(char) for char in str((solution.topics, list(solution.paths)))]


def _overlap(paths: Sequence[Path], words: set[str]) -> float:
    """Share of the relations' words that are among ``words``."""
    own = {word for path in paths for hop in path for word in word_stems(hop.relation)}
    return len(own & words) / max(1, len(own))


def _intersections(question: Question, levels: Mapping[str, Sequence[_Walked]]) -> dict[Solution, dict[str, str]]:
    """Pairs of one-hop paths from the first two topics whose common entities are the gold answers."""
    one, other = list(levels)[:2]
    # Only an end that holds every gold answer can take part.
    near = {
        topic: [item for item in levels[topic] if _hits(item[1], question.answers)[1] == len(question.answers)]
        for topic in (one, other)
    }
    pairs = {
        Solution((one, other), (path, path_2)): {name: key for name, key in end.items() if name in end_2}
        for path, end in near[one]
        for path_2, end_2 in near[other]
    }
    return {pair: common for pair, common in pairs.items() if matches_gold(common, question.answers)}


class _Search:
    """Counts queries, and remembers what was asked."""

    def __init__(self, graph: KnowledgeGraph, question: Question, budget: int, *, backward: bool = True) -> None:
        self._graph = graph
        self._directions = (False, True) if backward else (False,)
        self._graph_id = question.graph_id
        self._budget = budget
        self._memory: dict[Query, Observation] = {}
        self._listed: dict[tuple[str, bool], frozenset[str]] = {}

    def extend(self, level: Sequence[_Walked]) -> list[_Walked]:
        """Every path of a level with one more hop; cut short when the query budget is spent."""
        walked: list[_Walked] = []
        for path, frontier in level:
            for hop in self.hops(frontier):
                end = self.take(frontier, hop)
                if end is None:
                    return walked
                walked.append(((*path, hop), end))
        return walked

    def hops(self, frontier: Mapping[str, str]) -> list[Hop]:
        """The relations of any entity of the frontier, outgoing first."""
        result: list[Hop] = []
        for backward in self._directions:
            observations = self._ask([Hop("", backward).relations(entity) for entity in frontier]) or []
            names = {name for observation in observations for name in observation.names}
            for entity, observation in zip(frontier, observations, strict=False):
                self._listed[entity, backward] = frozenset(observation.names)
            result += [Hop(name, backward) for name in sorted(names)]
        return result

    def take(self, frontier: Mapping[str, str], hop: Hop) -> dict[str, str] | None:
        """Display name -> id of where the hop leads; None when the query budget is spent."""
        # Who was listed without the relation has no results, and looking for close names would take its time.
        having = [name for name in frontier if hop.relation in self._listed.get((name, hop.backward), (hop.relation,))]
        observations = self._ask([hop.entities(entity) for entity in having])
        if observations is None:
            return None
        return {name: key for item in observations for name, key in zip(item.names, item.ids, strict=True)}

    def _ask(self, queries: Sequence[Query]) -> list[Observation] | None:
        if self._graph_id is not None:
            queries = [query.model_copy(update={"graph_id": self._graph_id}) for query in queries]
        new = [query for query in dict.fromkeys(queries) if query not in self._memory]
        self._budget -= len(new)
        if self._budget < 0:
            return None
        self._memory.update(zip(new, self._graph.execute(new), strict=True))
        return [self._memory[query] for query in queries]
