"""Question graphs cut out of a large graph: what lies within some hops of the topics of each question.

Expansion starts at the topics alone, in both directions of the arrows, as an agent could walk. Published question
graphs often also expand from the gold answers, so that the answer is always inside and the region around it gives it
away. ``include_answers`` does that for comparison with such work; scores on graphs made with it are not honest.

Departure from a plain breadth-first search: an entity with more than ``hub_limit`` facts is reached but not expanded
(unless it is a topic), because the facts of a country or a gender say nothing about one question and fill its graph.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import polars as pl
from pydantic import Field

from kgr1.errors import GraphServerError
from kgr1.graph.api import KnowledgeGraph
from kgr1.graph.around import RELATIONS, execute_whole, facts_around, refused
from kgr1.graph.batches import Batch
from kgr1.graph.store import GraphStore
from kgr1.graph.temporal import UNDATED, Span, parse_span
from kgr1.graph.vocabulary import Vocabulary
from kgr1.types import Observation, Operation, Query, Question, Record

NO_TOPIC = "questions with no topic in the graph"
CUT = "questions whose graph was cut at the limit of triples"
HUBS = "entities with too many facts, reached but not expanded"
REFUSED = "entities whose facts the graph did not give, reached but not expanded"
SHORT = "questions whose graph lacks results that the graph counts but did not give"

_BATCH_FACTS = 200_000

Fact = tuple[str, str, str]


class ExtractOptions(Record):
    """How far a question graph reaches."""

    hops: int = Field(default=2, ge=1)
    max_triples: int = Field(default=10_000, ge=1)  # of one question; nearest first, then by name
    hub_limit: int = Field(default=1_000, ge=1)  # facts of an entity that is still expanded
    include_answers: bool = False  # also start from the gold answers; this leaks them


def extract_question_graphs(
    graph: KnowledgeGraph, questions: Iterable[Question], options: ExtractOptions | None = None, *, plain: bool = False
) -> Iterator[Batch]:
    """Batches of facts around the topics of each question; the question graph is called by the question's id.

    With ``plain`` the facts of all questions make one graph without question graphs. ``rows`` of a batch counts the
    questions so far, ``dropped`` questions and entities by what was cut. Questions that have a ``graph_id`` are looked
    up in that question graph. A graph behind a network should name each topic by what only one entity is called; only
    a store tells the aliases of what was met. Raises :class:`GraphServerError` if the graph cannot answer, or not what
    is asked about a topic.
    """
    options = options or ExtractOptions()
    names = _Names(graph)
    pending: list[tuple[str, str, str, int, int, str]] = []
    dropped: Counter[str] = Counter()
    rows = 0
    for question in questions:
        rows += 1
        ball = _Ball(graph, names, question.graph_id, options)
        starts = [*question.topics]
        if options.include_answers:
            starts += [answer.id or answer.label for answer in question.answers]
        ball.grow(starts)
        dropped.update(ball.dropped)
        pending += [(*names.ids(fact), *span, question.id) for fact, spans in ball.facts.items() for span in spans]
        if len(pending) >= _BATCH_FACTS:
            yield _batch(pending, names, rows, dropped, plain)
            pending, dropped = [], Counter()
    yield _batch(pending, names, rows, dropped, plain)


def _batch(
    pending: list[tuple[str, str, str, int, int, str]], names: _Names, rows: int, dropped: Counter[str], plain: bool
) -> Batch:
    schema = {
        "head": pl.String, "relation": pl.String, "tail": pl.String, "start": pl.Int32, "end": pl.Int32,
        "graph": pl.String,
    }  # fmt: skip
    facts = pl.DataFrame(pending, schema=schema, orient="row")
    if facts.height and not (facts["start"] <= facts["end"]).any():
        facts = facts.drop("start", "end")
    if plain:
        facts = facts.drop("graph").unique(maintain_order=True)
    return Batch(facts=facts if facts.height else None, labels=names.new_labels(), rows=rows, dropped=dict(dropped))


class _Names:
    """Identifiers and labels of the display names that were met."""

    def __init__(self, graph: KnowledgeGraph) -> None:
        self._graph = graph
        self._entities: dict[str, str] = {}
        self._relations: dict[str, str] = {}
        self._told: set[str] = set()
        self._labels: list[tuple[str, str, bool]] = []

    def meant(self, text: str) -> tuple[str, ...]:
        """Display names of all entities that a text names; another graph than a store takes it as it is."""
        if not isinstance(self._graph, GraphStore):
            return (text,)
        return self._graph.entities.names(self._graph.entities.find(text))

    def learn(self, found: Observation) -> None:
        """Take the identifiers of a result."""
        known = self._entities if found.query.operation.returns_entities else self._relations
        for name, identifier in zip(found.names, found.ids, strict=True):
            known.setdefault(name, identifier)

    def ids(self, fact: Fact) -> Fact:
        """Identifiers of a fact given by display names."""
        head, relation, tail = fact
        return self._entity(head, relation, tail), self._relation(relation), self._entity(tail, relation, head)

    def _entity(self, name: str, relation: str, neighbour: str) -> str:
        identifier = self._entities.get(name)
        if identifier is None:
            identifier = self._own(name, "entities") or self._asked(name, relation, neighbour) or name
            self._entities[name] = identifier
        return self._noted(name, identifier, "entities")

    def _relation(self, name: str) -> str:
        identifier = self._own(name, "relations") or self._relations.get(name, name)
        self._relations[name] = identifier
        return self._noted(name, identifier, "relations")

    def _own(self, name: str, kind: str) -> str | None:
        """The identifier that a store in this process knows."""
        found = self._known(name, kind)
        return found[0].id(found[1]) if found else None

    def _known(self, name: str, kind: str) -> tuple[Vocabulary, int] | None:
        """The number of a display name in a store in this process."""
        if not isinstance(self._graph, GraphStore):
            return None
        vocabulary = self._graph.entities if kind == "entities" else self._graph.relations
        found = vocabulary.find(name)
        return (vocabulary, found[0]) if len(found) == 1 else None

    def _asked(self, name: str, relation: str, neighbour: str) -> str | None:
        """The identifier as the results of a neighbour tell it."""
        operations = (Operation.GET_HEAD_ENTITIES, Operation.GET_TAIL_ENTITIES)
        queries = [Query(operation=operation, entity=neighbour, relation=relation) for operation in operations]
        for found in self._graph.execute(queries):
            if name in found.names:
                return found.ids[found.names.index(name)]
        return None

    def _noted(self, name: str, identifier: str, kind: str) -> str:
        if identifier not in self._told:
            self._told.add(identifier)
            known = self._known(name, kind)
            label = known[0].label(known[1]) if known else name.removesuffix(f" [{identifier}]")
            if label != identifier:
                self._labels.append((identifier, label, False))
            if known:
                self._labels += [(identifier, alias, True) for alias in known[0].aliases(known[1])]
        return identifier

    def new_labels(self) -> pl.DataFrame | None:
        """Labels and aliases that no batch has carried yet."""
        labels, self._labels = self._labels, []
        if not labels:
            return None
        return pl.DataFrame(labels, schema={"id": pl.String, "label": pl.String, "alias": pl.Boolean}, orient="row")


@dataclass
class _Ball:
    """The facts around the starts, by display names, each with its spans."""

    graph: KnowledgeGraph
    names: _Names
    graph_id: str | None
    options: ExtractOptions
    facts: dict[Fact, tuple[Span, ...]] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)

    def grow(self, starts: Sequence[str]) -> None:
        """Expand from the starts, hop by hop."""
        frontier = self._resolved(starts)
        if not frontier:
            self.dropped[NO_TOPIC] += 1
            return
        seen = set(frontier)
        for hop in range(self.options.hops):
            reached: dict[str, None] = {}
            # More than this of one relation is a hub, or more than fits: nobody reads on.
            page = self.options.hub_limit if hop else self.options.max_triples + 1
            for results in facts_around(self.graph, frontier, graph_id=self.graph_id, limit=page):
                if not hop:
                    _require_answers(results)
                elif any(map(refused, results)):  # a hub, most likely, that is too much for the graph
                    self.dropped[REFUSED] += 1
                    continue
                if hop and sum(found.total for found in results) > self.options.hub_limit:
                    self.dropped[HUBS] += 1
                    continue
                if not all(self._take(found, reached) for found in results):
                    self.dropped[CUT] += 1
                    return
            frontier = sorted(name for name in reached if name not in seen)
            seen.update(frontier)

    def _resolved(self, starts: Sequence[str]) -> list[str]:
        """Display names of the starts that the graph holds."""
        names = dict.fromkeys(name for start in starts for name in self.names.meant(start))
        queries = [Query(operation=each, entity=name, graph_id=self.graph_id) for name in names for each in RELATIONS]
        answers = execute_whole(self.graph, queries)
        _require_answers(answers)
        return list(dict.fromkeys(found.query.entity for found in answers if found.ok))

    def _take(self, found: Observation, reached: dict[str, None]) -> bool:
        """Add the facts of a result; False if there is no room for all of them."""
        self.names.learn(found)
        for number, triple in enumerate(found.triples()):
            fact = triple.head, triple.relation, triple.tail
            if fact not in self.facts:
                if len(self.facts) >= self.options.max_triples:
                    return False
                self.facts[fact] = _spans(found, number)
            reached[found.names[number]] = None
        if len(found.names) < found.total:  # and not for want of room
            self.dropped[SHORT] = 1
        return True


def _require_answers(results: Iterable[Observation]) -> None:
    for found in filter(refused, results):
        asked = found.query.to_text()[:300]
        raise GraphServerError(f"No question graph can be made without an answer to {asked}: {found.message}")


def _spans(found: Observation, number: int) -> tuple[Span, ...]:
    texts = found.times[number] if found.times else ()
    return tuple(span for text in texts if (span := parse_span(text))) or (UNDATED,)
