"""The four retrieval operations (SPEC section 2) over the arrays of a store.

The meaning of every operation depends on triples only. A name that stands for several entities is answered with the
union of their results; the observation's query then keeps the name as it was asked. With one entity it carries the
display name, so that evidence triples are made of names that exist.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from kgr1.graph.adjacency import Adjacency
from kgr1.graph.names import Closeness
from kgr1.graph.vocabulary import Vocabulary
from kgr1.types import ErrorCode, Observation, Operation, Query

_QUOTED = 100  # characters of a query that an error repeats
_SUGGESTED = 3  # closest names in an error
_LISTED = 2000  # relations of one entity that are searched for the closest

_TAIL_RELATIONS = Operation.GET_TAIL_RELATIONS
_HEAD_RELATIONS = Operation.GET_HEAD_RELATIONS
_TAIL_ENTITIES = Operation.GET_TAIL_ENTITIES
_HEAD_ENTITIES = Operation.GET_HEAD_ENTITIES


class Retrieval:
    """Answers queries on one graph. Never raises for what a query holds."""

    def __init__(
        self,
        entities: Vocabulary,
        relations: Vocabulary,
        outgoing: Adjacency,
        incoming: Adjacency,
        max_results: int | None = None,
    ) -> None:
        self._entities = entities
        self._relations = relations
        self._outgoing = outgoing
        self._incoming = incoming
        self._max_results = max_results

    def answer(self, query: Query) -> Observation:
        """Answer one query with a sorted result or an error."""
        operation = query.operation
        if operation is _TAIL_ENTITIES or operation is _HEAD_ENTITIES:
            takes_relation = True
        elif operation is _TAIL_RELATIONS or operation is _HEAD_RELATIONS:
            takes_relation = False
        else:
            return _unknown_operation(query)
        if (query.relation is not None) is not takes_relation or not query.entity.strip():
            return _wrong_arguments(query)
        if query.graph_id is not None:
            return _no_question_graph(query)
        matches = self._entities.find(query.entity)
        if not matches:
            return self._no_entity(query)
        outgoing = operation is _TAIL_ENTITIES or operation is _TAIL_RELATIONS
        edges = self._outgoing if outgoing else self._incoming
        if not takes_relation:
            found = edges.relations(matches[0]) if len(matches) == 1 else _union(map(edges.relations, matches))
            if not found:
                return self._no_relations(query, matches)
            return self._relation_result(query, matches, found)
        assert query.relation is not None
        relations = self._relations.find(query.relation)
        if not relations:
            return self._no_relation(query, matches, edges)
        if len(matches) == 1 and len(relations) == 1:
            found = edges.neighbours(matches[0], relations[0])
        else:
            found = _union(edges.neighbours(e, r) for e in matches for r in relations)
        if not found:
            return self._no_results(query, matches, relations, edges)
        return self._entity_result(query, matches, relations, found)

    def _entity_result(
        self, query: Query, matches: Sequence[int], relations: Sequence[int], found: list[int]
    ) -> Observation:
        total = len(found)
        names = self._entities.names(found[: self._max_results])
        ids = self._entities.ids(found[: self._max_results]) if self._entities.labelled else names
        return Observation(query=self._resolved(query, matches, relations), names=names, ids=ids, total=total)

    def _relation_result(self, query: Query, matches: Sequence[int], found: list[int]) -> Observation:
        names = self._relations.names(found[: self._max_results])
        return Observation(query=self._resolved(query, matches, ()), names=names, ids=names, total=len(found))

    def _resolved(self, query: Query, matches: Sequence[int], relations: Sequence[int]) -> Query:
        entity, relation = query.entity, query.relation
        if len(matches) == 1:
            entity = self._entities.name(matches[0])
        if len(relations) == 1:
            relation = self._relations.name(relations[0])
        if entity == query.entity and relation == query.relation:
            return query
        return query.model_copy(update={"entity": entity, "relation": relation})

    # The errors. Each says in one sentence how to go on.

    def _no_entity(self, query: Query) -> Observation:
        closest = _short(self._entities.closest(query.entity, _SUGGESTED))
        hint = _closest(closest) if closest else "use a name from the question or an earlier result"
        return _error(query, ErrorCode.ENTITY_NOT_FOUND, f"No entity is named {_quoted(query.entity)}; {hint}.")

    def _no_relation(self, query: Query, matches: Sequence[int], edges: Adjacency) -> Observation:
        assert query.relation is not None
        closest = self._closest_relations(query.relation, matches, edges)
        if len(closest) < _SUGGESTED:
            everywhere = _short(self._relations.closest(query.relation, _SUGGESTED))
            closest += [name for name in everywhere if name not in closest][: _SUGGESTED - len(closest)]
        hint = _closest(closest) if closest else f"{_ask_relations(query)} lists the relations"
        return _error(query, ErrorCode.RELATION_NOT_FOUND, f"No relation is named {_quoted(query.relation)}; {hint}.")

    def _no_relations(self, query: Query, matches: Sequence[int]) -> Observation:
        outgoing = query.operation.outgoing
        role, other = ("subject", _HEAD_RELATIONS) if outgoing else ("object", _TAIL_RELATIONS)
        retry = Query(operation=other, entity=self._resolved(query, matches, ()).entity)
        message = f"{_quoted(retry.entity)} is never the {role} of a triple; try {_call(retry)}."
        return _error(query, ErrorCode.NO_RESULTS, message)

    def _no_results(
        self, query: Query, matches: Sequence[int], relations: Sequence[int], edges: Adjacency
    ) -> Observation:
        assert query.relation is not None
        outgoing = edges is self._outgoing
        resolved = self._resolved(query, matches, relations)
        role = "subject" if outgoing else "object"
        start = f"{_quoted(resolved.entity)} is not the {role} of {_quoted(resolved.relation or '')}"
        opposite = self._incoming if outgoing else self._outgoing
        if any(opposite.neighbours(e, r) for e in matches for r in relations):
            retry = Query(
                operation=_HEAD_ENTITIES if outgoing else _TAIL_ENTITIES,
                entity=resolved.entity,
                relation=resolved.relation,
            )
            return _error(query, ErrorCode.NO_RESULTS, f"{start}; try {_call(retry)}.")
        closest = self._closest_relations(query.relation, matches, edges)
        there = self._relations.names(_union(map(edges.relations, matches))[: 2 * _SUGGESTED])
        closest = [*closest, *(name for name in _short(there) if name not in closest)][:_SUGGESTED]
        if closest:
            hint = f"it has {_listed(closest)} there"
        else:
            other = Query(operation=_HEAD_RELATIONS if outgoing else _TAIL_RELATIONS, entity=resolved.entity)
            hint = f"try {_call(other)}"
        return _error(query, ErrorCode.NO_RESULTS, f"{start}; {hint}.")

    def _closest_relations(self, relation: str, matches: Sequence[int], edges: Adjacency) -> list[str]:
        there = _union(map(edges.relations, matches))[:_LISTED]
        return _short(Closeness(relation).best(self._relations.names(there), _SUGGESTED))


def _union(results: Iterable[list[int]]) -> list[int]:
    return sorted(set().union(*results))


def _error(query: Query, code: ErrorCode, message: str) -> Observation:
    return Observation(query=query, error=code, message=message)


def _unknown_operation(query: Query) -> Observation:
    known = ", ".join(Operation)
    asked = _quoted(str(query.operation))
    return _error(query, ErrorCode.SERVER_ERROR, f"There is no operation {asked}; use one of {known}.")


def _wrong_arguments(query: Query) -> Observation:
    operation = query.operation
    if not query.entity.strip():
        message = f"{operation} needs the name of an entity as its first argument."
    elif operation.takes_relation:
        message = f"{operation} takes an entity and a relation; {_ask_relations(query)} lists the relations."
    else:
        message = f"{operation} takes an entity alone; leave out {_quoted(query.relation or '')}."
    return _error(query, ErrorCode.FORMAT_ERROR, message)


def _no_question_graph(query: Query) -> Observation:
    message = f"There is no question graph {_quoted(query.graph_id or '')}; ask the whole graph, without a graph id."
    return _error(query, ErrorCode.SAMPLE_NOT_FOUND, message)


def _ask_relations(query: Query) -> str:
    operation = _TAIL_RELATIONS if query.operation.outgoing else _HEAD_RELATIONS
    return _call(Query(operation=operation, entity=query.entity))


def _call(query: Query) -> str:
    text = query.to_text()
    return text if len(text) <= 3 * _QUOTED else f"{query.operation.value} with the same name"


def _quoted(text: str) -> str:
    return json.dumps(text if len(text) <= _QUOTED else f"{text[:_QUOTED]}...", ensure_ascii=False)


def _closest(names: Sequence[str]) -> str:
    """The end of a not-found sentence; names too long to be copied are of no help there."""
    verb = "closest is" if len(names) == 1 else "closest are"
    return f"the {verb} {_listed(names)}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(json.dumps(name, ensure_ascii=False) for name in names)


def _short(names: Iterable[str]) -> list[str]:
    return [name for name in names if len(name) <= 3 * _QUOTED]
