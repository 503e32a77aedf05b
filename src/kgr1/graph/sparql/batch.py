"""A batch of queries on one graph, answered in a few steps for all of them.

The rules are those of :mod:`kgr1.graph.operations`; what differs is that everything a step needs is known for the whole
batch before the endpoint is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from kgr1.graph import refusals
from kgr1.graph.refusals import SUGGESTED, refusal
from kgr1.graph.sparql.endpoint import Refused, Row
from kgr1.graph.sparql.fetch import Found
from kgr1.graph.sparql.names import Named
from kgr1.graph.sparql.scope import Scope
from kgr1.graph.sparql.terms import Term
from kgr1.types import ErrorCode, Observation, Operation, Query

Pair = tuple[Term, Term]
_MOST_PAIRS = 2_000  # (entity, relation) pairs that one query of an ambiguous name may stand for


@dataclass
class Slot:
    """What is known about one query."""

    query: Query
    entities: tuple[Term, ...] = ()
    relations: tuple[Term, ...] = ()
    found: list[Term] = field(default_factory=list)
    total: int = 0
    sorted_by_endpoint: bool = False  # found is the wanted page of a result too large to fetch
    failure: str = ""
    observation: Observation | None = None

    @property
    def outgoing(self) -> bool:
        """Whether the entity is the subject."""
        return self.query.operation.outgoing

    @property
    def pairs(self) -> list[Pair]:
        """What an entity operation asks for."""
        return [(entity, relation) for entity in self.entities for relation in self.relations]


class Batch:
    """Queries on one graph and, step by step, their observations."""

    def __init__(self, queries: Sequence[Query], max_results: int | None) -> None:
        self._slots = [Slot(query, observation=_refusal(query)) for query in queries]
        self._max_results = max_results

    @property
    def needs_graph(self) -> bool:
        """Whether any query is left to be answered."""
        return any(slot.observation is None for slot in self._slots)

    @property
    def all_failed(self) -> bool:
        """Whether there are queries, and the endpoint has answered none of them."""
        return bool(self._slots) and all(slot.failure for slot in self._slots)

    def refuse_all(self, refusal: Callable[[Query], Observation]) -> None:
        """Answer all queries that are left in the same way."""
        for slot in self._slots:
            if slot.observation is None:
                slot.observation = refusal(slot.query)

    def observations(self) -> list[Observation]:
        """All observations, in the order of the queries."""
        return [slot.observation for slot in self._slots if slot.observation is not None]

    def answer(self, scope: Scope) -> None:
        """Answer the queries that are left. Raises :class:`Refused` if names cannot be looked up."""
        slots = [slot for slot in self._slots if slot.observation is None]
        found = scope.entities.find(slot.query.entity for slot in slots)
        relations = scope.relations.find(slot.query.relation for slot in slots if slot.query.relation is not None)
        for slot in slots:
            slot.entities, slot.failure = found[slot.query.entity]
            if slot.query.relation is not None:
                slot.relations, failure = relations[slot.query.relation]
                slot.failure = slot.failure or failure
        resolved = [slot for slot in slots if slot.entities and not slot.failure]
        for outgoing in (True, False):
            _fetch_relations(scope, [s for s in resolved if s.outgoing is outgoing and _asks_relations(s)], outgoing)
            asking = [s for s in resolved if s.outgoing is outgoing and s.relations]
            _fetch_entities(scope, asking, outgoing, self._max_results)
        names = _Names(scope, slots)
        for slot in slots:
            if slot.found and not slot.failure:
                slot.observation = self._result(slot, names)
        _Errors(scope, names, [slot for slot in slots if slot.observation is None]).answer()

    def _result(self, slot: Slot, names: _Names) -> Observation:
        query = slot.query
        named = [names.of(term, query.operation.returns_entities) for term in slot.found]
        named.sort()
        start = 0 if slot.sorted_by_endpoint else query.offset
        if start >= len(named):
            return refusals.past_the_end(query, slot.total)
        end = start + min(query.limit or len(named), self._max_results or len(named))
        shown = tuple([one.name for one in named[start:end]])
        ids = tuple([one.id for one in named[start:end]]) if query.operation.returns_entities else shown
        return Observation(query=names.resolved(slot), names=shown, ids=ids, total=slot.total)


class _Names:
    """Display names of everything that the observations of a batch mention."""

    def __init__(self, scope: Scope, slots: Iterable[Slot]) -> None:
        entities: dict[Term, None] = {}
        relations: dict[Term, None] = {}
        for slot in slots:
            (entities if slot.query.operation.returns_entities else relations).update(dict.fromkeys(slot.found))
            entities |= dict.fromkeys(slot.entities if len(slot.entities) == 1 else ())
            relations |= dict.fromkeys(slot.relations if len(slot.relations) == 1 else ())
        self._scope = scope
        self._entities = scope.entities.named(entities)
        self._relations = scope.relations.named(relations)

    def of(self, term: Term, is_entity: bool) -> Named:
        """The names of a term; one that the graph got after its names were fetched is shown by its identifier."""
        found = (self._entities if is_entity else self._relations).get(term)
        return found or Named(term.identifier, term.identifier)

    def add_relations(self, terms: Iterable[Term]) -> None:
        """Learn the names of further relations."""
        self._relations |= self._scope.relations.named(term for term in terms if term not in self._relations)

    def resolved(self, slot: Slot) -> Query:
        """The query with the names that it resolved to."""
        entity, relation = slot.query.entity, slot.query.relation
        if len(slot.entities) == 1:
            entity = self.of(slot.entities[0], True).name
        if len(slot.relations) == 1:
            relation = self.of(slot.relations[0], False).name
        return slot.query.model_copy(update={"entity": entity, "relation": relation})


class _Errors:
    """Answers the queries of a batch that have no result, with sentences that say how to go on."""

    def __init__(self, scope: Scope, names: _Names, slots: list[Slot]) -> None:
        self._scope = scope
        self._names = names
        self._slots = slots

    def answer(self) -> None:
        """Give every slot its observation."""
        known = [slot for slot in self._slots if slot.entities and _takes_relation(slot) and not slot.failure]
        there: dict[tuple[bool, Term], Found] = {}
        opposite: set[tuple[bool, Pair]] = set()
        for outgoing in (True, False):
            some = [slot for slot in known if slot.outgoing is outgoing]
            terms = dict.fromkeys(term for slot in some for term in slot.entities)
            there |= {(outgoing, term): found for term, found in _relations_of(self._scope, terms, outgoing).items()}
            pairs = dict.fromkeys(pair for slot in some for pair in slot.pairs)
            opposite |= {(outgoing, pair) for pair in _linked(self._scope, pairs, not outgoing)}
        self._names.add_relations(term for found in there.values() for term in found.terms or ())
        for slot in self._slots:
            if slot.failure:
                slot.observation = too_much(slot.query, slot.failure)
            elif not slot.entities:
                closest = self._scope.entities.closest(slot.query.entity, SUGGESTED)
                slot.observation = refusals.no_entity(slot.query, closest)
            elif not _takes_relation(slot):
                slot.observation = refusals.no_relations(slot.query, self._names.resolved(slot))
            else:
                terms_there = {t for term in slot.entities for t in there[slot.outgoing, term].terms or ()}
                names = sorted(self._names.of(term, False).name for term in terms_there)
                if not slot.relations:
                    slot.observation = refusals.no_relation(slot.query, names, self._scope.relations.closest)
                else:
                    linked = any((slot.outgoing, pair) in opposite for pair in slot.pairs)
                    slot.observation = self._no_results(slot, names, linked)

    def _no_results(self, slot: Slot, there: Sequence[str], linked: bool) -> Observation:
        resolved = self._names.resolved(slot)
        if linked:
            return refusals.other_direction(slot.query, resolved)
        # The relation may be there, and lead to what cannot be named.
        others = [name for name in there if name != resolved.relation]
        return refusals.no_results(slot.query, resolved, others)


def _fetch_relations(scope: Scope, slots: Sequence[Slot], outgoing: bool) -> None:
    found = _relations_of(scope, dict.fromkeys(term for slot in slots for term in slot.entities), outgoing)
    for slot in slots:
        groups = [found[term] for term in slot.entities]
        slot.failure = next((group.failure for group in groups if group.failure), "")
        slot.found = list(dict.fromkeys(term for group in groups for term in group.terms or ()))
        slot.total = len(slot.found)


def _relations_of(scope: Scope, terms: Iterable[Term], outgoing: bool) -> dict[Term, Found]:
    terms = list(terms)
    asked = [term for term in terms if not (outgoing and term.is_literal)]  # a literal is no subject
    found = scope.fetcher.by_key(asked, lambda keys: scope.queries.relations(keys, outgoing))
    return {term: found.get(term, Found([])) for term in terms}


def _fetch_entities(scope: Scope, slots: Sequence[Slot], outgoing: bool, most: int | None) -> None:
    pairs = dict.fromkeys(pair for slot in slots for pair in slot.pairs if not (outgoing and pair[0].is_literal))
    found = scope.fetcher.by_key(
        list(pairs), lambda keys: scope.queries.neighbours([(n, *pair) for n, pair in keys], outgoing)
    )
    for slot in slots:
        groups = [found[pair] for pair in slot.pairs if pair in found]
        slot.failure = next((group.failure for group in groups if group.failure), "")
        if slot.failure:
            continue
        if any(group.terms is None for group in groups):
            _fetch_page(scope, slot, groups, most)
            continue
        slot.found = list(dict.fromkeys(term for group in groups for term in group.terms or ()))
        slot.total = len(slot.found)


def _fetch_page(scope: Scope, slot: Slot, groups: Sequence[Found], most: int | None) -> None:
    """The wanted page of a result that is too large to be fetched and sorted here."""
    fetcher = scope.fetcher
    pattern = scope.queries.union(slot.pairs[:_MOST_PAIRS], slot.outgoing)
    rows: list[Row] = []
    try:
        slot.total = groups[0].total if len(groups) == 1 else fetcher.count(pattern)
        wanted = min(n for n in (slot.query.limit, most, slot.total - slot.query.offset) if n is not None)
        while len(rows) < wanted:
            limit = min(wanted - len(rows), fetcher.page_rows)
            query = scope.queries.page_by_name(pattern, slot.query.offset + len(rows), limit)
            page = fetcher.endpoint.select(query, ("x",))
            if not page:
                break
            rows += page
    except Refused as error:
        if not rows:
            slot.failure = str(error)
            return
        # Some endpoints sort only so many rows. What there is begins the result, and the total tells how much it has.
    slot.found = [row[0] for row in rows if row[0] is not None]
    slot.sorted_by_endpoint = True
    if not slot.found:
        slot.observation = refusals.past_the_end(slot.query, slot.total)


def _linked(scope: Scope, pairs: Iterable[Pair], outgoing: bool) -> list[Pair]:
    """The pairs with something at the other end."""
    asked = [pair for pair in pairs if not (outgoing and pair[0].is_literal)]
    found = scope.fetcher.by_key(asked, lambda keys: scope.queries.any_edge([(n, *pair) for n, pair in keys], outgoing))
    return [pair for pair in asked if found[pair].total]


def _refusal(query: Query) -> Observation | None:
    """The error of a query that is wrong whatever the graph holds."""
    operation = query.operation
    if operation not in tuple(Operation):
        return refusals.unknown_operation(query)
    if (query.relation is not None) is not operation.takes_relation or not query.entity.strip():
        return refusals.wrong_arguments(query)
    if query.time is not None:
        return refusals.no_dates(query)
    return None


def _takes_relation(slot: Slot) -> bool:
    return slot.query.operation.takes_relation


def _asks_relations(slot: Slot) -> bool:
    return not slot.query.operation.takes_relation


def too_much(query: Query, reason: str) -> Observation:
    """The error for a query that the endpoint did not answer."""
    message = f"The graph could not answer this query ({reason.rstrip('.')}); ask for something smaller."
    return refusal(query, ErrorCode.SERVER_ERROR, message)
